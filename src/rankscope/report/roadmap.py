"""What the study has done on the way from a base model to an adapter in use, and what comes next. In: a `View`. Out:
`Section`s.

The way is told twice: as the process that ran (steps with counts), and as stages with the command of each. Only
commands of this version are named; what it can't do yet is called that.
"""

from __future__ import annotations

from itertools import count, islice

from rankscope.records import GIVEN
from rankscope.report import wording as w
from rankscope.report.answer_rows import Advice
from rankscope.report.cells import Cell, Section, Step, Table, columns
from rankscope.report.view import View

DONE, PARTLY, NEXT, ABSENT = "done", "partly", "next", "not built"
_TONES = {DONE: "good", PARTLY: "flag", NEXT: "open", ABSENT: "quiet"}
Row = tuple[str, str, str, str, str]


def process(view: View) -> Section:
    """From the base model to mitigation: what was done in this study, by counts."""
    steps = (_base(view), _train(view), _evaluate(view), _diagnose(view), _mitigate())
    intro = "How the numbers of this part came to be, and where the study stopped."
    return Section("process", "From the base model to mitigation", intro, (), "Process", steps=steps)


def _base(view: View) -> Step:
    scored = [b for b in view.base if b.estimate]
    open_ones = list(dict.fromkeys(b.task for b in scored if b.is_above_chance is False))
    flag = f"; not above chance on {w.listing(open_ones)}" if open_ones else ""
    text = f"{w.listing(view.models)}: scored untouched on {w.plural(len({b.task for b in scored}), 'task')}{flag}."
    return Step("Base", text if scored else "Not scored yet.", DONE if scored else NEXT)


def _train(view: View) -> Step:
    trained = [a for a in view.arms if a.kind not in ("base", *GIVEN)]
    if not trained:
        return Step("Train", "Nothing is trained here: the arms existed already.", DONE)
    runs = [r for r in view.counted if r.role == "final" and r.arm in {a.name for a in trained}]
    done, failed = (sum(r.status == status for r in runs) for status in ("done", "failed"))
    parts = [f"{w.plural(len(trained), 'arm')} on {w.listing(view.train)}, {w.plural(len(view.seeds), 'seed')}",
             f"{w.plural(done, 'run')} finished"]  # fmt: skip
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{w.plural(len(view.trials), 'trial')} of learning rates"] if view.trials else []
    parts += [f"{len(view.dropped)} stopped early"] if view.dropped else []
    state = DONE if done and not failed and not view.missing else PARTLY if done else NEXT
    return Step("Train", f"{'; '.join(parts)}.", state)


def _evaluate(view: View) -> Step:
    out = {(d.model, d.train, d.arm) for d in view.dropped if d.is_out}
    cells = [t for t in view.transfer if (t.model, t.train, t.arm) not in out]
    there = [t for t in cells if t.effect is not None]
    tasks = {t.task for t in there}
    text = f"{len(there)} of {len(cells)} pairs of arm and task scored, over {w.plural(len(tasks), 'task')}; "
    text += f"{len(view.effects)} comparisons judged together."
    state = DONE if cells and len(there) == len(cells) else PARTLY if there else NEXT
    return Step("Evaluate", text if there else "No arm has been scored beside its base.", state)


def _diagnose(view: View) -> Step:
    arms = {r.arm for r in view.inside.rows}
    if not arms:
        return Step("Diagnose", "Nothing was read inside the networks. A study asks for it under 'diagnose'.", NEXT)
    parts = [f"{len({r.name for r in view.inside.rows})} kinds of numbers read"]
    parts += ["which part carries the gain asked"] if view.inside.carried else []
    unread = f"; {len(view.inside.unread)} not measured" if view.inside.unread else ""
    text = f"{' and '.join(parts)} in {w.plural(len(arms), 'arm')}{unread}."
    return Step("Diagnose", text[:1].upper() + text[1:], PARTLY if view.inside.unread else DONE)


def _mitigate() -> Step:
    return Step("Mitigate", "This version has no way to undo forgetting yet; what it shows is which arm forgets least.",
                ABSENT)  # fmt: skip


def roadmap(view: View) -> Section:
    """Discovery, pilot and integration, step by step, with the command of each."""
    rows = [*_discovery(view), *_pilot(view), *_integration(view)]
    heads = columns("Stage", "Step", "Here", "Command")
    cells = tuple((Cell(stage), Cell(step, note), Cell(state, "", _TONES[state]), Cell(command, "", "code"))
                  for stage, step, note, state, command in rows)  # fmt: skip
    intro = f"{study_file(view)} stands for the file of this study. What was run before is not run again."
    if _is_demo(view):
        intro += " The demo's own file comes with the package, as rankscope/demo/study.yaml."
    table = Table("roadmap", "From this study to an adapter in use", heads, cells)
    return Section("roadmap", "What is done, and what comes next", intro, (table,), "Stages")


