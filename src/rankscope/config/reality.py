"""What only the user knows of money and scale: names, units and words of each number. No file, no arithmetic.

No price has a default, so there is no money without a price that the user gave. A few factors that users rarely know
have an ``assumed`` triple for the low, base and high scenario; ``low`` is the one in which LoRA saves least.
"""

from __future__ import annotations

from dataclasses import dataclass

Triple = tuple[float, float, float]
SCENARIOS = ("low", "base", "high")
GROUPS = {"price": "Prices", "scale": "Scale", "people": "People", "serving": "Serving"}


@dataclass(frozen=True)
class Input:
    """One number that is typed. ``assumed`` stands in where it is not; ``example`` is for forms, nobody's reality.

    ``unit`` may say CUR for the currency. ``is_positive``: zero is refused, because something is divided by it.
    """

    name: str
    group: str
    title: str
    unit: str
    help: str
    example: float
    assumed: Triple | None = None
    is_positive: bool = False
    most: float | None = None


INPUTS = (
    Input("gpu_price", "price", "Training hour", "CUR per GPU hour", "One hour of one GPU (or machine) that trains.",
          2.5),
    Input("serving_price", "price", "Serving hour", "CUR per GPU hour",
          "One hour of one GPU that serves. Left out: the training hour's price.", 2.0),
    Input("study_price", "price", "Hour of the study", "CUR per hour",
          "One hour of the machine that ran this study. Left out: the training hour's price.", 0.5),
    Input("storage_price", "price", "Storage", "CUR per GB and month", "A GB is 10^9 bytes.", 0.023),
    Input("engineer_rate", "price", "Engineer", "CUR per hour", "What an engineer's hour costs you, all included.",
          90.0),
    Input("point_value", "price", "Value of a point", "CUR per point, task and year",
          "What one more point of in-domain score is worth, if you know.", 1000.0),
    Input("tasks", "scale", "Tasks or tenants", "count", "How many get a model of their own.", 10.0, is_positive=True),
    Input("retrainings", "scale", "Retrainings", "per task and year", "How often each is trained again.", 4.0),
    Input("training_tokens", "scale", "Tokens of a training", "tokens",
          "Tokens that one production training passes through, epochs counted. Left out: those of the study.", 2e7,
          is_positive=True),
    Input("model_params", "scale", "Model size", "parameters",
          "Parameters of the production model. Left out: the study's.", 8e9, is_positive=True),
    Input("versions", "scale", "Versions kept", "per task", "Trained weights of a task that stay in storage.", 3.0,
          (1.0, 1.0, 1.0)),
    Input("gpu_tflops", "scale", "Peak rate of the GPU", "TFLOP/s",
          "Dense bfloat16. Left out: the data sheet's, where a GPU is named.", 312.0, is_positive=True),
    Input("gpu_memory_gb", "scale", "Memory of the GPU", "GB",
          "In 10^9 bytes. Left out: the data sheet's, where a GPU is named.", 80.0, is_positive=True),
    Input("utilisation", "scale", "Peak rate reached in training", "share",
          "Llama 3 reports 0.38 to 0.43 (2407.21783), PaLM 0.46 (2204.02311); short fine-tuning reaches less.", 0.35,
          (0.45, 0.35, 0.2), is_positive=True, most=1.0),
    Input("engineer_hours_lora", "people", "Engineer, one LoRA retraining", "hours",
          "Hands-on hours: start it, watch it, judge it.", 2.0),
    Input("engineer_hours_full", "people", "Engineer, one full SFT", "hours",
          "Hands-on hours: start it, watch it, judge it.", 4.0),
    Input("redeploy_hours_lora", "people", "Engineer, new adapter to production", "hours",
          "Per retraining: hand an adapter of some MB to a running server.", 0.5),
    Input("redeploy_hours_full", "people", "Engineer, new full model to production", "hours",
          "Per retraining: roll out whole weights to a replica.", 3.0),
    Input("hours_per_repair", "people", "Engineer, one repair", "hours",
          "Hours to repair one training that forgot something users need.", 16.0),
    Input("repair_chance", "people", "Chance of a repair", "per point forgotten",
          "How likely a point of retention lost makes a repair needed; the product is at most 1.", 0.02, most=1.0),
    Input("study_engineer_hours", "people", "Engineer, this study", "hours",
          "Hours that somebody spent on this study.", 4.0),
    Input("requests", "serving", "Requests", "per month", "Of all tasks together.", 2e6),
    Input("request_tokens", "serving", "Tokens of a request", "tokens", "Read and written, on average.", 800.0,
          is_positive=True),
    Input("peak_factor", "serving", "Peak over mean traffic", "times",
          "An assumption without a source: type your own.", 3.0, (5.0, 3.0, 2.0), is_positive=True),
    Input("replica_rate", "serving", "Tokens of one replica", "tokens per second",
          "As you measured it, without adapters. Left out: from the GPU's peak rate.", 5000.0, is_positive=True),
    Input("serving_utilisation", "serving", "Peak rate reached in serving", "share",
          "Used where replica_rate is left out. An assumption without a source: decoding is bound by memory.", 0.1,
          (0.05, 0.1, 0.3), is_positive=True, most=1.0),
    Input("serving_penalty", "serving", "Extra work of adapters", "share of the base's",
          "As you measured it at this rank: 0.2 is a fifth more. Left out: adapter FLOPs, a lower bound.", 0.2),
    Input("gpus_per_replica", "serving", "GPUs of one replica", "count",
          "Left out: from the model's weights and the GPU's memory.", 1.0, is_positive=True),
    Input("memory_factor", "serving", "Memory over weights", "times",
          "Used where gpus_per_replica is left out: room for the cache of keys and values. An assumption.", 1.2,
          (1.2, 1.2, 1.2), is_positive=True),
    Input("tasks_per_replica", "serving", "Full models sharing a replica", "count",
          "One, unless your server swaps whole models.", 1.0, (1.0, 1.0, 1.0), is_positive=True),
    Input("hours_up", "serving", "Hours that replicas are up", "per year", "8760: all year.", 8760.0,
          (8760.0, 8760.0, 8760.0), most=8784.0),
)  # fmt: skip
BY_NAME = {entry.name: entry for entry in INPUTS}
