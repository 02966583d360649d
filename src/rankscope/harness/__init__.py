"""rankscope and lm-evaluation-harness: its tasks scored here (``tasks``), and this engine as its model (``model``).

Needs the package lm_eval, which nothing else imports.
"""
