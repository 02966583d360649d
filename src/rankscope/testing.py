"""For tests of plug-ins, yours too: contract checks, and a tiny model with its tokenizer, built in memory.

In: a plug-in. Out: nothing, or a PluginError that lists all that is wrong. Needs no network and no files; torch and
transformers are imported only where a model is made or looked into.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rankscope.errors import PluginError, RankscopeError
from rankscope.tasks import judging
from rankscope.tasks.samples import Sample
from rankscope.tasks.task import KINDS, NATS, SCORERS, Task

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
"""The first ids of the tiny tokenizer; the 128 ASCII characters follow."""


def check_task(task: object, rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Check a task against the contract, on its own example row and on any further ``rows`` of its dataset.

    What it declares is complete and agrees with itself; every row gives a valid sample in every form; an item has one
    id in all forms; each form's scorer exists and calls a perfect response perfect. Raises PluginError listing every
    breach.
    """
    if not isinstance(task, Task):
        raise PluginError("a task plug-in must be a rankscope.tasks.task.Task", got=type(task).__name__)
    problems = _declaration_problems(task)
    for row in (task.example, *rows):
        if len(problems) > 20:
            break
        problems += _row_problems(task, row)
    if problems:
        raise PluginError(f"the task {task.name!r} breaks its contract: " + "; ".join(problems))


def check_diagnostic(plugin: object) -> None:
    """Check a diagnostic against the contract, on the bundled model under a LoRA update, a full one and an empty one.

    What it declares is complete; every reading is declared, finite or None, and of a layer that exists; the same
    subject gives the same readings; the base is afterwards what it was. Raises PluginError listing every breach.
    """
    from rankscope.analysis.diagnostic import Diagnostic

    if not isinstance(plugin, Diagnostic):
        raise PluginError("a diagnostic plug-in must be a Diagnostic", got=type(plugin).__name__)
    problems = [f"{name} is empty" for name in ("name", "summary", "quantities") if not getattr(plugin, name)]
    problems += [f"the quantity {q.name} lacks unit, meaning or source" for q in plugin.quantities
                 if not (q.unit and q.meaning and q.source)]  # fmt: skip
    problems += [f"its own defaults are wrong: {problem}" for problem in plugin.check(plugin.options)]
    problems = problems or [p for kind in ("lora", "full", "empty") for p in _diagnostic_problems(plugin, kind)]
    if problems:
        raise PluginError(f"the diagnostic {plugin.name!r} breaks its contract: " + "; ".join(problems))


def demo_subject(kind: str = "lora") -> Any:
    """The bundled model under a made-up update ('lora' of rank 4, 'full', or 'empty': zeros), with texts and tasks, as
    an ``analysis.subject.Subject``."""
    import torch

    from rankscope.analysis.subject import Asked, Subject
    from rankscope.evaluation.suite import evaluate
    from rankscope.models.base import load
    from rankscope.models.delta import DenseDelta, FactoredDelta, Update
    from rankscope.models.lora import find_targets, sizes
    from rankscope.models.update import base_weight
    from rankscope.records import ModelRef, TaskRef
    from rankscope.tasks.task import prepare, resolve
    from rankscope.worker import validation_losses

    base, drawn = load(ModelRef("demo", dtype="float32")), torch.Generator().manual_seed(0)
    deltas, whole = {}, {}
    for name in find_targets(base.model, ("all-linear",)):
        num_out, num_in = sizes(base.model.get_submodule(name))
        a, b = torch.randn(4, num_in, generator=drawn), torch.randn(num_out, 4, generator=drawn)
        b = torch.zeros_like(b) if kind == "empty" else b
        before = base_weight(base, name).detach()
        delta = FactoredDelta(a, b, 0.02)
        deltas[name] = DenseDelta(before, before + delta.dense()) if kind == "full" else delta
    if kind == "full":
        norms = {n: p.detach() * 1.01 for n, p in base.model.named_parameters() if "norm" in n}
        whole = norms | {"model.embed_tokens.weight": base.model.get_input_embeddings().weight.detach() * 1.001}
    asked = []
    for name, role in (("demo_people", "in_domain"), ("demo_facts", "retention"), ("demo_text", "retention")):
        asked.append(Asked(name, role, prepare(resolve(TaskRef(name, limit=6, label=name), split="test"))))
    rows = {
        role: tuple(_row(base, a.task.samples[:4]))
        for role, a in zip(("train", "evaluation", "neutral"), asked, strict=True)
    }
    return Subject(
        Update("full" if kind == "full" else "lora", deltas, whole, ties=kind == "full"), base, rows, tuple(asked),
        rows["train"], lambda worn, task: evaluate(worn, task, "", "").scores,
        lambda worn, examples: validation_losses(worn, examples, 4096),
    )  # fmt: skip


