"""The commented study that ``rankscope init`` writes. Text only; a test loads it, so it can't go stale."""

from __future__ import annotations

STARTER = """\
# A rankscope study: one question, asked fairly. Next:
#   rankscope check study.yaml    resolve models and tasks; reads no weights
#   rankscope plan study.yaml     the runs, with predicted time and memory
#   rankscope run study.yaml      resumes where it was stopped
# Every key and its default: docs/config.md. A list under an arm's key sweeps it.

title: How much LoRA rank is too much for SmolLM2 on science questions?

# A hub id, a folder, a .gguf file, or demo (the small bundled model).
models:
  - id: HuggingFaceTB/SmolLM2-135M-Instruct
    dtype: auto                  # auto | float32 | bfloat16

# One run per model, train task, arm and seed. limit counts train rows.
train:
  - {task: openbookqa, limit: 2000}

# base is always there. lr: auto tries three learning rates per arm and keeps the best by validation loss.
arms:
  - base
  - lora: {rank: [4, 16, 64], alpha: 32, targets: all-linear, lr: auto}
  - full: {lr: auto}

training:
  epochs: 1
  batch_tokens: 4096
  schedule: linear               # linear | cosine | constant
  seeds: [0, 1, 2]               # with one seed, intervals speak for that seed only

evaluate:
  in_domain: same                # each train task's own test
  cross_domain: all              # the other train tasks' tests; needs two train tasks to show anything
  retention: [arc_easy, mmlu]    # what the model should not forget
  limit: 500                     # test rows per task
  base_shots: 5                  # the base few-shot too: tells format from knowledge

diagnose: [spectrum, intruders, drift, attention]  # inside the networks; attribution and truncation take longer

recommend:
  prefer: cost                   # cost | retention | gain: what decides between ranks that can all be the best
  # margin: 0.02                 # differences below this count as equal; unsaid, what the tests can reach

keep: adapters                   # adapters | best | all: the weights that stay on disk
"""
