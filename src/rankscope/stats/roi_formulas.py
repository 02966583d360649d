"""Every formula of the return on investment, once: computed here, shown and computed again on the page.

A formula may use typed numbers (``config.reality``), measured ones (``MEASURED``), formulas above it, and those of the
full SFT arm with ``full.`` before them. ``only``: the kind of arm it is for; a name may have one formula for each.
``is_scaled``: right as measured as long as nothing typed goes in, a model where something does; ``is_modelled``: always
one. Sources: training FLOPs as in ``stats.cost`` (Kaplan et al. 2001.08361); 16 bytes a trained parameter for weights,
gradients and Adam in mixed precision (Rajbhandari et al. 1910.02054); 2 N FLOPs per token of a forward pass (Kaplan).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["money", "hours", "GPU hours", "tokens", "FLOPs", "bytes", "parameters", "count", "tokens/s", "share",
               "times", "points", "seconds", "months", "money/point", "money/million tokens"]  # fmt: skip

MEASURED: dict[str, tuple[str, Unit]] = {
    "seconds": ("seconds of one training here", "seconds"),
    "tokens": ("tokens of one training here", "tokens"),
    "flops": ("FLOPs of one training here, by count", "FLOPs"),
    "peak_bytes": ("peak memory here, of all that trained together", "bytes"),
    "trainable": ("trained parameters", "parameters"),
    "blob_bytes": ("bytes of the stored weights", "bytes"),
    "gain": ("points gained in domain", "points"),
    "forgotten": ("points of retention forgotten", "points"),
    "gain_over_full": ("points gained over full SFT, paired", "points"),
    "params": ("parameters of the studied model", "parameters"),
    "study_seconds": ("seconds of all that this study measured", "seconds"),
}
GROUPS = {
    "training": "Training",
    "people": "Engineers",
    "storage": "Storage",
    "serving": "Serving",
    "year": "A year's cost",
    "against": "Against full SFT",
    "study": "What this study cost, and when it has paid",
}


@dataclass(frozen=True)
class Formula:
    """One line. ``why`` holds the assumption behind it, empty where there is none."""

    name: str
    group: str
    title: str
    expression: str
    unit: Unit
    why: str = ""
    only: Literal["", "lora", "full"] = ""
    is_scaled: bool = False
    is_modelled: bool = False


def _each(group: str, lines: list[tuple[str, str, str, Unit]], why: str = "", only: Literal["", "lora"] = ""):
    return [Formula(name, group, title, text, unit, why, only) for name, title, text, unit in lines]


_TRAINING = [
    Formula("train_tokens", "training", "Tokens of one training", "first(training_tokens, tokens)", "tokens"),
    Formula("size", "training", "Parameters of the model", "first(model_params, params)", "parameters"),
    Formula("growth", "training", "Size over the studied model's", "size / params", "times"),
    Formula("adapter_size", "training", "Parameters of an adapter", "trainable * cbrt(growth) * cbrt(growth)",
            "parameters", "An adapter of one rank grows with the square of a model's width, the model with its cube "
            "(depth in proportion to width). From SmolLM2-135M to Llama-3.1-8B this gives 15 times; counted, it is 9.",
            "lora", is_scaled=True),
    Formula("run_flops", "training", "FLOPs of one training",
            "((flops / tokens - 6 * trainable) * growth + 6 * adapter_size) * train_tokens", "FLOPs",
            "The frozen part grows with the model, the adapter's own part (6 FLOPs a parameter and token) with it.",
            "lora", is_scaled=True),
    Formula("run_flops", "training", "FLOPs of one training", "flops / tokens * growth * train_tokens", "FLOPs",
            "In proportion to the model and to tokens.", "full", is_scaled=True),
    Formula("run_hours", "training", "GPU hours of one training",
            "first(run_flops / (gpu_tflops * 1e12 * utilisation), seconds * (run_flops / flops)) / 3600", "GPU hours",
            "Where a GPU is named: FLOPs over the share of its peak rate that training reaches. Else this machine's "
            "measured seconds, in proportion to FLOPs. Several GPUs share the hours without loss.", is_scaled=True),
    Formula("training_hours", "training", "GPU hours of training a year", "tasks * retrainings * run_hours",
            "GPU hours"),
    Formula("training_cost", "training", "Training", "training_hours * gpu_price", "money"),
    Formula("peak_here", "training", "Peak memory of the training here", "peak_bytes", "bytes",
            "Of the whole process, and of all that trained side by side in it."),
    Formula("train_memory", "training", "Memory that training needs at least",
            "2 * size + 16 * adapter_size", "bytes",
            "Frozen weights in 2 bytes; 16 bytes a trained parameter (mixed precision, Adam). Activations come on top.",
            "lora", is_modelled=True),
    Formula("train_memory", "training", "Memory that training needs at least", "16 * size", "bytes",
            "16 bytes a parameter (mixed precision, Adam). Activations come on top.", "full", is_modelled=True),
    Formula("train_gpus", "training", "GPUs that training needs at least",
            "ceil(train_memory / (gpu_memory_gb * 1e9))", "count", "By memory alone, evenly shared."),
]  # fmt: skip
_PEOPLE = [
    Formula(f"{name}_engineer", "people", title, f"tasks * retrainings * {verb}_hours_{kind}", "hours", only=kind)
    for name, title, verb in (("retraining", "Engineer hours of retraining a year", "engineer"),
                              ("redeploying", "Engineer hours of redeploying a year", "redeploy"))
    for kind in ("lora", "full")
] + [
    Formula("repair_engineer", "people", "Engineer hours of repairing forgetting a year",
            "tasks * retrainings * min(1, max(0, forgotten) * repair_chance) * hours_per_repair", "hours",
            "Each training forgets what this study measured; a point forgotten makes a repair needed with the typed "
            "chance, points add up, and at most one repair follows a training.", is_modelled=True),
    *_each("people", [("retraining_cost", "Retraining", "retraining_engineer * engineer_rate", "money"),
                      ("redeploying_cost", "Redeploying", "redeploying_engineer * engineer_rate", "money"),
                      ("repair_cost", "Repairing forgetting", "repair_engineer * engineer_rate", "money")]),
]  # fmt: skip
_STORAGE = [
    Formula("stored_here", "storage", "Bytes of one trained arm here", "blob_bytes", "bytes"),
    Formula("stored_bytes", "storage", "Bytes kept",
            "tasks * versions * blob_bytes * (adapter_size / trainable) + 2 * size", "bytes",
            "Adapters as this study stores them; one base in 2 bytes a parameter is kept for all tasks.", "lora",
            is_modelled=True),
    Formula("stored_bytes", "storage", "Bytes kept", "tasks * versions * 2 * size", "bytes",
            "The whole weights of each version in 2 bytes a parameter.", "full", is_modelled=True),
    Formula("storage_cost", "storage", "Storage", "stored_bytes / 1e9 * storage_price * 12", "money"),
]  # fmt: skip
_SERVING = [
    Formula("peak_rate", "serving", "Tokens a second at the peak", "requests * request_tokens * peak_factor / 2629800",
            "tokens/s", "A month is a twelfth of 365.25 days."),
    Formula("replica_gpus", "serving", "GPUs of a replica",
            "first(gpus_per_replica, ceil(2 * size * memory_factor / (gpu_memory_gb * 1e9)))", "count",
            "Where it is not typed: weights in 2 bytes a parameter, with room for the cache.", is_scaled=True),
    Formula("base_rate", "serving", "Tokens a second of a replica without adapters",
            "first(replica_rate, replica_gpus * gpu_tflops * 1e12 * serving_utilisation / (2 * size))", "tokens/s",
            "Where it is not typed: 2 FLOPs a parameter and token, at the share of the peak rate that serving reaches.",
            is_scaled=True),
    Formula("extra_work", "serving", "Extra work of an adapter", "first(serving_penalty, adapter_size / size)", "share",
            "Where it is not typed: the adapter's FLOPs over the model's, a lower bound. Servers of many adapters lose "
            "more at high rank (they pay for the largest rank they allow): measure yours and type it.", "lora",
            is_modelled=True),
    Formula("extra_work", "serving", "Extra work of an adapter", "0", "share", only="full"),
    Formula("arm_rate", "serving", "Tokens a second of a replica", "base_rate / (1 + extra_work)", "tokens/s"),
    Formula("replicas", "serving", "Replicas", "max(1, ceil(peak_rate / arm_rate))", "count",
            "All tasks' adapters share the replicas of one base.", "lora", is_modelled=True),
    Formula("replicas", "serving", "Replicas", "max(ceil(tasks / tasks_per_replica), ceil(peak_rate / arm_rate))",
            "count", "Every task has whole weights of its own, and so a replica of its own. Traffic is taken to be "
            "even over tasks, which favours full SFT.", "full", is_modelled=True),
    Formula("serving_hours", "serving", "GPU hours of serving a year", "replicas * replica_gpus * hours_up",
            "GPU hours"),
    Formula("serving_cost", "serving", "Serving", "serving_hours * first(serving_price, gpu_price)", "money"),
    Formula("serving_million", "serving", "Serving, a million tokens",
            "serving_cost / (requests * request_tokens * 12) * 1e6", "money/million tokens"),
]  # fmt: skip
COSTS = ("training_cost", "retraining_cost", "redeploying_cost", "repair_cost", "storage_cost", "serving_cost")
_YEAR = _each("year", [
    ("cost", "A year's cost", f"known({', '.join(COSTS)})", "money"),
    ("cost_per_point", "Cost per task and point of gain", "cost / tasks / above(gain)", "money/point"),
    ("gain_value", "Value of the gain", "tasks * point_value * gain", "money"),
    ("net_value", "Value less cost", "gain_value - cost", "money"),
])  # fmt: skip
_SAVED = [(text.removesuffix("_cost"), title) for text, title in (
    ("training_cost", "training"), ("retraining_cost", "engineers' retraining"),
    ("redeploying_cost", "engineers' redeploying"), ("repair_cost", "repairing forgetting"),
    ("storage_cost", "storage"), ("serving_cost", "serving"))]  # fmt: skip
_AGAINST = [
    *_each("against", [(f"{name}_saved", f"Saved on {title}", f"full.{name}_cost - {name}_cost", "money")
                       for name, title in _SAVED], only="lora"),
    *_each("against", [("savings", "Savings a year",
                        f"known({', '.join(f'{name}_saved' for name, _ in _SAVED)})", "money")],
           "A line counts only where it is known for both arms.", "lora"),
    *_each("against", [
        ("gain_worth", "Worth of the difference in gain", "tasks * point_value * gain_over_full", "money"),
        ("advantage", "Savings and worth of the difference", "savings + gain_worth", "money"),
        ("training_reclaimed", "GPU hours of training not spent", "full.training_hours - training_hours", "GPU hours"),
        ("serving_reclaimed", "GPU hours of serving not spent", "full.serving_hours - serving_hours", "GPU hours"),
        ("gpu_hours_reclaimed", "GPU hours reclaimed a year", "known(training_reclaimed, serving_reclaimed)",
         "GPU hours"),
        *((f"{name}_reclaimed", f"Engineer hours of {name} not spent", f"full.{name}_engineer - {name}_engineer",
           "hours") for name in ("retraining", "redeploying", "repair")),
        ("engineer_hours_reclaimed", "Engineer hours reclaimed a year",
         "known(retraining_reclaimed, redeploying_reclaimed, repair_reclaimed)", "hours"),
    ], only="lora"),
]  # fmt: skip
_STUDY = [
    *_each("study", [
        ("study_hours", "Machine hours of the study, all its parts", "study_seconds / 3600", "hours"),
        ("study_machine_cost", "The study's machine", "study_hours * first(study_price, gpu_price)", "money"),
        ("study_people_cost", "The study's engineer", "study_engineer_hours * engineer_rate", "money"),
        ("study_cost", "Cost of the study", "known(study_machine_cost, study_people_cost)", "money"),
        ("break_even_months", "Months until the study has paid", "study_cost / (above(savings) / 12)", "months"),
    ], only="lora"),
    *_each("study", [
        ("break_even_retrainings", "Trainings, all tasks counted, until it has paid",
         "study_cost / (above(savings) / (tasks * retrainings))", "count"),
        ("break_even_tasks", "Tasks with which it has paid within the year", "study_cost / (above(savings) / tasks)",
         "count"),
    ], "Savings are taken in proportion; serving in fact goes in whole replicas.", "lora"),
]  # fmt: skip
FORMULAS = (*_TRAINING, *_PEOPLE, *_STORAGE, *_SERVING, *_YEAR, *_AGAINST, *_STUDY)
HEADLINES = ("savings", "engineer_hours_reclaimed", "gpu_hours_reclaimed", "break_even_months", "cost_per_point")
