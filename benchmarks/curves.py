"""What does a study cost against rank, items, length and size of the model? Tables, a figure a curve, one JSON line.

    python benchmarks/curves.py --model DIR --data-dir DIR [--only rank items ...] [--figures docs/figures] [--tiny]

rankscope alone, float32 on the CPU. ``rank``: tokens a second of training, ranks 1 to 256 on all linear layers.
``items``: seconds to score arc_easy (cloze) and mmlu (5-shot, letters) against the number of items, tokenising
included. ``length``: tokens a second of training (rank 16) and of scoring, rows of one length and 2,048 tokens a batch.
``size``: the same at 256 tokens a row for Llama shapes of 10 to 300 million random weights with a vocabulary of 8,192,
beside what their matrix products alone would allow. Every point is the median of --repeats after one that isn't
counted, and has its lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import altair as alt
import sidebyside as sbs
import torch
import vl_convert
from transformers import LlamaConfig, LlamaForCausalLM

from rankscope.data.batching import Example
from rankscope.evaluation.engine import Request, loglikelihoods
from rankscope.evaluation.suite import evaluate
from rankscope.models.base import Base, load
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.report.drawing import finished_row
from rankscope.report.hues import RAMP
from rankscope.tasks.task import prepare
from rankscope.training.cohort import TrainSet, recruit
from rankscope.training.loop import Loop

RANKS, ITEMS, LENGTHS = (1, 4, 16, 64, 256), (25, 50, 100, 200, 400), (32, 64, 128, 256, 512, 1024)
SHAPES = {  # hidden, inner, layers, heads
    "10M": (256, 704, 10, 4), "30M": (448, 1216, 12, 7), "100M": (768, 2048, 14, 12), "300M": (1152, 3072, 18, 18),
}  # fmt: skip
MMLU_POINTS, VOCABULARY, BATCH_TOKENS, LABELS = 3, 8192, 2048, 0.25
STYLE = "<style>svg{color:#333}@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>"


def timed(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of the repeats; one run before them isn't counted."""
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return taken[1:]


def pace(tokens: int, seconds: list[float]) -> dict:
    """Tokens a second: of the median, and lowest and highest."""
    found = sbs.spread(seconds)
    return {"median": tokens / found["median"], "low": tokens / found["high"], "high": tokens / found["low"]}


def rows_of(base: Base, length: int, count: int) -> tuple[Example, ...]:
    """Random rows of one length, the last quarter of each to be learned."""
    drawn, most = random.Random(length), base.model.config.get_text_config().vocab_size - 1
    return tuple(Example(tuple(drawn.randint(3, most) for _ in range(length)), length - max(1, int(LABELS * length)))
                 for _ in range(count))  # fmt: skip


