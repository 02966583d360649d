"""The page, live: a read-only server on this machine over a store. Loads no torch."""
