"""Bridges: one file each. Each declares ``PLUGIN``, a function from the rest of a task's name to a ``Task``."""