def training(base: Base, rank: int, length: int, repeats: int) -> dict:
    """Tokens a second of the loop, one step of ``BATCH_TOKENS`` tokens a repeat."""
    rows = rows_of(base, length, BATCH_TOKENS // length)
    recipe = Recipe(max_steps=1, batch_tokens=BATCH_TOKENS, validation=0.0)
    spec = RunSpec(base.ref, Arm("lora", "lora", rank=rank, alpha=32.0), 1e-4, TaskRef("random"), recipe, seed=0)
    bank = AdapterBank(base)
    trainee = recruit(base, bank, "run", spec, TrainSet(rows, ()))
    seconds = timed(lambda: Loop(base, bank).train([trainee]), repeats)
    bank.remove("run")
    return pace(sum(len(row.ids) for row in rows), seconds)


def scoring(base: Base, length: int, repeats: int) -> dict:
    """Tokens a second of scoring rows that share nothing."""
    rows = rows_of(base, length, BATCH_TOKENS // length)
    asked = [Request(row.ids[: row.start], (row.ids[row.start :],)) for row in rows]
    loglikelihoods(base, asked[:1])  # what is found out once per model
    seconds = timed(lambda: loglikelihoods(base, asked, BATCH_TOKENS), repeats)
    return pace(sum(len(row.ids) for row in rows), seconds)


def random_base(name: str, tokenizer: object) -> Base:
    hidden, inner, layers, heads = SHAPES[name]
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
                         num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=2048,
                         tie_word_embeddings=True)  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return Base(ModelRef(name, dtype="float32", key=name), model, tokenizer, torch.device("cpu"), torch.float32)


def by_rank(base: Base, args: argparse.Namespace) -> list[dict]:
    ceilings = sbs.ceilings(base.model, args.ranks)
    return [{"x": rank, "what": what, **value} for rank in args.ranks
            for what, value in (("training", training(base, rank, 256, args.repeats)),
                                ("products alone", flat(ceilings[f"lora-r{rank}"]["tokens_per_second"])))]  # fmt: skip


def by_items(base: Base, args: argparse.Namespace) -> list[dict]:
    rows = []
    asked = (("arc_easy", TaskRef("arc_easy"), args.items),
             ("mmlu, 5 shots", TaskRef("mmlu", "letters", shots=5), args.items[:MMLU_POINTS]))  # fmt: skip
    for what, ref, counts in asked:
        for count in counts:
            task = prepare(TaskRef(ref.task, ref.form, ref.shots, count), args.data_dir)
            found = sbs.spread(timed(lambda task=task: evaluate(base, task, "", ""), args.repeats))
            rows.append({"x": count, "what": what, **{k: found[k] for k in ("median", "low", "high")}})
    return rows


def by_length(base: Base, args: argparse.Namespace) -> list[dict]:
    return [{"x": length, "what": what, **value} for length in args.lengths
            for what, value in (("training", training(base, 16, length, args.repeats)),
                                ("scoring", scoring(base, length, args.repeats)))]  # fmt: skip


def by_size(base: Base, args: argparse.Namespace) -> list[dict]:
    rows = []
    for name in args.shapes:
        other = random_base(name, base.tokenizer)
        ceilings, millions = sbs.ceilings(other.model), other.num_params / 1e6
        for what, value in (("training", training(other, 16, 256, args.repeats)),
                            ("scoring", scoring(other, 256, args.repeats)),
                            ("training, products alone", flat(ceilings["lora-r16"]["tokens_per_second"])),
                            ("scoring, products alone", flat(ceilings["score"]["tokens_per_second"]))):  # fmt: skip
            rows.append({"x": round(millions, 1), "what": what, **value})
    return rows


def flat(value: float) -> dict:
    return {"median": value, "low": value, "high": value}


CURVES = {"rank": (by_rank, "Training against rank", "rank", "tokens a second"),
          "items": (by_items, "Scoring against the number of items", "items", "seconds"),
          "length": (by_length, "Training and scoring against length", "tokens a row", "tokens a second"),
          "size": (by_size, "Training and scoring against size", "million weights", "tokens a second")}  # fmt: skip


def figure(path: Path, rows: list[dict], title: str, x: str, y: str) -> None:
    """One curve as SVG, readable on a light and on a dark page; both scales are logarithmic."""
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    hues = [RAMP[round(i * (len(RAMP) - 1) / max(1, len(kinds) - 1))] for i in range(len(kinds))]
    marks = sorted({row["x"] for row in rows})
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:Q", title=x, scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=marks, format="~r")),
        color=alt.Color("what:N", scale=alt.Scale(domain=kinds, range=hues),
                        legend=alt.Legend(orient="top", title=None, symbolStrokeWidth=3)),
    )  # fmt: skip
    points = base.mark_line(point=True, strokeWidth=2).encode(
        y=alt.Y("median:Q", title=y, scale=alt.Scale(type="log"), axis=alt.Axis(format="~s", tickCount=5))
    )
    bars = base.mark_rule().encode(y="low:Q", y2="high:Q")
    chart = (bars + points).properties(width=420, height=240, title=title)
    svg = vl_convert.vegalite_to_svg(finished_row(alt.hconcat(chart)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg.replace("><", f">{STYLE}<", 1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--only", nargs="+", choices=list(CURVES), default=list(CURVES))
    parser.add_argument("--figures", type=Path, help="a folder for cost-<curve>.svg")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="a few points, to see whether it works")
    args = parser.parse_args()
    args.ranks, args.items, args.lengths, args.shapes = RANKS, ITEMS, LENGTHS, tuple(SHAPES)
    if args.tiny:
        args.ranks, args.items, args.lengths, args.shapes, args.repeats = (1, 4), (2, 4), (64, 128), ("10M",), 1
    torch.set_num_threads(args.threads)
    machine, base = sbs.machine(args.threads), load(ModelRef(args.model, dtype="float32"), "cpu")
    found = {}
    for name in args.only:
        measure, title, x, y = CURVES[name]
        rows = measure(base, args)
        found[name] = [{k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        print(f"\n{title} ({y})\n" + sbs.table([{x: r["x"], "": r["what"], "median": r["median"], "lowest": r["low"],
                                                 "highest": r["high"]} for r in found[name]]), flush=True)  # fmt: skip
        if args.figures:
            figure(args.figures / f"cost-{name}.svg", found[name], title, x, y)
    print(json.dumps({"benchmark": "curves", "model": Path(args.model).name, "curves": found, "repeats": args.repeats,
                      "machine": machine, "versions": sbs.versions("transformers", "torch", "rankscope")}))  # fmt: skip


if __name__ == "__main__":
    main()
