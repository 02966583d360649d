"""What the numbers allow to be said, in sentences. In: the view's rows of one train task. Out: a `Verdict`.

Words follow simultaneous intervals only. What was not shown is called that: an arm is never said to have kept something
because no loss was found. Knows no records of runs, no HTML.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rankscope.records import ALARM, GIVEN
from rankscope.report import UNTRAINED
from rankscope.report import wording as w
from rankscope.report.rows import BaseRow, Effect, Headline, Verdict
from rankscope.stats.recommend import Recommendation

SHOWN, LOST, OPEN, NO_DATA = "shown", "lost", "not shown", "no data"
MOST_NAMED = 10
_AGAINST_BASE = {
    "better": "better than the base",
    "worse": "worse than the base",
    "equivalent": "within the margin of the base",
    "undecided": "not told apart from the base",
}
KEPT_WORDS = {SHOWN: "shown retained", LOST: "forgot", OPEN: "not shown to be retained", NO_DATA: "not measured"}


@dataclass(frozen=True)
class Block:
    """The rows that one verdict is about: one model, one train task."""

    model: str
    train: str
    headlines: tuple[Headline, ...]
    effects: tuple[Effect, ...]
    base: tuple[BaseRow, ...]
    margin: float
    alarm: float = ALARM
    names_model: bool = False
    choice: Recommendation | None = None

    @property
    def about(self) -> str:
        """What a sentence is about: 'Trained on gsm8k', with the model's name where there are several."""
        return f"{self.model}, trained on {self.train}" if self.names_model else f"Trained on {self.train}"

    @property
    def in_domain(self) -> Effect | None:
        return next((h.gain for h in self.headlines if h.gain), None)

    def ranks(self, headlines: list[Headline]) -> str:
        """'ranks 4 and 8'; the arms' names where the study has several arms of one rank."""
        every = [h.rank for h in self.headlines if h.kind == "lora"]
        if len(set(every)) < len(every):
            return w.listing([h.arm for h in headlines])
        found = sorted({h.rank for h in headlines if h.rank is not None})
        return ("rank " if len(found) == 1 else "ranks ") + w.listing([str(r) for r in found])

    def against_full(self, arm: str) -> Effect | None:
        """The arm's in-domain difference to full SFT, on the task the gain is about."""
        task = self.in_domain.task if self.in_domain else None
        fulls = {h.arm for h in self.headlines if h.kind == "full"}
        return next(
            (e for e in self.effects if e.contrast.arm == arm and e.contrast.other in fulls and e.task == task), None
        )


def judge(block: Block) -> Verdict:
    """The sentence to quote for one train task, and the labelled details behind it."""
    if block.train == UNTRAINED:
        parts = (_learned, _kept, _alarms, _open, _format, _left_out, _gaps)
        points = [point for part in parts if block.in_domain or part in _WITHOUT_GAIN for point in part(block)]
        return Verdict(block.model, block.train, _given_lead(block), tuple(points))
    if block.in_domain is None:
        lead = f"{block.about}: nothing can be said yet; no arm has both a finished run and a scored base."
        return Verdict(block.model, block.train, lead, tuple(_gaps(block)))
    points = [
        *_recommended(block),
        *_learned(block),
        *_kept(block),
        *_alarms(block),
        *_open(block),
        *_format(block),
        *_left_out(block),
        *_gaps(block),
    ]
    return Verdict(block.model, block.train, _lead(block), tuple(points))


def _given_lead(block: Block) -> str:
    """What each arm that existed already does better or worse than the base, where nothing was trained."""
    scored = [h for h in block.headlines if h.num_seeds]
    if not scored:
        return "Nothing can be said yet: no arm has been scored beside its base."
    said = [block.model] * block.names_model
    for h in scored:
        mine = [e for e in block.effects if e.contrast.arm == h.arm and e.role == "in_domain"]
        learned = [f"{_AGAINST_BASE[e.contrast.verdict]} on {e.task} ({w.shown(e.contrast, e.metric)} "
                   f"{w.unit(e.metric)})" for e in mine]  # fmt: skip
        kept = KEPT_WORDS[h.kept] + (f" ({h.kept_reason})" if h.kept_reason else "")
        said.append(f"{h.arm}: " + "; ".join([*learned, f"retention: {kept}"]))
    return ". ".join(said) + "."


