"""What changed inside the network: the contract of diagnostics (``diagnostic``), what they are given (``subject``)."""
