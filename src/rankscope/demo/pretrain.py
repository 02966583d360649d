"""Makes the base model of the micro world: tokenizer, a small Llama, and a card with what it knows.

In: a seed and a number of steps. Out: a Hugging Face model folder (``demo/model``). Run once by us, not by users:
``python -m rankscope.demo.pretrain`` (about ten minutes on two CPU cores). A plain script that knows nothing about
the rest of rankscope but the world's generator; torch and transformers load inside its functions.

Every batch mixes known facts (all four phrasings), exercises on lists that no demo row holds, and sentences that no
demo row holds. Answers are trained alone for questions and exercises (an end token follows each); all tokens of
sentences.

Legend: B rows of a batch, T tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rankscope.demo import world as micro

MODEL = Path(__file__).parent / "model"
SPECIAL = ("<pad>", "<eos>", "<unk>")
BATCH = {"facts": 96, "skills": 64, "text": 32}
IGNORED = -100


def make_tokenizer() -> Any:
    """A word-level ``PreTrainedTokenizerFast`` over the world's vocabulary. Adds no special tokens by itself."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate((*SPECIAL, *micro.vocabulary()))}
    inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
                                   clean_up_tokenization_spaces=False, model_max_length=256)  # fmt: skip


def make_model(vocabulary: int, seed: int) -> Any:
    """A fresh float32 Llama of about 0.9 million parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True, pad_token_id=0, bos_token_id=None,
        eos_token_id=1, initializer_range=0.05,
    ))  # fmt: skip


def examples(tokenizer: Any, seed: int) -> Iterator[list[tuple[list[int], int]]]:
    """Batches without end: rows of (ids, how many of them are prompt and so not trained on)."""
    world, rng = micro.build(), random.Random(f"rankscope/pretrain/{seed}")
    made = micro.rows(world)
    held_out = {row.get("text", row.get("prompt")) for part in made.values() for row in part}
    lists = {_letters(row["prompt"]) for task in ("demo_skills", "demo_compose") for split in micro.SPLITS
             for row in made[task, split]}  # fmt: skip
    facts = [(f, phrasing) for f in world.facts for phrasing in range(4)]
    stream, queue = micro.sentences(world, rng), []

    def answered(prompt: str, completion: str) -> tuple[list[int], int]:
        ids = tokenizer(prompt).input_ids
        return ids + tokenizer(" " + completion).input_ids + [tokenizer.eos_token_id], len(ids)

    known = {(f, p): answered(micro.question(f, p), f.value) for f, p in facts}
    while True:
        batch = []
        if len(queue) < BATCH["facts"]:
            queue += rng.sample(facts, len(facts))
        batch += [known[queue.pop()] for _ in range(BATCH["facts"])]
        while len(batch) < BATCH["facts"] + BATCH["skills"]:
            item = micro.exercise(rng)
            if item.letters not in lists:
                batch.append(answered(item.prompt, " ".join(item.gold)))
        while len(batch) < sum(BATCH.values()):
            if (text := next(stream)) not in held_out:
                batch.append((tokenizer(text).input_ids + [tokenizer.eos_token_id], 0))
        yield batch


def _letters(prompt: str) -> tuple[str, ...]:
    return tuple(w for w in micro.words(prompt) if w in micro.LETTERS)


def collate(rows: Sequence[tuple[list[int], int]]) -> tuple[Any, Any]:
    """Right-padded ids and labels, both (B, T); causal attention never looks at the padding, so no mask is needed."""
    import torch

    width = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)  # (B, T)
    labels = torch.full((len(rows), width), IGNORED)  # (B, T)
    for i, (row, skip) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, skip : len(row)] = torch.tensor(row[skip:])
    return ids, labels


def pretrain(model: Any, tokenizer: Any, steps: int, lr: float, seed: int) -> None:
    """AdamW with a short warm-up and a cosine to zero; changes ``model`` in place and prints its progress."""
    import torch
    from torch.nn.functional import cross_entropy

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    warm = min(100, steps // 2)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: (i + 1) / warm if i < warm else 0.5 * (1 + math.cos(math.pi * (i - warm) / (steps - warm))),
    )
    start, batches = time.monotonic(), examples(tokenizer, seed)
    model.train()
    for step in range(1, steps + 1):
        ids, labels = collate(next(batches))
        logits = model(ids, use_cache=False).logits  # (B, T, V)
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps:
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - start:.0f} s", flush=True)


def read_rows(task: str, split: str = "test") -> list[dict]:
    """The committed rows of a demo task."""
    with open(micro.DATA / task / f"{split}.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def choice_accuracy(model: Any, tokenizer: Any, rows: Sequence[dict], batch: int = 64) -> float:
    """Share of rows whose right choice has the highest log-likelihood (all choices of a row are equally long)."""
    right = 0
    for low in range(0, len(rows), batch):
        part = rows[low : low + batch]
        pairs = [(tokenizer(r["prompt"]).input_ids, tokenizer(" " + c).input_ids) for r in part for c in r["choices"]]
        sums = [-loss for loss, _ in _losses(model, [(p + c, len(p)) for p, c in pairs])]
        scores = [sums[i : i + 4] for i in range(0, len(sums), 4)]
        right += sum(max(range(4), key=s.__getitem__) == r["answer"] for s, r in zip(scores, part, strict=True))
    return right / len(rows)


def text_loss(model: Any, tokenizer: Any, rows: Sequence[dict]) -> float:
    """Cross-entropy in nats per token over all rows, the end token included, the first token not."""
    encoded = [(tokenizer(r["text"]).input_ids + [tokenizer.eos_token_id], 1) for r in rows]
    sums, counts = zip(*_losses(model, encoded), strict=True)
    return sum(sums) / sum(counts)


def _losses(model: Any, rows: Sequence[tuple[list[int], int]]) -> list[tuple[float, int]]:
    """Negative log-likelihood of each row's trained part (nats, summed) and its number of tokens."""
    import torch
    from torch.nn.functional import cross_entropy

    ids, labels = collate(rows)
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits  # (B, T, V)
    losses = cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none")
    return list(zip(losses.sum(1).tolist(), (labels[:, 1:] != IGNORED).sum(1).tolist(), strict=True))


