"""Diagnostics: one file each, file name = registered name."""
