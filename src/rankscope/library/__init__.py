"""The shelf: one file a plug-in, the file's name is its name. The engine finds them through ``rankscope.plugins``."""
