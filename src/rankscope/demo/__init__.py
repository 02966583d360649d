"""The bundled micro world: its generator, its rows and its pretrained base model. Loads nothing by itself."""
