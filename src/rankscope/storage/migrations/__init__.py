"""The schema's history, oldest first. Append only: a released step never changes; a new need is a new step."""

from __future__ import annotations

STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE studies (key TEXT PRIMARY KEY, name TEXT NOT NULL, config TEXT NOT NULL,"
        " environment TEXT NOT NULL, created TEXT NOT NULL)",
        "CREATE TABLE runs (key TEXT PRIMARY KEY, spec TEXT NOT NULL, status TEXT NOT NULL, result TEXT NOT NULL,"
        " created TEXT NOT NULL)",
        "CREATE TABLE curves (run_key TEXT NOT NULL, step INTEGER NOT NULL, loss REAL NOT NULL, lr REAL NOT NULL,"
        " tokens INTEGER NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (run_key, step))",
        "CREATE TABLE evals (run_key TEXT NOT NULL, task_key TEXT NOT NULL, task TEXT NOT NULL, status TEXT NOT NULL,"
        " message TEXT NOT NULL, metric TEXT NOT NULL, chance REAL, ledger TEXT NOT NULL, created TEXT NOT NULL,"
        " PRIMARY KEY (run_key, task_key))",
        "CREATE TABLE scores (run_key TEXT NOT NULL, task_key TEXT NOT NULL, position INTEGER NOT NULL,"
        " item TEXT NOT NULL, value REAL NOT NULL, subject TEXT NOT NULL, cluster TEXT NOT NULL,"
        " response TEXT NOT NULL, PRIMARY KEY (run_key, task_key, position))",
    ),
    ("CREATE TABLE wanted (study_key TEXT NOT NULL, run_key TEXT NOT NULL, PRIMARY KEY (study_key, run_key))",),
    (
        "CREATE TABLE row_counts (train_key TEXT PRIMARY KEY, num_rows INTEGER NOT NULL, empty INTEGER NOT NULL,"
        " duplicates INTEGER NOT NULL, conflicts INTEGER NOT NULL)",
        "CREATE TABLE overlaps (train_key TEXT NOT NULL, test_key TEXT NOT NULL, items INTEGER NOT NULL,"
        " ngram INTEGER NOT NULL, exact INTEGER NOT NULL, template INTEGER NOT NULL, n INTEGER NOT NULL,"
        " PRIMARY KEY (train_key, test_key))",
    ),
    (
        "CREATE TABLE diagnoses (run_key TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL,"
        " message TEXT NOT NULL, ledger TEXT NOT NULL, created TEXT NOT NULL, PRIMARY KEY (run_key, key))",
        "CREATE TABLE readings (run_key TEXT NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL,"
        " name TEXT NOT NULL, layer INTEGER, module TEXT NOT NULL, part TEXT NOT NULL, variant TEXT NOT NULL,"
        " vector TEXT NOT NULL, PRIMARY KEY (run_key, key, position))",
    ),
    (
        "CREATE TABLE looks (run_key TEXT NOT NULL, rows_key TEXT NOT NULL, share REAL NOT NULL, cut INTEGER NOT NULL,"
        " step INTEGER NOT NULL, losses TEXT NOT NULL, drift TEXT NOT NULL, ledger TEXT NOT NULL,"
        " created TEXT NOT NULL, PRIMARY KEY (run_key, rows_key, share, cut))",
    ),
)