def sample_problems(sample: Sample, form: str) -> list[str]:
    """What is wrong with a sample in a form, as phrases; empty if nothing is."""
    found = []
    if not sample.id or sample.id != sample.id.strip():
        found.append("the id is empty or has white space around it")
    if sample.prompt != sample.prompt.rstrip():
        found.append("the prompt ends in white space")
    if not sample.target.strip():
        found.append("the target is empty")
    if (form == "text") != (sample.prompt == ""):
        found.append("the prompt is empty" if form != "text" else "a text has a prompt")
    if form != "text" and not sample.target.startswith((" ", "\n")):
        found.append("the target doesn't start with a space")
    if KINDS[form] == "choices":
        found += _choice_problems(sample)
    elif sample.choices or sample.answer is not None or sample.prompts:
        found.append(f"the form {form} has choices")
    if not all(text.strip() for text in sample.accepted):
        found.append("an accepted answer is empty")
    return found


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of one token a character: 132 tokens, any ASCII text comes back as it went in, the rest is <unk>.

    Adds no special tokens by itself.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *map(chr, range(128))))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    """A random float32 Llama for ``tiny_tokenizer``: hidden 32, 2 layers, 4 heads (2 for keys), 512 positions.

    In evaluation mode. The same seed gives the same weights; torch's own random state is left as it was.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(SPECIAL) + 128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def _row(base: Any, samples: Sequence[Sample]) -> Any:
    """The samples as rows of tokens with their answers."""
    from rankscope.data.batching import join

    for sample in samples:
        prompt, target = base.encode_pair(sample.prompt, sample.target)
        yield join(prompt, target, base.eos, base.max_length, base.bos)


def _diagnostic_problems(plugin: Any, kind: str) -> list[str]:
    """What is wrong with the readings of one kind of update."""
    import torch

    subject = demo_subject(kind)
    ids = torch.arange(3, 33).reshape(2, 15)
    with torch.inference_mode():
        before, modules = subject.base.hidden(ids), [name for name, _ in subject.base.model.named_modules()]
    try:
        first, again = (list(plugin.measure(subject, dict(plugin.options))) for _ in range(2))
    except RankscopeError as error:
        return [f"{kind}: it failed: {error}"]
    with torch.inference_mode():
        is_same = torch.equal(before, subject.base.hidden(ids))
    found = [] if is_same else [f"{kind}: the base is not what it was"]
    found += [] if modules == [n for n, _ in subject.base.model.named_modules()] else [f"{kind}: modules were left"]
    found += [] if first else [f"{kind}: no readings"]
    found += [] if first == again else [f"{kind}: the same subject gives other readings"]
    declared, layers = {q.name for q in plugin.quantities}, subject.base.model.config.num_hidden_layers
    found += [f"{kind}: {name} is not declared" for name in sorted({r.name for r in first} - declared)]
    for reading in first:
        where = f"{kind}: {reading.name} of {reading.module or reading.layer}"
        if any(value is not None and not math.isfinite(value) for value in reading.values):
            found.append(f"{where} is not finite")
        if reading.layer is not None and not 0 <= reading.layer < layers:
            found.append(f"{where}: there is no such layer")
    return found


def _declaration_problems(task: Task) -> list[str]:
    found = []
    name = task.name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        found.append("the name must be a lower-case word")
    for field in ("summary", "licence", "paper"):
        if not getattr(task, field).strip():
            found.append(f"{field} is empty")
    if not task.forms or any(form not in KINDS for form in task.forms):
        found.append(f"forms must be some of {', '.join(KINDS)}")
    if task.default_form not in task.forms:
        found.append("default_form is none of its forms")
    if all(KINDS.get(form) in NATS for form in task.forms) != (task.metric == "cross_entropy"):
        found.append("the forms text and completion go with the metric cross_entropy, and no other form does")
    if "generate" in task.forms and task.max_new_tokens < 1:
        found.append("the form generate needs max_new_tokens")
    if task.source is None and task.rows is None:
        found.append("it has neither a source nor a function that reads rows")
    if task.uniform is not None and not 0 <= task.uniform <= 1:
        found.append("uniform must lie between 0 and 1")
    return found


def _row_problems(task: Task, row: Mapping[str, Any]) -> list[str]:
    found, ids = [], set()
    for form in (form for form in task.forms if form in KINDS):
        try:
            sample, again = task.to_sample(dict(row), form, 0), task.to_sample(dict(row), form, 0)
        except (RankscopeError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            found.append(f"{form}: to_sample failed: {type(error).__name__}: {error}")
            continue
        ids.add(sample.id)
        if sample != again:
            found.append(f"{form}: the same row gives two different samples")
        bad = [f"{form}, item {sample.id}: {problem}" for problem in sample_problems(sample, form)]
        found += bad or _scorer_problems(task, sample, form)
    if len(ids) > 1:
        found.append(f"an item has several ids: {', '.join(sorted(ids))}")
    return found


def _choice_problems(sample: Sample) -> list[str]:
    found = []
    if len(sample.choices) < 2:
        found.append("there are fewer than two choices")
    if not all(choice.startswith(" ") and choice.strip() for choice in sample.choices):
        found.append("a choice is empty or doesn't start with a space")
    if sample.answer is None or not 0 <= sample.answer < len(sample.choices):
        found.append("the answer points at no choice")
    elif sample.target != sample.choices[sample.answer]:
        found.append("the target isn't the right choice")
    elif sample.prompts:
        found += _prompts_problems(sample)
    if not set(sample.accepted) <= set(sample.choices):
        found.append("an accepted answer is none of the choices")
    return found


def _prompts_problems(sample: Sample) -> list[str]:
    found = []
    if len(sample.prompts) != len(sample.choices):
        return ["there is not one prompt a choice"]
    if sample.prompt != sample.prompts[sample.answer]:
        found.append("the prompt isn't that of the right choice")
    if any(not prompt or prompt != prompt.rstrip() for prompt in sample.prompts):
        found.append("one of the prompts is empty or ends in white space")
    if len(set(zip(sample.prompts, sample.choices, strict=True))) < len(sample.choices):
        found.append("two choices have the same prompt and the same text")
    return found


def _scorer_problems(task: Task, sample: Sample, form: str) -> list[str]:
    name = task.scorers.get(form, SCORERS[form])
    try:
        score = judging.pick(name, {})(sample, judging.perfect(sample))
    except RankscopeError as error:
        return [f"{form}: the scorer {name!r} failed: {error}"]
    best = 0.0 if KINDS[form] in NATS else 1.0
    if score.value != best or score.item != sample.id:
        return [f"{form}: the scorer {name!r} gives a perfect response {score.value} instead of {best}"]
    return []
