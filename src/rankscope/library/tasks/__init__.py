"""Tasks: one file each, each opens with its evidence. Each declares ``PLUGIN``, a ``Task``."""
