"""Slow, plain twins of the fast paths: nothing shared with the code they check but the model."""
