"""The words of the page: what an arm, a run, a role is. Out: a table. Methods and their sources are in `methods`."""

from __future__ import annotations

from rankscope.report.cells import Cell, Table, columns

WORDS = (
    ("Study", "One question, put by one file: models, train tasks, arms and seeds, all evaluated in the same way."),
    ("Base", "The model as it was, untouched. Every change on this page is against it."),
    ("Arm", "One treatment of the base: LoRA of a rank, full SFT, or an adapter or checkpoint that existed already."),
    ("Full SFT", "Supervised fine-tuning of all weights, under the same protocol; the yardstick of the ranks."),
    ("Rank", "The number of directions that a LoRA adapter may add to each matrix. Reads: how large it may be."),
    ("Run", "One model, train task, arm and seed. Runs that only tried a learning rate are in no estimate."),
    ("Seed", "One repetition with another order of rows and another start; arms of one seed see the same batches."),
    ("Train task", "The task whose rows were trained on."),
    ("In-domain", "A task of what was trained: what the arm learned shows here."),
    ("Cross-domain", "A task of another domain: what the training changed elsewhere, for better or worse."),
    ("Retention", "A task of general knowledge or plain text: what the base could do and must not lose."),
    ("Score, metric", "A score judges one answer; a metric is the mean over items, given with its interval."),
    ("Gain, forgetting", "In-domain arm minus base; retention base minus arm (positive is worse)."),
    ("Transfer", "Arm minus base on each task, for each task that was trained on."),
    ("Margin", "The difference that is called small beforehand; 'within the margin' is shown, never assumed."),
    ("Shown", "The simultaneous interval excludes 0. What is not shown is open: it may be there or not."),
    ("Diagnostic", "A measurement inside the network: spectrum of the update, drift of hidden states, attention."),
    ("Frontier", "The arms that no other beats at gain, forgetting and cost at once."),
    ("Ledger", "What was measured of every run: seconds, tokens, FLOPs, bytes."),
)  # fmt: skip


def words() -> Table:
    """A table of the page's own words."""
    rows = tuple((Cell(term), Cell(meaning)) for term, meaning in WORDS)
    return Table("words", "Words of this page", columns("Word", "Meaning here"), rows)
