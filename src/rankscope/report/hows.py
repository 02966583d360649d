"""How the columns of the report's tables were computed: (title, sentence) pairs for `cells.columns`. Plain data.

Only what several sections share or what would crowd out the code that fills the tables; the glossary (`methods`)
defines the words.
"""

from __future__ import annotations

ORDINARY = (
    "Square brackets: ordinary 95 % interval over items and seeds (two-way crossed variance components), "
    "over items alone where there is one seed."
)
SIMULTANEOUS = (
    "The interval that holds together with those of all comparisons of this study at 95 % "
    "(max-|t|; Hothorn, Bretz and Westfall 2008)."
)
LEARNING_RATE = (
    "Learning rate",
    "The rate these runs were trained at; of several it is chosen by validation loss on a split carved from train, "
    "with the one-standard-error rule toward the lower rate.",
)
VALIDATION_LOSS = "Mean over items of a split carved from train, never items of a verdict: nats per completion token"
SCORE = (
    "Mean score over items and seeds: per cent of right answers, or of what the task gives for each; for cross-entropy "
    "nats per token. Square brackets: 95 % interval, for the base Wilson's (right or wrong) or t over its items, for "
    "arms over items and seeds (over items alone where there is one seed)."
)
CHANGE = (
    f"Mean over items and seeds of the arm's score minus the base's on the same item (paired); for cross-entropy with "
    f"the sign turned. {ORDINARY} Marks ▲ ▼ read the simultaneous interval."
)
HEADLINE_COST = (
    ("Trained params", "Number of weights that training changed, counted in the model."),
    (
        "Time a run (its share)",
        "Wall-clock time of training, each step divided by the runs trained side by side in it; mean of the runs that "
        "count.",
    ),
    (
        "Peak memory",
        "Largest memory seen while the whole cohort trained: what the process held (CPU) or the peak allocated (GPU); "
        "the largest of the runs.",
    ),
    ("Stored", "Size of the file of weights that a run keeps; the largest of the runs."),
    ("Seeds", "Finished runs of those declared; failed ones are in no mean."),
)
STOPPED = (
    "Arm",
    ("Learning rate", "The peak rate of the schedule of this run."),
    (
        "Stopped after",
        "Share of the run's steps that were done; runs are compared at shares fixed in advance.",
    ),
    "Why",
    (
        "Lag",
        "Share of the other's progress, the logarithm of the base's validation loss over its own, that this run or its "
        "arm's best lacked. For retention: how many times the other's KL divergence from the base; for a tie: what the "
        "cheaper arm lacked against this one.",
    ),
    (
        "Allowed",
        "What the lag, less its uncertainty over rows, may be at this look; calibrated so that the full grid's choice "
        "stays in (docs/method.md).",
    ),
    (
        "Validation loss there, nats (partial)",
        "Mean over validation rows of nats per completion token at the moment the run was stopped. It had not been "
        "trained to its end: the number is partial and enters no estimate, choice or chart.",
    ),
    ("Tokens", "Training tokens read until then."),
)
KEPT = (
    "Arm",
    ("Learning rate", "The peak rate of the schedule of this run."),
    ("At", "Share of its steps that were done."),
    ("Truncated to rank", "Each module's update replaced by the nearest one of this rank (Eckart and Young 1936)."),
    (
        "Gain kept",
        "(base - truncated) / (base - whole) in mean validation loss. It gave the order in which ranks went on.",
    ),
)
RATES = (
    "Arm",
    ("Learning rate", "The peak rate of the schedule in this trial."),
    ("Validation loss, nats", f"{VALIDATION_LOSS}."),
    ("Standard error", "Standard deviation of the validation items' losses divided by the root of their number."),
    (
        "Choice",
        "The lowest rate that is worse than the best by no more than one standard error of their difference on the "
        "same items (one-standard-error rule, Breiman et al. 1984).",
    ),
    "Status",
    ("Seed", "The first seed of the study: rates are tried at one seed only."),
)
CURVES = (
    "Arm",
    "Trained on",
    ("Seed", "The seed of data order, initial weights and dropout, as declared."),
    ("First stretch, nats", "Mean training loss, nats per label token, of the first of at most 60 stretches of steps."),
    ("Last stretch, nats", "The same mean over the last stretch."),
    ("Steps", "Optimizer steps made."),
)
FLIPS = (
    ("Right → wrong", "Number of items that the base answered right and the arm wrong, summed over seeds."),
    ("Wrong → right", "Number of items that the base answered wrong and the arm right, summed over seeds."),
)
ROWS = (
    "Train task",
    ("Rows", "Number of rows read for training, those of the validation split included."),
    ("Empty", "Number of rows without an answer, or with a prompt that asks nothing."),
    ("Repeated", "Number of rows whose prompt and answer an earlier row has."),
    ("Prompt with another answer too", "Number of rows whose prompt also stands with another answer."),
)
SHARED_WORDS = (
    "Items whose prompt and right answer have a run of that many words of some training row, in lower case without "
    "punctuation; with the share of all items (n-grams of Brown et al. 2020, appendix C)."
)
SHARED_PROMPTS = (
    ("Same prompt", "Items with the very words of some training row's prompt; with the share of all items."),
    ("Same prompt but for numbers", "The same with every number read as one; those of the column before are included."),
)
RUNS = (
    "Run and key",
    "Status",
    "Role",
    ("Learning rate", "The peak rate of the schedule in this run."),
    ("Seed", "The seed of data order, initial weights and dropout, as declared."),
    ("Steps", "Optimizer steps made."),
    ("Time", "Wall-clock time of training, each step divided by the runs trained side by side in it."),
    ("Tokens/s", "Tokens read in training divided by that time."),
    ("Peak memory", "Largest memory seen while the run's whole cohort trained."),
    ("Validation loss", f"{VALIDATION_LOSS}, at the end of training."),
    "Notes",
)
COST = (
    "Part",
    ("Pieces of work", "Runs or evaluations of this part, counted; failed ones too."),
    ("Time", "Sum of the wall-clock time measured; what was not measured is not in it."),
    ("Share, %", "This part's time divided by the time of all parts."),
    ("Tokens", "Sum of the tokens read, in training or in scoring."),
    (
        "FLOPs",
        "Counted, not measured: per token of training 6 N for full SFT and 4 N + 6 × the adapter's parameters for "
        "LoRA, of scoring 2 N, with N the model's parameters (Kaplan et al. 2020); attention scores are left out.",
    ),
)
