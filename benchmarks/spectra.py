"""How fast are singular values from LoRA's factors, and intruders without decomposing? A table, then one JSON line.

    python benchmarks/spectra.py [--model FOLDER] [--weights FOLDER] [--ranks 4 16 64] [--repeats 3]

Values: a rank-64 adapter with the shapes of a 7B model (32 layers; q, k, v, o 4096 x 4096, gate and up 11008 x 4096,
down 4096 x 11008) made of random numbers. Ours is ``analysis.spectra.singular_values`` over all 224 modules. The other
side writes one product of each shape out and calls ``torch.linalg.svdvals`` in float32, without vectors: the cheapest
dense way there is. It is measured once a shape and multiplied by how often the shape occurs.

Intruders (with ``--model``, a folder with SmolLM2-135M's ``model.safetensors`` or one like it): for every linear module
of the layers, a planted update of each rank, and with ``--weights`` every trained adapter (as rankscope stores them, or
PEFT saves them) and every fully trained checkpoint in that folder. Ours is ``analysis.intruders.find``, the other side
the same with ``torch.linalg.svd(W + dW)``; both read the base's spectrum from its file within the time. The median of
the repeats is taken for each matrix and each side, and summed.

No time is printed before the results are equal: values within 1e-5 of the largest (float32), every count the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from rankscope.analysis.base_spectra import kept
from rankscope.analysis.intruders import Intruders, find
from rankscope.analysis.spectra import singular_values
from rankscope.models.delta import Delta, DenseDelta, FactoredDelta

LAYERS, RANK = 32, 64
SHAPES = {(4096, 4096): 4, (11008, 4096): 2, (4096, 11008): 1}
Deltas = Callable[[str, torch.Tensor], Delta]


def timed(run: Callable):
    began = time.perf_counter()
    result = run()
    return result, time.perf_counter() - began


def values(repeats: int) -> dict:
    """Seconds of both sides for one adapter of a 7B model."""
    dense = 0.0
    for (num_out, num_in), count in SHAPES.items():
        delta = made(num_out, num_in, RANK, seed=0)
        true, seconds = timed(lambda delta=delta: torch.linalg.svdvals(delta.dense()))
        mine = singular_values(delta)
        if float((mine - true[:RANK].double()).abs().max()) > 1e-5 * float(true[0]):
            raise SystemExit(f"other values than dense: {num_out} x {num_in}")
        print(f"dense, {num_out} x {num_in}: {seconds:.1f} s, one matrix", flush=True)
        dense += seconds * count * LAYERS
    ours = []
    for repeat in range(repeats):
        total = 0.0
        for layer in range(LAYERS):
            for seed, shape in enumerate(shape for shape, count in SHAPES.items() for _ in range(count)):
                delta = made(*shape, RANK, seed=1000 * repeat + 10 * layer + seed)
                total += timed(lambda delta=delta: singular_values(delta))[1]
        ours.append(total)
    best = statistics.median(ours)
    print(f"values, rank {RANK}, {LAYERS} layers x 7: ours {best:.2f} s, dense {dense:.0f} s, x {dense / best:.0f}")
    return {"ours_s": round(best, 3), "dense_s": round(dense, 1), "ratio": round(dense / best), "sample": len(SHAPES)}


def made(num_out: int, num_in: int, rank: int, seed: int, scale: float = 1.0) -> FactoredDelta:
    drawn = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, num_in, generator=drawn), torch.randn(num_out, rank, generator=drawn)
    return FactoredDelta(a / num_in**0.5, b / num_out**0.5, scale)


def intruders(title: str, weights: dict[str, torch.Tensor], deltas: Deltas, cache: Path, repeats: int) -> dict:
    """Seconds of both sides for one update of all matrices."""
    sums, counts, ties, whole = [0.0, 0.0], 0, [], 0
    for name, weight in weights.items():
        delta = deltas(name, weight)

        def look(steps: int, name: str = name, weight: torch.Tensor = weight, delta: Delta = delta) -> Intruders:
            return find(weight, delta, kept(weight, cache, "benchmark", name), steps=steps)

        look(8)  # the base's spectrum is in its file from here on
        taken: list[list[float]] = [[], []]
        for _ in range(repeats):
            mine, seconds = timed(lambda look=look: look(8))
            taken[0].append(seconds)
            true, seconds = timed(lambda look=look: look(0))
            taken[1].append(seconds)
        if mine.count != true.count:
            raise SystemExit(f"{title}: other counts than dense: {name}")
        sums = [total + statistics.median(part) for total, part in zip(sums, taken, strict=True)]
        counts, whole = counts + mine.count, whole + mine.was_dense
        ties += [name] * mine.near_ties
    row = {"update": title, "matrices": len(weights), "intruders": counts, "near_ties": ties, "decomposed": whole,
           "ours_s": round(sums[0], 3), "dense_s": round(sums[1], 2), "ratio": round(sums[1] / sums[0], 1)}  # fmt: skip
    print(f"intruders, {title:18} {counts:5} in {len(weights)} matrices, {len(ties)} near-ties, {whole} decomposed: "
          f"ours {sums[0]:.2f} s, dense {sums[1]:.2f} s, x {sums[1] / sums[0]:.1f}", flush=True)  # fmt: skip
    return row


def base_weights(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if name.endswith("_proj.weight")]  # noqa: SIM118
        return {name.removesuffix(".weight"): file.get_tensor(name).float() for name in names}


def planted(rank: int, weights: dict[str, torch.Tensor]) -> Deltas:
    """Random factors, a third of the matrices each with an update of .2, .6 and 1.2 of the weight's spectral norm."""
    places = {name: place for place, name in enumerate(sorted(weights))}

    def deltas(name: str, weight: torch.Tensor) -> Delta:
        size = float(torch.linalg.matrix_norm(weight, 2)) * (0.2, 0.6, 1.2)[places[name] % 3]
        return made(*weight.shape, rank, places[name], size)

    return deltas