def opening(view: View) -> str:
    """How far the study is, and the next step with its command."""
    rows = [*_discovery(view), *_pilot(view), *_integration(view)]
    done = sum(state == DONE for *_, state, _ in rows)
    following = next((row for row in rows if row[3] in (PARTLY, NEXT)), None)
    text = f"{done} of {len(rows)} steps are done"
    if following is None:
        return f"{text}; nothing is left that this version can do."
    stage, step, _, _, command = following
    return f"{text}; next, in {stage.lower()}: {step[:1].lower()}{step[1:]} ({command})."


def _is_demo(view: View) -> bool:
    """Whether this is the bundled study, which has a command of its own."""
    return (view.name, view.models) == ("demo", ("demo",))


def study_file(view: View) -> str:
    return f"{view.name}.yaml"


def _discovery(view: View) -> list[Row]:
    file, run = study_file(view), "rankscope demo" if _is_demo(view) else f"rankscope run {study_file(view)}"
    chosen = [a.choice.arm for a in view.advice if a.choice.arm]
    runs = [r for r in view.counted if r.role == "final" and r.status == "done"]
    state = DONE if runs and not view.missing and not view.failures else PARTLY if runs else NEXT
    left = [f"{len(view.failures)} failed"] * bool(view.failures) + [f"{len(view.missing)} left"] * bool(view.missing)
    said = f"{w.plural(len(runs), 'run')} finished" + "".join(f", {text}" for text in left)
    range_said = f"{w.listing(list(dict.fromkeys(chosen)))} recommended" if chosen else "no range yet"
    return [
        (
            "Discovery",
            "Say what is asked, and check it",
            w.plural(len(view.arms), "arm"),
            DONE,
            f"rankscope check {file}",
        ),
        ("Discovery", "Train and score every arm", said, state, run),
        ("Discovery", "Read the range of ranks", range_said, DONE if chosen else NEXT, f"rankscope recommend {file}"),
    ]


def _pilot(view: View) -> list[Row]:
    file = study_file(view)
    asked = [a for a in view.advice if a.choice.open_question and _seeds_help(view, a)]
    known = [n for a in asked if a.choice.needed and (n := a.choice.needed.seeds)]
    seeds = max([*known, 2 * max(len(view.seeds), 1)]) if asked else 0
    kept = next((a.retain for a in view.advice if a.retain is not None), None)
    rows: list[Row] = []
    if asked:
        fresh = (seed for seed in count() if seed not in view.seeds)  # those of the study stay, with what they cost
        listed = ",".join(map(str, [*view.seeds, *islice(fresh, max(0, min(seeds, 99) - len(view.seeds)))]))
        rows.append(("Pilot", "Settle what is open with more seeds", asked[0].choice.open_question, NEXT,
                     f'rankscope run {file} --set "training.seeds=[{listed}]"' if seeds <= 20 else
                     f"rankscope plan {file}  ({seeds} seeds would be needed)"))  # fmt: skip
    note = f"{100 * kept:g} % asked" if kept is not None else "this study asked for no share"
    rows.append(("Pilot", "Say how much of what the base knows must stay", note, NEXT if kept is None else DONE,
                 f"rankscope recommend {file} --retain 0.95"))  # fmt: skip
    if view.cases:
        rows.append(("Pilot", "Say what a year of it costs and saves", "by prices typed on this page or in a file",
                     NEXT, f"rankscope roi {file} --prices prices.yaml"))  # fmt: skip
    if view.inside.carried:
        rows.append(("Pilot", "Adapt only what carried the gain", "which parts did was measured", NEXT,
                     f"rankscope propose {file}"))  # fmt: skip
    else:
        rows.append(("Pilot", "Look inside the recommended arm", "attribution was not asked for", NEXT,
                     f'rankscope run {file} --set "diagnose=[spectrum,attribution]"'))  # fmt: skip
    return rows


def _seeds_help(view: View, advice: Advice) -> bool:
    """Whether more seeds could settle it, as far as is known. From one seed nothing is known of what others do."""
    needed = advice.choice.needed
    return needed is None or needed.seeds is not None or len(view.seeds) == 1


def _integration(view: View) -> list[Row]:
    last = ("Integration", "Gate, serve and monitor it", "not in this version", ABSENT, w.NOTHING)
    chosen = next((a for a in view.advice if a.choice.arm), None)
    if chosen is None:
        return [last]
    arm, seed = chosen.choice.arm, view.seeds[0] if view.seeds else 0
    train = f', train="{chosen.train}"' if len(view.train) > 1 else ""
    model = f', model="{chosen.model}"' if len(view.models) > 1 else ""
    found = f'Study.load("{study_file(view)}").result("runs").adapter("{arm}", seed={seed}{train}{model})'
    take = f'{found}.save("{arm}")'
    return [
        ("Integration", "Take the adapter out, in PEFT's format", "Python", NEXT, take),
        ("Integration", "Audit it, layer by layer", "no training", NEXT, f"rankscope audit {arm}"),
        ("Integration", "Cut it to the rank it uses", "", NEXT,
         f"rankscope adapter truncate {arm} --energy 0.99 -o {arm}-99"),
        last,
    ]  # fmt: skip