def _lead(block: Block) -> str:
    ranked = [h for h in block.headlines if h.kind == "lora" and h.gain]
    full = next((h for h in block.headlines if h.kind == "full" and h.gain), None)
    enough, reason = _enough(block, ranked, full)
    text = f"{block.about}: {reason}"
    if enough:
        text += _retained(block, enough)
    return f"{text}.{_range(block)}{_scope(block)}"


def _range(block: Block) -> str:
    """The recommended range and arm in one sentence."""
    choice = block.choice
    if choice is None or choice.ranks is None:
        return ""
    apart = "" if choice.is_told_apart or len(choice.possible) == 1 else " (none of them can be told apart)"
    chosen = next((h for h in block.headlines if h.arm == choice.arm), None)
    doubt = "" if chosen and _word(chosen.gain) == "better" else ", of which no gain is shown"
    doubt += ", which is shown to forget" if chosen and chosen.kept == LOST else ""
    so_far = " so far" if choice.awaited else ""
    left = f" ({w.listing(list(choice.awaited))} not scored yet)" if choice.awaited else ""
    return f" Recommended{so_far}: {choice.span}{apart}; of these {choice.arm}{doubt}{left}."


def _recommended(block: Block) -> list[tuple[str, str]]:
    """Why this range and this arm, and what is open."""
    choice = block.choice
    if choice is None or choice.arm is None:
        return []
    more = f" {w.needed(choice.needed)[:1].upper()}{w.needed(choice.needed)[1:]}." if choice.needed else ""
    open_question = f" {choice.open_question}." if choice.open_question else ""
    return [("Recommended", f"{choice.reason}.{open_question}{more}")]


def _retained(block: Block, enough: list[Headline]) -> str:
    """What is said of the retention of the ranks that are enough; silence would read as a promise."""
    kept, lost = [h for h in enough if h.kept == SHOWN], [h for h in enough if h.kept == LOST]
    each = len(enough) > 1
    if len(kept) == len(enough):
        return ", and retention is shown within the margin" + (" for each of them" if each else "")
    if kept:
        return f", and of these retention is shown within the margin for {block.ranks(kept)}"
    if len(lost) == len(enough):
        return ", but each of them forgot" if each else ", but it forgot"
    if all(h.kept == NO_DATA for h in enough):
        return "; retention has not been measured"
    text = ", but no rank among them" if each else ", but it"
    return f"{text} is {'' if each else 'not '}shown to be retained" + (
        f" ({block.ranks(lost)} forgot)" if lost else ""
    )


def _enough(block: Block, ranked: list[Headline], full: Headline | None) -> tuple[list[Headline], str]:
    """The ranks shown to be enough, and the clause that says so."""
    margin = f"{w.plain_number(block.margin, block.in_domain.metric)} {w.unit(block.in_domain.metric)}"
    learned = [h for h in ranked if _word(h.gain) == "better"]
    if not ranked:
        return [], "no LoRA run has finished, so no rank can be judged"
    if full is None:
        if not learned:
            return [], "no rank is shown to have learned anything"
        return learned, f"{block.ranks(learned)} learned; {_no_full(block)} to say whether that is enough"
    if _word(full.gain) != "better":
        which = f"; {block.ranks(learned)} did" if learned else ", and neither is any rank"
        return [], f"full SFT is not shown to have learned, so it can't serve as the yardstick{which}"
    words = {h.arm: _word(block.against_full(h.arm)) for h in ranked}
    enough = [h for h in learned if words[h.arm] in ("equivalent", "better")]
    if not enough:
        return [], _not_enough(block, ranked, words, margin)
    which = block.ranks(enough[:1])
    text = f"{which} is the lowest rank shown to learn as much as full SFT (to within {margin}, or more)"
    if not which.startswith("rank "):
        text = f"{which} is the one arm shown to learn as much as full SFT (to within {margin}, or more)"
    if len(enough) > 1:
        text = f"{block.ranks(enough)} are shown to learn as much as full SFT (to within {margin}, or more)"
    return enough, text