def trained(folder: Path, weights: dict[str, torch.Tensor]) -> Iterator[tuple[str, Deltas]]:
    """Every file of weights in a folder that fits the base."""
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get("adapter_config")
            beside = path.parent / "adapter_config.json"
            config = json.loads(written or (beside.read_text(encoding="utf-8") if beside.is_file() else "null"))
            tensors = {k.removeprefix("base_model.model."): file.get_tensor(k) for k in file.keys()}  # noqa: SIM118

        def deltas(name: str, weight: torch.Tensor, config=config, tensors=tensors) -> Delta:
            if config is None:
                return DenseDelta(weight, tensors[f"{name}.weight"].float())
            scale = config["lora_alpha"] / config["r"] ** (0.5 if config.get("use_rslora") else 1)
            return FactoredDelta(tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"], scale)

        if all(f"{name}.weight" in tensors or f"{name}.lora_A.weight" in tensors for name in weights):
            yield "trained, full" if config is None else f"trained, rank {config['r']}", deltas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a folder with a small model's weights")
    parser.add_argument("--weights", type=Path, help="a folder with weights trained from it")
    parser.add_argument("--ranks", type=int, nargs="*", default=[4, 16, 64], help="ranks of planted updates")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-values", action="store_true", help="only the intruders")
    args = parser.parse_args()
    told = {"benchmark": "spectra", "threads": torch.get_num_threads(), "torch": torch.__version__}
    told["values"] = None if args.no_values else values(args.repeats)
    rows = []
    if args.model:
        weights = base_weights(args.model)
        with tempfile.TemporaryDirectory() as cache:
            for rank in args.ranks:
                title = f"planted, rank {rank}"
                rows.append(intruders(title, weights, planted(rank, weights), Path(cache), args.repeats))
            for title, deltas in trained(args.weights, weights) if args.weights else ():
                rows.append(intruders(title, weights, deltas, Path(cache), args.repeats))
    print(json.dumps(told | {"intruders": rows}))


if __name__ == "__main__":
    main()
