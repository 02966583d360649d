"""Scorers: one file each. Each declares ``PLUGIN``, a function of a sample and a response to a ``Score``."""
