"""A prepared task turned into scores. In: a Base (with or without an adapter in use) and a task. Out: EvalResult."""

from __future__ import annotations

from rankscope.clock import Clock
from rankscope.data.batching import Example, fit_prompt
from rankscope.errors import DataError, RunFailed
from rankscope.evaluation.engine import Request, Tick, weigh
from rankscope.evaluation.generation import generate
from rankscope.models import sampling
from rankscope.models.base import OUT_OF_MEMORY, Base, is_out_of_memory
from rankscope.records import EvalResult, Ledger
from rankscope.stats.cost import SCORE_TOKENS as BATCH_TOKENS
from rankscope.tasks.scoring import Response
from rankscope.tasks.task import Prepared

MAX_TEXT = 768  # tokens of a neutral text that are scored, as in PEFT's published comparison


def evaluate(
    base: Base,
    task: Prepared,
    run_key: str,
    task_key: str,
    tick: Tick | None = None,
    batch_tokens: int = BATCH_TOKENS,
    clock: Clock | None = None,
) -> EvalResult:
    """Score every sample. A response that can't be judged makes the evaluation a failed row with the reason.

    All that is compared has the same ``batch_tokens``: they move log-likelihoods a little.
    """
    clock = clock or Clock()
    with clock.stage("scoring"):
        return _evaluate(base, task, (run_key, task_key), tick, batch_tokens, clock)


def _evaluate(
    base: Base, task: Prepared, keys: tuple[str, str], tick: Tick | None, batch_tokens: int, clock: Clock
) -> EvalResult:
    began = clock.working()
    respond = _generated if task.kind == "generate" else _weighed
    try:
        with sampling.passes(clock, "scoring", base):
            responses, tokens, cut = respond(base, task, tick, batch_tokens, clock)
    except (RuntimeError, MemoryError) as error:
        # Smaller batches for one arm alone would score it in another way than the rest: a failed row is the honest end.
        if not is_out_of_memory(error):
            raise
        ledger = Ledger(seconds=clock.working() - began)
        return EvalResult(*keys, "failed", f"{OUT_OF_MEMORY} in scoring", task.metric, task.chance, (), ledger)
    ledger = Ledger(seconds=clock.working() - began, tokens=tokens, flops=2.0 * base.num_params * tokens)
    try:
        scores = tuple(task.scorer(s, r) for s, r in zip(task.samples, responses, strict=True))
    except RunFailed as error:
        return EvalResult(*keys, "failed", str(error), task.metric, task.chance, (), ledger)
    notes = [f"{cut} items were cut to fit the model"] if cut else []
    notes += [f"{task.blank} blank rows left out"] if task.blank else []
    return EvalResult(*keys, "done", "; ".join(notes), task.metric, task.chance, scores, ledger)


def text_rows(base: Base, task: Prepared) -> tuple[Example, ...]:
    """The texts of a task of kind 'text' as tokens, with a label wherever ``evaluate`` scores one."""
    found, _ = _requests(base, task)
    return tuple(Example((*r.prompt, *r.continuations[0]), len(r.prompt)) for r in found)


def _requests(base: Base, task: Prepared) -> tuple[list[Request], int]:
    """What to weigh, one request a sample, and how many items had to be cut."""
    requests, cut = [], 0
    for sample in task.samples:
        choices = sample.choices or (sample.target,)
        own = sample.prompts or (sample.prompt,) * len(choices)
        if sample.turns:
            pairs = [base.encode_answer(sample.turns)]
        else:
            pairs = [base.encode_pair(prompt, c) for prompt, c in zip(own, choices, strict=True)]
        most = min(base.max_length, MAX_TEXT) if task.kind == "text" else base.max_length
        room = most - max(len(c) for _, c in pairs)
        fitted = [fit_prompt(prompt, max(1, room), base.bos) for prompt, _ in pairs]
        continuations = tuple(c[: most - len(p)] for p, (_, c) in zip(fitted, pairs, strict=True))
        requests.append(Request(fitted[0], continuations, tuple(fitted) if sample.prompts else ()))
        cut += task.kind != "text" and any(len(p) < len(whole) for p, (whole, _) in zip(fitted, pairs, strict=True))
    return requests, cut


def _weighed(
    base: Base, task: Prepared, tick: Tick | None, batch_tokens: int, clock: Clock
) -> tuple[list[Response], int, int]:
    """Responses, tokens passed through the model (shared ones once, no padding), and how many items had to be cut."""
    with clock.stage("tokenising"):
        requests, cut = _requests(base, task)
    passed: list[int] = []
    found = weigh(base, requests, batch_tokens, tick, task.asks_greedy, passed.append)
    responses = []
    for request, weights in zip(requests, found, strict=True):
        values, tops = zip(*weights, strict=True)
        counts = tuple(map(len, request.continuations))
        responses.append(Response(values, counts, greedy=tops if task.asks_greedy else ()))
    return responses, sum(passed), cut


def _generated(
    base: Base, task: Prepared, tick: Tick | None, batch_tokens: int, clock: Clock
) -> tuple[list[Response], int, int]:
    room = base.max_length - task.max_new_tokens
    if room < 1:
        raise DataError(f"{task.ref.name}: max_new_tokens leaves no room for the question", got=task.max_new_tokens,
                        hint=f"This model takes {base.max_length} tokens in all")  # fmt: skip
    is_chat = bool(task.samples and task.samples[0].turns)
    with clock.stage("tokenising"):
        whole = [base.encode_answer(s.turns)[0] if s.turns else base.encode(s.prompt) for s in task.samples]
    prompts = [fit_prompt(p, room, base.bos) for p in whole]
    # A chat's answer ends with the token that closes the turn: it may well have blank lines before that.
    stop, ends = ((), base.chat_ends()) if is_chat else (task.stop, None)
    passed: list[int] = []
    texts = generate(base, prompts, task.max_new_tokens, stop, batch_tokens, tick, ends, passed.append)
    return [Response(text=t) for t in texts], sum(passed), sum(len(p) > room for p in whole)
