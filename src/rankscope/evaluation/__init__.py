"""Evaluation: log-likelihoods and generation (``engine``), tasks turned into scores (``suite``)."""
