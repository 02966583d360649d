"""The verbs that watch: the live page, and the same in the terminal. They join the app of ``verbs``.

In: arguments. Out: a server until Ctrl-C; or how a study stands. Knows how to say it, not how it is counted.
"""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankscope.cli import console
from rankscope.cli.answer import STORE, Asked, answer, failures
from rankscope.cli.money import app
from rankscope.cli.options import DataOpt, JsonOpt, SetOpt, StoreOpt, load
from rankscope.errors import InputError, RankscopeError
from rankscope.provenance import plain

if TYPE_CHECKING:
    from rankscope.storage.watching import Now
    from rankscope.study.result import StudyResult
    from rankscope.study.study import Study
    from rankscope.study.tally import Tally

EVERY = 2.0
"""Seconds between two looks of ``--watch``."""


@app.command(epilog="\b\nExample: rankscope view runs")
def view(
    ctx: typer.Context,
    store: Annotated[str, typer.Argument(metavar="[STORE]", help="The folder of results.")] = STORE,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="N", help="0: any that is free. By default 8765 or one of the next.",
            show_default=False,
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    as_json: JsonOpt = False,
) -> None:  # fmt: skip
    """Show the studies of a store in the browser, live.

    The report's page, growing while runs go on. For this machine alone (127.0.0.1), read-only; the address holds the
    key. Ctrl-C ends it (exit code 0).
    """
    from rankscope.server.access import Pass
    from rankscope.server.app import listen, make_app, serve
    from rankscope.storage.store import Store
    from rankscope.study.study import Study

    Store.open(store, write=False).close()
    at = listen(port)
    access = Pass(at.getsockname()[1])

    def started() -> None:
        data = {"url": access.url, "port": access.port, "store": store, "pid": os.getpid()}
        answer(ctx, as_json, data, f"{access.url}\nThe studies of {store}, live. Ctrl-C ends it.")
        ctx.obj.flush()
        if not no_browser and _has_screen():
            webbrowser.open(access.once())

    serve(make_app(Path(store), Study.stored, access), at, started)


def _has_screen() -> bool:
    """Whether a browser would have a window. Elsewhere one for terminals might be opened, over what is printed."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@app.command(epilog="\b\nExample: rankscope status study.yaml --watch")
def status(
    ctx: typer.Context,
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="The study file (YAML). Without it: the store's studies.")
    ] = None,
    store: StoreOpt = STORE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until the study is done.")] = False,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Show what is done, what runs now, what failed and what is left.

    Without a study: the studies that were run in the store.
    """
    if study is None:
        if watch or overrides or data_dir:
            raise InputError("--watch, --set and --data-dir are about one study", hint="Name its file")
        rows = _listed(store)
        answer(ctx, as_json, {"store": store, "studies": rows}, console.format_table([_shown(row) for row in rows]))
        return
    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    loaded = load(asked)
    look = _look(loaded, store)
    if watch:
        look = _watched(look, asked, ctx.obj, as_json)
        if ctx.obj.isatty() and not as_json:  # it stands there already
            return
    if ctx.obj.isatty() and not as_json:
        _terminal(ctx.obj).print(_board(look, asked))
    else:
        answer(ctx, as_json, look.as_dict(), look.text(asked))


@dataclass(frozen=True)
class _Look:
    """How a study stands at a moment (``at``, seconds since 1970)."""

    loaded: Study
    store: str
    tally: Tally
    result: StudyResult
    now: Now | None
    at: float
    took: float = 0.0
    version: str = ""

    @property
    def is_over(self) -> bool:
        return self.result.is_complete and not self.result.has_more_to_measure

    def as_dict(self) -> dict[str, Any]:
        left = self.tally.seconds_left(self.now, self.at)
        return {"study": self.loaded.config.name, "complete": self.result.is_complete,
                "more_to_measure": self.result.has_more_to_measure, "failed": failures(self.result),
                "plan": self.tally.plan.as_dict(), "verdict": self.result.verdict, "running": plain(self.now),
                "seconds_left": left and left[0], "is_at_least": bool(left and left[1]),
                **self.tally.running(self.now).as_dict()}  # fmt: skip

    def text(self, asked: Asked) -> str:
        lines = [str(self.tally.plan), *self.doing()]
        lines += [f"failed: {name}: {message}" for name, message in self.result.failed]
        return "\n".join([*lines, f"Next: {self.next(asked)}"])

    def doing(self) -> list[str]:
        if self.now is None:
            return []
        return [self.tally.sentence(self.now, self.at), *([f"now: {_piece(self.now)}"] if self.now.work else [])]

    def next(self, asked: Asked) -> str:
        """The command that makes sense now; a study that runs can't be run."""
        if self.now is not None:
            return f"{asked.next('status')} --watch"
        return asked.next("report" if self.is_over else "run")


def _piece(now: Now) -> str:
    loss = f", training loss {now.losses[-1][1]:.3f}" if now.losses else ""
    return f"{now.work}: {now.done} of {now.total} {now.unit}{loss}"


