"""The first sentence of each part of the page, written from numbers and verdict words. In: a `View`. Out: text.

Every number comes with its interval; what was not measured is said. Decides nothing: the words are those of the
verdicts and of the recommendation.
"""

from __future__ import annotations

from rankscope.records import GIVEN
from rankscope.report import wording as w
from rankscope.report.answer_rows import Advice, Aspect
from rankscope.report.cells import where
from rankscope.report.rows import Effect, Headline
from rankscope.report.view import View

SPOKEN = 2
"""Models and train tasks that an opening speaks of by name; of more it says how many there are."""


def verdict(view: View) -> str:
    """The arm to use, and how it stands against full SFT in gain, retention and cost."""
    rows = [a for a in view.advice if a.choice.arm]
    if not rows:
        return "" if view.verdicts else view.verdict
    said = [f"{_place(view, a)}use {a.choice.arm} ({a.choice.span} can be the best): {_against(view, a)}" for a in rows]
    return _sentences(said)


def performance(view: View) -> str:
    """How far the gain moves with rank, and how many ranks are shown to match full SFT."""
    said = []
    for model, train in view.blocks:
        rows = [h for h in view.headlines if (h.model, h.train) == (model, train) and h.gain]
        ranked = sorted((h for h in rows if h.kind == "lora"), key=lambda h: h.gain.contrast.estimate.value)
        if ranked:
            place = _named(view, model, train)
            said.append(f"{place}{_range_of_gains(ranked)}; {_matching(view, model, train, ranked)}")
    return _sentences(said) or "No arm has both a finished run and a scored base, so nothing compares."


def forgetting(view: View) -> str:
    """What the recommended arm and full SFT lost of what the base could do, and the alarms."""
    said = []
    for model, train in view.blocks:
        rows = [h for h in view.headlines if (h.model, h.train) == (model, train)]
        chosen = [a.choice.arm for a in view.advice if (a.model, a.train) == (model, train)]
        mine = [h for h in rows if h.arm in chosen or h.kind == "full" or h.kind in GIVEN]
        lost = [f"{h.arm} {w.change(h.forgotten, 'accuracy')}" for h in mine if h.forgotten]
        if lost:
            said.append(f"{_named(view, model, train)}points forgotten, pooled: {w.listing(lost)}")
    text = _sentences(said)
    return f"{text or 'Pooled forgetting is not measured.'} {_alarms(view)}"


def within(view: View) -> str:
    """The first lead of what was read inside, or that nothing was."""
    leads = [said for _, _, said in view.inside.leads if said]
    if leads:
        first = f"{leads[0].split('. ')[0].rstrip('.')}."
        return f"{_named(view, *view.inside.leads[0][:2])}{first} What that did to gain and forgetting is below."
    return (
        "Nothing was read inside the networks: this study names no diagnostics under 'diagnose', so only what was "
        "declared stands here."
    )


def money(view: View) -> str:
    """What was measured that can be priced."""
    known = [c for c in view.costs if c.seconds.value]
    parts = [f"{_inside(c.part)} {w.duration(c.seconds.value)}" for c in known]
    took = f"Measured while this study ran: {w.listing(parts)}." if parts else "No time has been measured yet."
    return f"{took} There is money here only for prices that you type."


def method(view: View) -> str:
    """How much the page rests on, and how much of it failed or is missing."""
    runs = len([r for r in view.counted if r.role == "final" and r.status == "done"])
    tried = f", {len(view.trials)} tries of a learning rate" if view.trials else ""
    failed = f"{len(view.failures)} failed" if view.failures else "none failed"
    gaps = f"{w.plural(len(view.missing), 'gap')} left" if view.missing else "nothing is missing"
    found = [s for s in view.shared if s.overlap is not None]
    hit = [s for s in found if s.overlap.ngram or s.overlap.exact]
    shared = "overlap of test items with the training rows was not measured"
    if found:
        shared = f"{w.plural(len(hit), 'pair')} of {len(found)} train and test sets share items"
    return f"{w.plural(runs, 'finished run')} count{'s' if runs == 1 else ''}{tried}; {failed}, {gaps}; {shared}."


def _inside(name: str) -> str:
    """A name as it stands inside a sentence; one that begins with an acronym stays."""
    return name if name[:2].isupper() else name[:1].lower() + name[1:]