def _no_full(block: Block) -> str:
    """Why full SFT says nothing."""
    full = next((h for h in block.headlines if h.kind == "full"), None)
    if full is None:
        return "there is no full SFT"
    return "full SFT has no score in domain " + ("(runs failed)" if full.num_failed else "yet")


def _not_enough(block: Block, ranked: list[Headline], words: dict[str, str], margin: str) -> str:
    """What is known of each rank when none is shown to be enough."""
    left = [h for h in ranked if words[h.arm] == "undecided"]
    close = [h for h in ranked if words[h.arm] in ("equivalent", "better")]
    worse = [h for h in ranked if words[h.arm] == "worse"]
    missing = [h for h in ranked if words[h.arm] == "missing"]
    clauses = []
    if left:
        what = "to learn as much as" if close else f"to be within {margin} of"
        clauses.append(f"no rank is shown {what} full SFT; {block.ranks(left)} can't be ruled out either")
    if close:
        own = "its" if len(close) == 1 else "their"
        clauses.append(
            f"{block.ranks(close)} did not fall behind full SFT beyond {margin}, but no gain of {own} own is shown"
        )
    if worse:
        clauses.append(f"{block.ranks(worse)} learned less than full SFT")
    if missing:
        clauses.append(
            f"{block.ranks(missing)} {'has' if len(missing) == 1 else 'have'} not been compared with full SFT"
        )
    return "; ".join(clauses)


def _learned(block: Block) -> list[tuple[str, str]]:
    """What changed on each in-domain task, the first one first."""
    effects = [e for e in block.effects if e.role == "in_domain" and e.contrast.other == "base"]
    tasks = dict.fromkeys([block.in_domain.task, *(e.task for e in effects)])
    return [("Learned", _learned_on([e for e in effects if e.task == task])) for task in tasks]


def _learned_on(effects: list[Effect]) -> str:
    groups = {
        "better": "",
        "equivalent": "no change beyond the margin",
        "worse": "got worse",
        "undecided": "not decided",
    }
    parts = []
    for word, title in groups.items():
        arms = [f"{e.contrast.arm} {w.shown(e.contrast, e.metric)}" for e in effects if _word(e) == word]
        parts += [(f"{title}: " if title else "") + ", ".join(_some(arms))] if arms else []
    unit = w.unit(effects[0].metric)
    return f"{'; '.join(parts)} ({unit} on {effects[0].task}, against the base; simultaneous intervals)."


def _kept(block: Block) -> list[tuple[str, str]]:
    parts = []
    for state in (SHOWN, LOST, OPEN, NO_DATA):
        arms = [h.arm for h in block.headlines if h.kept == state and (h.gain or block.train == UNTRAINED)]
        if arms:
            parts.append(f"{KEPT_WORDS[state]}: {w.listing(_some(arms))}")
    return [("Kept", _upper("; ".join(parts)) + ".")] if parts else []


def _some(arms: list[str]) -> list[str]:
    """The arms, or of many the first and how many more there are: the tables have all."""
    return arms if len(arms) <= MOST_NAMED else [*arms[: MOST_NAMED - 1], f"{len(arms) - MOST_NAMED + 1} more"]