def exact_match(model: Any, tokenizer: Any, rows: Sequence[dict]) -> float:
    """Share of rows that greedy decoding completes exactly, end token included.

    One forward pass over prompt and completion tells: greedy decoding gives the completion if and only if each of its
    tokens is the most likely one after the tokens before it.
    """
    import torch

    encoded = [(tokenizer(r["prompt"]).input_ids, tokenizer(" " + r["completion"]).input_ids) for r in rows]
    ids, labels = collate([(p + c + [tokenizer.eos_token_id], len(p)) for p, c in encoded])
    with torch.inference_mode():
        best = model(ids, use_cache=False).logits[:, :-1].argmax(-1)  # (B, T - 1)
    wanted = labels[:, 1:]
    return ((best == wanted) | (wanted == IGNORED)).all(1).double().mean().item()


def measure(model: Any, tokenizer: Any) -> dict[str, dict[str, float]]:
    """What the model scores on the test split of each demo task."""
    model.eval()
    scores: dict[str, dict[str, float]] = {}
    for task in ("demo_facts", "demo_skills", "demo_people", "demo_compose"):
        rows = read_rows(task)
        scores[task] = {"choice": choice_accuracy(model, tokenizer, rows), "exact": exact_match(model, tokenizer, rows)}
    scores["demo_text"] = {"cross_entropy": text_loss(model, tokenizer, read_rows("demo_text"))}
    return scores


def card(scores: dict[str, dict[str, float]], num_params: int, steps: int, seed: int) -> str:
    """The model card, in Markdown."""
    uses = {
        "demo_facts": "known facts",
        "demo_skills": "known skills on new lists",
        "demo_people": "facts about people it never met",
        "demo_compose": "two skills after each other, never trained",
    }
    table = "\n".join(
        f"| {task} | {about} | {scores[task]['choice']:.1%} | {scores[task]['exact']:.1%} |"
        for task, about in uses.items()
    )
    return f"""---
license: apache-2.0
---
# The base model of rankscope's micro world

A Llama of {num_params:,} parameters (4 layers, width 128, float32, tied embeddings) with a word-level tokenizer. It
was pretrained from scratch on made-up people and places, on sorting, reversing, rotating and swapping short lists of
letters, and on sentences about that world; it has seen no real text and no real person. It exists so that a whole
study (training, forgetting, report) takes minutes on a laptop.

| task | what the base should know | 4 choices (chance 25 %) | greedy, exact |
|---|---|---|---|
{table}

Cross-entropy on `demo_text`: {scores["demo_text"]["cross_entropy"]:.3f} nats per token. On `demo_compose` the base is
below chance because some wrong choices are what one of the two operations alone would give.

Made by `python -m rankscope.demo.pretrain --steps {steps} --seed {seed}`: AdamW, batches of {BATCH["facts"]} facts,
{BATCH["skills"]} exercises and {BATCH["text"]} sentences. No test row of `demo_skills`, `demo_compose`, `demo_people`
or `demo_text` was trained on; `demo_facts` asks for trained facts in trained phrasings, because a fact can only be
recalled. Completions end with `<eos>`.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Pretrain, save and measure."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer), options.seed)
    pretrain(model, tokenizer, options.steps, options.lr, options.seed)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 0
    model.generation_config.do_sample = False
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    scores = measure(model, tokenizer)
    text = card(scores, sum(p.numel() for p in model.parameters()), options.steps, options.seed)
    (options.out / "model.safetensors").chmod(0o644)
    (options.out / "README.md").write_text(text, encoding="utf-8")
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
