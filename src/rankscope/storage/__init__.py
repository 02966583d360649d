"""The store: one SQLite database and content-addressed safetensors files beside it."""