def _look(loaded: Study, store: str, before: _Look | None = None) -> _Look:
    """Look again. What is stored is counted anew only if it has changed, and no oftener than counting is quick."""
    from rankscope.storage.store import Store
    from rankscope.storage.watching import read_now

    began = time.time()
    if before is not None:
        with Store.open(store, write=False) as opened:
            is_same = opened.version() == before.version
        if is_same or began - before.tally.made < _rest(before):
            tally, now = before.tally, read_now(Path(store) / "cache")
            return _Look(loaded, store, tally, before.result, tally.mine(now, loaded.key), began, before.took,
                         before.version)  # fmt: skip
    with Store.open(store, write=False) as opened:
        version = opened.version()
    tally, result = loaded.tally(store), loaded.result(store)
    now, at = read_now(Path(store) / "cache"), time.time()
    return _Look(loaded, store, tally, result, tally.mine(now, loaded.key), at, at - began, version)


def _rest(look: _Look) -> float:
    """Seconds until the store is counted again: the study needs the processor more."""
    return max(2 * EVERY, 3 * look.took)


def _watched(look: _Look, asked: Asked, stdout: Any, as_json: bool) -> _Look:
    """Look every two seconds until the study is done: a board on a terminal, elsewhere a line (stderr) on each change.

    A store that can't be read for a moment (a full disk) doesn't end it.
    """
    from rich.live import Live

    is_board = stdout.isatty() and not as_json
    said = ""
    with Live(_board(look, asked), console=_terminal(stdout), auto_refresh=False) if is_board else _Nothing() as live:
        while True:
            if is_board:
                live.update(_board(look, asked), refresh=True)
            elif (line := look.tally.sentence(look.now, look.at)) != said:
                print(said := line, file=sys.stderr, flush=True)
            if look.is_over and look.now is None:
                return look
            time.sleep(EVERY)
            look = _look(look.loaded, look.store, look)


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _terminal(stdout: Any) -> Any:
    from rich.console import Console

    return Console(file=stdout, highlight=False, markup=False)


_STYLES = {"done": "green", "running": "bold cyan", "to score": "cyan", "to do": "dim", "failed": "bold red",
           "stopped": "yellow"}  # fmt: skip


def _board(look: _Look, asked: Asked) -> Any:
    """The study on a terminal: arms by seeds, what runs now, the verdict so far. Names are text, never markup."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def bar(done: int, total: int) -> Padding:  # padded: a bar alone ends no line
        return Padding(ProgressBar(max(total, 1), done, width=40), 0)

    tally, plan = look.tally.running(look.now), look.tally.plan
    seeds = list(dict.fromkeys(cell.seed for row in tally.rows for cell in row.cells if cell.seed is not None))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    heads = [*(["model"] if len({row.model for row in tally.rows}) > 1 else []), "trained on", "arm"]
    for title in (*heads, *(f"seed {seed}" for seed in seeds or [""])):
        table.add_column(Text(title or "state"))
    for row in tally.rows:
        names = [row.model] * (len(heads) > 2) + [row.train, row.arm]
        cells = [Text(cell.state + (f" ({cell.note})" if cell.note else ""), style=_STYLES[cell.state])
                 for cell in row.cells]  # fmt: skip
        table.add_row(*map(Text, names), *cells)
    parts = [Text(look.loaded.config.title or look.loaded.config.name, style="bold"),
             Text(tally.sentence(look.now, look.at)), bar(plan.num_done, len(plan.runs)), table]  # fmt: skip
    if look.now is not None and look.now.work:
        parts += [Text(f"now: {_piece(look.now)}"), bar(look.now.done, look.now.total)]
    parts += [Text(f"failed: {name}: {message}", style="red") for name, message in look.result.failed]
    parts.append(Text(f"{'Verdict' if look.is_over else 'So far'}: {look.result.verdict}"))
    return Group(*parts, Text(f"Next: {look.next(asked)}", style="dim"))


def _listed(store: str) -> list[dict[str, Any]]:
    """The studies of a store, with how far they are. One whose files can't be found says so."""
    from rankscope.storage.store import Store
    from rankscope.storage.watching import read_now
    from rankscope.study.study import Study

    with Store.open(store, write=False) as opened:
        studies = opened.studies()
    now, rows = read_now(Path(store) / "cache"), []
    for row in studies:
        mine = now if now is not None and now.study == row.key else None
        found = {"key": row.key, "name": row.name, "title": row.title, "run": row.created, "running": mine is not None}
        try:
            tally = Study.stored(row).tally(store)
            found |= {"done": tally.plan.num_done, "total": len(tally.plan.runs), "problem": "",
                      "said": tally.sentence(mine, time.time())}  # fmt: skip
        except RankscopeError as error:
            found |= {"done": None, "total": None, "problem": str(error), "said": ""}
        rows.append(found)
    return rows


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {"study": row["name"], "key": row["key"], "last run (UTC)": row["run"][:16].replace("T", " "),
            "how it goes": row["said"] or row["problem"]}  # fmt: skip