def _alarms(block: Block) -> list[tuple[str, str]]:
    """Drops whose whole interval lies beyond the alarm, and apart from them those that are only estimated there."""
    limit, points = f"{100 * block.alarm:g} points", []
    kinds = (("Alarm", "Shown drops", True), ("Large drop", "Shown drops, estimated", False))
    for label, what, is_alarm in kinds:
        hits = [e for e in block.effects if e.is_large and e.is_alarm == is_alarm]
        lines = [f"{e.contrast.arm} {w.shown(e.contrast, e.metric)} on {e.task}" for e in hits]
        points += [(label, f"{what} beyond {limit}: {'; '.join(lines)} (simultaneous intervals).")] if lines else []
    return points


def _open(block: Block) -> list[tuple[str, str]]:
    open_effects = [e for e in block.effects if e.contrast.verdict == "undecided"]
    key = [e for e in open_effects if e.role == "in_domain"]
    if not open_effects:
        return []
    named = [f"{e.contrast.arm} against {e.contrast.other} on {e.task} ({_could_see(e)})" for e in key[:3]]
    text = f"{len(open_effects)} of {len(block.effects)} comparisons"
    if named:
        text += f", in domain: {'; '.join(named)}" + (f" and {len(key) - 3} more" if len(key) > 3 else "")
    more = "More items" if block.train == UNTRAINED else "More items or seeds"
    return [("Not decided", f"{text}. {more} would narrow them.")]


def _could_see(effect: Effect) -> str:
    change, seen = w.shown(effect.contrast, effect.metric), effect.contrast.detectable
    if not math.isfinite(seen):
        return f"{change}; the study could see no difference"
    return f"{change}; the study could see {w.plain_number(seen, effect.metric)} {w.unit(effect.metric)}"


def _format(block: Block) -> list[tuple[str, str]]:
    """How much a prompt with examples already gives: that part of a gain may be format, not knowledge."""
    for row in block.base:
        for shot in row.few_shot:
            if row.task == block.in_domain.task and shot.lift is not None:
                lift = w.change(shot.lift, row.metric)
                is_better = shot.lift.high < 0 if w.is_nats(row.metric) else shot.lift.low > 0
                rise = "so part of the gain may be format" if is_better else "so format alone does not explain a gain"
                if shot.lift.low <= 0 <= shot.lift.high:
                    rise = "which does not show an effect of format"
                change = f"{lift} {w.unit(row.metric)}"
                text = f"{shot.shots} examples in the prompt, without training, change the base by {change}"
                return [("Format", f"{text}, {rise}.")]
    return []


def _left_out(block: Block) -> list[tuple[str, str]]:
    names = [r.task for r in block.base if "retention" in r.roles and r.is_above_chance is False]
    if not names:
        return []
    verb = "is" if len(names) == 1 else "are"
    return [
        (
            "At chance",
            f"The base is not shown above chance on {w.listing(names)}, which {verb} left out of pooled retention.",
        )
    ]


def _gaps(block: Block) -> list[tuple[str, str]]:
    lines = []
    for h in block.headlines:
        if h.num_failed:
            lines.append(
                f"{h.arm}: {w.plural(h.num_failed, 'run')} failed and {'is' if h.num_failed == 1 else 'are'} in no mean"
            )
        elif h.num_seeds < h.num_seeds_planned:
            lines.append(f"{h.arm}: {h.num_seeds} of {w.plural(h.num_seeds_planned, 'seed')} finished")
    return [("Missing", "; ".join(lines) + ".")] if lines else []


def _scope(block: Block) -> str:
    gains = [h for h in block.headlines if h.gain and h.kind not in GIVEN]
    single = [h for h in gains if h.gain.contrast.estimate.num_seeds == 1]
    if gains and len(single) == len(gains):
        return " All of it speaks for this seed only."
    return f" What is said of {w.listing([h.arm for h in single])} speaks for this seed only." if single else ""


_WITHOUT_GAIN = (_kept, _alarms, _open, _left_out, _gaps)


def _word(effect: Effect | None) -> str:
    return effect.contrast.verdict if effect else "missing"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
