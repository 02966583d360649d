"""Rows, prompts and batches. Loads nothing by itself."""