def _against(view: View, row: Advice) -> str:
    """The recommended arm minus full SFT, or minus the base where there is no full SFT."""
    aspects = {a.name if a.effect else a.what: a for a in reversed(row.aspects)}
    own = next((h for h in view.headlines if (h.model, h.train, h.arm) == (row.model, row.train, row.choice.arm)), None)
    if not row.aspects:
        return f"{_against_base(own)}; there is no full SFT to set it against"
    said = [f"{_effect(aspects[key].effect)} {words}" if key in aspects else f"{words} not measured"
            for key, words in (("Learning", "in domain"), ("Retention", "of retention"))]  # fmt: skip
    return f"against full SFT {', '.join(said)}; {_share(aspects.get('Trained parameters'))}"


def _against_base(own: Headline | None) -> str:
    if own is None or own.gain is None:
        return "its gain over the base is not measured"
    lost = f"forgotten {w.change(own.forgotten, 'accuracy')} points" if own.forgotten else "forgetting not measured"
    return f"against the base {_effect(own.gain)} in domain, {lost}"


def _effect(effect: Effect) -> str:
    """'−0.2 [−1.3, +0.9] points (within the margin)', with the simultaneous interval that the word reads."""
    c = effect.contrast
    return f"{w.shown(c, effect.metric)} {w.unit(effect.metric)} ({w.VERDICTS[c.verdict]})"


def _share(aspect: Aspect | None) -> str:
    if aspect is None or not aspect.ours or not aspect.theirs:
        return "trained parameters not measured"
    return f"it trains {w.portion(aspect.ours / aspect.theirs)} of the parameters that full SFT trains"


def _range_of_gains(ranked: list[Headline]) -> str:
    low, high = ranked[0], ranked[-1]
    unit = w.unit(low.gain.metric)
    if low is high:
        return f"{low.arm} gains {w.change(low.gain.contrast.estimate, low.gain.metric)} {unit}"
    least, most = (w.change(h.gain.contrast.estimate, h.gain.metric) for h in (low, high))
    return f"over {len(ranked)} LoRA arms the gain goes from {least} ({low.arm}) to {most} {unit} ({high.arm})"


def _matching(view: View, model: str, train: str, ranked: list[Headline]) -> str:
    """How the LoRA arms compare with full SFT in domain, by verdict words."""
    fulls, arms = {a.name for a in view.arms if a.kind == "full"}, {h.arm for h in ranked}
    words = [e.contrast.verdict for e in view.effects if (e.model, e.train, e.role) == (model, train, "in_domain")
             and e.contrast.arm in arms and e.contrast.other in fulls]  # fmt: skip
    if not words:
        return "none could be compared with full SFT"
    counts = [f"{words.count(key)} {word}" for key, word in w.VERDICTS.items() if key in words]
    return f"against full SFT {w.listing(counts)}"


def _alarms(view: View) -> str:
    hits = [e for e in view.effects if e.is_alarm]
    limit = f"{100 * view.alarm:g} points"
    if not any(t.effect for t in view.transfer):
        return "No task was scored after training."
    if not hits:
        return f"No drop on any one task is shown to be beyond {limit}."
    worst = min(hits, key=lambda e: e.contrast.high)
    what = f"{worst.contrast.arm} {w.shown(worst.contrast, worst.metric)} on {worst.task}"
    drops = "1 drop is" if len(hits) == 1 else f"{len(hits)} drops are"
    return f"{drops} shown beyond {limit}, the worst {what}."


def _place(view: View, row: Advice) -> str:
    return _named(view, row.model, row.train)


def _named(view: View, model: str, train: str) -> str:
    """'Trained on gsm8k: ' where there is more than one to tell apart."""
    if len(view.blocks) < 2:
        return ""
    place = where(view, model, train)
    return f"{place[:1].upper()}{place[1:]}: "


def _sentences(said: list[str]) -> str:
    """At most `SPOKEN` of them, each a sentence, and how many more there are."""
    told = [f"{text[:1].upper()}{text[1:]}." for text in said[:SPOKEN]]
    more = len(said) - len(told)
    return " ".join([*told, *([f"{more} more below."] if more else [])])
