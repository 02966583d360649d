"""What finished work took, of all studies of a store. In: an open store. Out: ``Past``s, without scores or curves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import text

from rankscope.records import Ledger
from rankscope.storage.store import Store


@dataclass(frozen=True)
class Past:
    """One finished piece of work. ``spec`` is the run's, as plain data, and ``environment`` says where it was made.

    ``kind``: the run was trained ('train'), choices or texts were weighed ('weigh'), answers written ('generate'), a
    divergence taken ('kl'), or it was looked into ('diagnose'). ``key`` is the run's own, ``measure`` the key of what
    was measured of it, ``name`` the task's or diagnostic's.
    """

    kind: Literal["train", "weigh", "generate", "kl", "diagnose"]
    key: str
    measure: str
    name: str
    ledger: Ledger
    spec: dict[str, Any]
    environment: dict[str, Any]

    @property
    def model(self) -> str:
        return self.spec["model"]["key"]

    @property
    def arm(self) -> str:
        """The arm's kind."""
        return self.spec["arm"]["kind"]

    @property
    def device(self) -> str:
        return str(self.environment.get("device", ""))


def measured(store: Store) -> set[tuple[str, str]]:
    """(run key, key) of everything that was measured of any run, failed attempts included."""
    with store._reading() as db:
        found = {(run, key) for run, key in db.execute(text("SELECT run_key, task_key FROM evals"))}
        if store.has_diagnoses:
            found |= {(run, key) for run, key in db.execute(text("SELECT run_key, key FROM diagnoses"))}
    return found


@dataclass(frozen=True)
class Moved:
    """How a run's scores on one task differ from the base's, item by item: mean and variance of the differences."""

    key: str
    items: int
    mean: float
    variance: float


def moved(store: Store, base: str, task_key: str) -> list[Moved]:
    """Of every run that was scored on this task as the base was: of any model, so look whose they are."""
    query = text(
        "SELECT e.run_key, COUNT(*), AVG(b.value - a.value), AVG((b.value - a.value) * (b.value - a.value))"
        " FROM evals e JOIN scores a ON a.run_key = :base AND a.task_key = e.task_key"
        " JOIN scores b ON b.run_key = e.run_key AND b.task_key = e.task_key AND b.position = a.position"
        " WHERE e.task_key = :task AND e.status = 'done' AND e.run_key != :base GROUP BY e.run_key"
    )
    with store._reading() as db:
        rows = db.execute(query, {"base": base, "task": task_key})
        return [Moved(key, count, mean, max(square - mean * mean, 0.0)) for key, count, mean, square in rows]


def history(store: Store) -> list[Past]:
    """All finished work, the oldest first. Failed work is left out: it may have ended anywhere."""
    found: list[Past] = []
    with store._reading() as db:
        origin: dict[str, tuple[dict, dict]] = {}
        rows = db.execute(text("SELECT key, spec, result FROM runs WHERE status = 'done' ORDER BY created, rowid"))
        for key, spec, result in rows:
            body = json.loads(result)
            origin[key] = json.loads(spec), body.get("environment", {})
            if origin[key][0]["train"] is not None:
                name = origin[key][0]["train"]["task"]
                found.append(Past("train", key, "", name, Ledger(**body["ledger"]), *origin[key]))
        evals = text("SELECT run_key, task_key, task, metric, ledger FROM evals WHERE status = 'done' ORDER BY rowid")
        for key, measure, task, metric, ledger in db.execute(evals):
            ref = json.loads(task)
            kind = "kl" if metric == "kl" else "generate" if ref["form"] == "generate" else "weigh"
            if key in origin:
                found.append(Past(kind, key, measure, ref["task"], Ledger(**json.loads(ledger)), *origin[key]))
        if store.has_diagnoses:
            looked = text("SELECT run_key, key, name, ledger FROM diagnoses WHERE status = 'done' ORDER BY rowid")
            for key, measure, name, ledger in db.execute(looked):
                if key in origin:
                    found.append(Past("diagnose", key, measure, name, Ledger(**json.loads(ledger)), *origin[key]))
    return found
