"""The only module that speaks SQL. In: records. Out: the same records, later. No torch.

One folder: ``rankscope.db`` (SQLite in WAL mode), ``blobs/``, ``checkpoints/`` and a lock file that one writer holds.
Every ``put`` is one transaction, so a kill leaves either all of it or nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DatabaseError

from rankscope.clock import Clock
from rankscope.errors import NoStore, StoreError
from rankscope.provenance import canonical_json, content_key, plain
from rankscope.records import (
    CurvePoint,
    Diagnosis,
    EvalResult,
    Ledger,
    Overlap,
    Reading,
    RowCounts,
    RunLook,
    RunResult,
    RunSpec,
    Score,
    TaskRef,
)
from rankscope.storage.blobs import Blobs, full_disk
from rankscope.storage.migrations import STEPS
from rankscope.storage.opening import LEAST_FREE, engine_of, lock
from rankscope.storage.watching import StoredStudy

_ROWS_SINCE = 3  # the schema that has the tables of rows
_DIAGNOSES_SINCE = 4
_LOOKS_SINCE = 5


class Store:
    """An open store; a context manager. Readers may open it while one writer works."""

    def __init__(self, folder: Path, engine: Engine, lock: FileLock | None, clock: Clock):
        self.folder, self.clock, self._engine, self._lock = folder, clock, engine, lock
        self.blobs = Blobs(folder / "blobs", clock)
        self._version = 0  # the schema found

    @classmethod
    def open(cls, folder: str | Path, write: bool = True, clock: Clock | None = None) -> Store:
        """Open, and make it if ``write``. Raises NoStore, or StoreError: in use, damaged, or made by a newer version.

        Whoever works for the store times that work on its ``clock``; one of nobody's if none is given.
        """
        folder = Path(folder)
        if not write and not (folder / "rankscope.db").is_file():
            raise _none(folder)
        held = lock(folder) if write else None
        engine = engine_of(folder, write)
        store = cls(folder, engine, held, clock or Clock())
        with ExitStack() as undo:
            undo.callback(store.close)
            store._migrate(write)
            if write:
                store.blobs.clean()
            undo.pop_all()
        return store

    def close(self) -> None:
        self._engine.dispose()
        if self._lock is not None:
            (self.folder / ".lock.pid").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save_study(self, name: str, key: str, config: dict, environment: dict) -> None:
        with self._transaction() as db:
            db.execute(text("INSERT OR REPLACE INTO studies VALUES (:key, :name, :config, :environment, :created)"),
                       {"key": key, "name": name, "config": canonical_json(config),
                        "environment": canonical_json(environment), "created": _now()})  # fmt: skip

    def studies(self) -> list[StoredStudy]:
        """Every declaration that was ever run here, the newest first."""
        with self._reading() as db:
            rows = db.execute(text("SELECT key, name, config, environment, created FROM studies"
                                   " ORDER BY created DESC, rowid DESC"))  # fmt: skip
            return [StoredStudy(k, n, json.loads(c), json.loads(e).get("place", {}), at) for k, n, c, e, at in rows]

    def version(self) -> str:
        """Changes with whatever is put here; cheap, since no score is counted."""
        tables = ("studies", "runs", "evals", "looks", "diagnoses", "row_counts")
        with self._reading() as db:
            have = {row[0] for row in db.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))}
            # A row that takes another's place has a new rowid, unless it was the last one: then its time tells.
            last = {t: "''" if t == "row_counts" else "max(created)" for t in tables if t in have}
            found = [tuple(db.execute(text(f"SELECT count(*), max(rowid), {at} FROM {t}")).one())
                     for t, at in last.items()]  # fmt: skip
        return content_key(found)

    def put_run(self, spec: RunSpec, key: str, result: RunResult) -> None:
        """Store a finished or failed run; a later result of the same key takes its place."""
        self.put_runs([(spec, key, result)])

    def put_runs(self, runs: Iterable[tuple[RunSpec, str, RunResult]]) -> None:
        """Store runs that were trained together, all or none."""
        with self._transaction() as db:
            for spec, key, result in runs:
                body = {k: v for k, v in plain(result).items() if k != "curve"}
                db.execute(text("INSERT OR REPLACE INTO runs VALUES (:key, :spec, :status, :result, :created)"),
                           {"key": key, "spec": canonical_json(spec), "status": result.status,
                            "result": canonical_json(body), "created": _now()})  # fmt: skip
                db.execute(text("DELETE FROM curves WHERE run_key = :key"), {"key": key})
                if result.curve:
                    db.execute(text("INSERT INTO curves VALUES (:run_key, :step, :loss, :lr, :tokens, :seconds)"),
                               [{"run_key": key, **plain(p)} for p in result.curve])  # fmt: skip

    def runs(self, keys: Iterable[str]) -> dict[str, RunResult]:
        found = {}
        with self._reading() as db:
            for key in keys:
                row = db.execute(text("SELECT result FROM runs WHERE key = :key"), {"key": key}).first()
                if row is not None:
                    points = db.execute(text("SELECT step, loss, lr, tokens, seconds FROM curves WHERE run_key = :key"
                                             " ORDER BY step"), {"key": key})  # fmt: skip
                    found[key] = _run(json.loads(row[0]), tuple(CurvePoint(*p) for p in points))
        return found

    def run(self, key: str) -> RunResult | None:
        return self.runs([key]).get(key)

    def last_day(self, keys: Iterable[str]) -> str:
        """The day (UTC, YYYY-MM-DD) on which the newest of these runs was stored; empty if none is there."""
        with self._reading() as db:
            found = [db.execute(text("SELECT created FROM runs WHERE key = :key"), {"key": k}).scalar() for k in keys]
        return max((day[:10] for day in found if day), default="")

    def put_eval(self, result: EvalResult, task: TaskRef, task_key: str) -> None:
        """Store all scores of one run on one task, or the reason why there are none."""
        where = {"run_key": result.run_key, "task_key": task_key}
        with self._transaction() as db:
            db.execute(text("DELETE FROM scores WHERE run_key = :run_key AND task_key = :task_key"), where)
            db.execute(text("INSERT OR REPLACE INTO evals VALUES (:run_key, :task_key, :task, :status, :message,"
                            " :metric, :chance, :ledger, :created)"),
                       {**where, "task": canonical_json(task), "status": result.status, "message": result.message,
                        "metric": result.metric, "chance": result.chance, "ledger": canonical_json(result.ledger),
                        "created": _now()})  # fmt: skip
            if result.scores:
                db.execute(text("INSERT INTO scores VALUES (:run_key, :task_key, :position, :item, :value, :subject,"
                                " :cluster, :response)"),
                           [{**where, "position": i, **plain(s)} for i, s in enumerate(result.scores)])  # fmt: skip

    def eval_outcome(self, run_key: str, task_key: str) -> tuple[str, str] | None:
        """Status and message of one evaluation, without its scores."""
        with self._reading() as db:
            row = db.execute(text("SELECT status, message FROM evals WHERE run_key = :r AND task_key = :t"),
                             {"r": run_key, "t": task_key}).first()  # fmt: skip
        return (row[0], row[1]) if row else None

    def eval_ledgers(self, run_key: str) -> dict[str, Ledger]:
        """What scoring one run has cost so far, by task key; failed evaluations included."""
        with self._reading() as db:
            rows = db.execute(text("SELECT task_key, ledger FROM evals WHERE run_key = :r"), {"r": run_key})
            return {row[0]: Ledger(**json.loads(row[1])) for row in rows}

    def eval(self, run_key: str, task_key: str) -> EvalResult | None:
        """One evaluation with its scores in the task's order."""
        where = {"r": run_key, "t": task_key}
        with self._reading() as db:
            row = db.execute(text("SELECT status, message, metric, chance, ledger FROM evals WHERE run_key = :r AND"
                                  " task_key = :t"), where).first()  # fmt: skip
            if row is None:
                return None
            scores = db.execute(text("SELECT item, value, subject, cluster, response FROM scores WHERE run_key = :r AND"
                                     " task_key = :t ORDER BY position"), where)  # fmt: skip
            return EvalResult(run_key, task_key, row[0], row[1], row[2], row[3], tuple(Score(*s) for s in scores),
                              Ledger(**json.loads(row[4])))  # fmt: skip

    def put_rows(self, train_key: str, counts: RowCounts, overlaps: Mapping[str, Overlap]) -> None:
        """What the rows of a train task hold, and what each test (by key) shares with them."""
        with self._transaction() as db:
            db.execute(text("INSERT OR REPLACE INTO row_counts VALUES (:key, :rows, :empty, :duplicates, :conflicts)"),
                       {"key": train_key, **plain(counts)})  # fmt: skip
            for test_key, found in overlaps.items():
                db.execute(text("INSERT OR REPLACE INTO overlaps VALUES (:train_key, :test_key, :items, :ngram, :exact,"
                                " :template, :n)"),
                           {"train_key": train_key, "test_key": test_key, **plain(found)})  # fmt: skip

    def rows(self, train_key: str) -> tuple[RowCounts | None, dict[str, Overlap]]:
        """What ``put_rows`` stored; nothing where none was, or by a version that didn't measure it."""
        if self._version < _ROWS_SINCE:
            return None, {}
        with self._reading() as db:
            row = db.execute(text("SELECT num_rows, empty, duplicates, conflicts FROM row_counts WHERE train_key = :k"),
                             {"k": train_key}).first()  # fmt: skip
            shared = db.execute(text("SELECT test_key, items, ngram, exact, template, n FROM overlaps"
                                     " WHERE train_key = :k"), {"k": train_key})  # fmt: skip
            return RowCounts(*row) if row is not None else None, {key: Overlap(*rest) for key, *rest in shared}

    def put_diagnosis(self, found: Diagnosis) -> None:
        """Store what one diagnostic said of one run, or the reason why it said nothing."""
        where = {"run_key": found.run_key, "key": found.key}
        with self._transaction() as db:
            db.execute(text("DELETE FROM readings WHERE run_key = :run_key AND key = :key"), where)
            db.execute(text("INSERT OR REPLACE INTO diagnoses VALUES (:run_key, :key, :name, :status, :message,"
                            " :ledger, :created)"),
                       {**where, "name": found.name, "status": found.status, "message": found.message,
                        "ledger": canonical_json(found.ledger), "created": _now()})  # fmt: skip
            if found.readings:
                db.execute(text("INSERT INTO readings VALUES (:run_key, :key, :position, :name, :layer, :module, :part,"
                                " :variant, :vector)"),
                           [{**where, "position": i, "name": r.name, "layer": r.layer, "module": r.module,
                             "part": r.part, "variant": r.variant, "vector": canonical_json(r.values)}
                            for i, r in enumerate(found.readings)])  # fmt: skip

    def diagnosis_outcome(self, run_key: str, key: str) -> tuple[str, str] | None:
        """Status and message of one diagnosis, without its readings; None if there is none yet."""
        if self._version < _DIAGNOSES_SINCE:
            return None
        with self._reading() as db:
            where = {"r": run_key, "k": key}
            row = db.execute(text("SELECT status, message FROM diagnoses WHERE run_key = :r AND key = :k"), where)
            found = row.first()
        return (found[0], found[1]) if found else None

    def diagnosis(self, run_key: str, key: str) -> Diagnosis | None:
        """One diagnosis with its readings in the order they were made."""
        if self._version < _DIAGNOSES_SINCE:
            return None
        where = {"r": run_key, "k": key}
        with self._reading() as db:
            row = db.execute(text("SELECT name, status, message, ledger FROM diagnoses WHERE run_key = :r AND key = :k"
                                  ), where).first()  # fmt: skip
            if row is None:
                return None
            rows = db.execute(text("SELECT name, vector, layer, module, part, variant FROM readings WHERE run_key = :r"
                                   " AND key = :k ORDER BY position"), where)  # fmt: skip
            readings = tuple(Reading(name, tuple(json.loads(vector)), *rest) for name, vector, *rest in rows)
            return Diagnosis(run_key, key, row[0], row[1], row[2], readings, Ledger(**json.loads(row[3])))

    def put_looks(self, looks: Iterable[RunLook]) -> None:
        """Store what runs showed on the way, all or none. A look that is there already stays: drops rest on it."""
        with self._transaction() as db:
            for look in looks:
                db.execute(text("INSERT OR IGNORE INTO looks VALUES (:run_key, :rows_key, :share, :cut, :step, :losses,"
                                " :drift, :ledger, :created)"),
                           {**plain(look), "losses": canonical_json(look.losses), "drift": canonical_json(look.drift),
                            "ledger": canonical_json(look.ledger), "created": _now()})  # fmt: skip

    def looks(self, rows_key: str, run_keys: Iterable[str]) -> list[RunLook]:
        """What these runs showed on these rows, in the order of the shares."""
        if self._version < _LOOKS_SINCE:
            return []
        found = []
        with self._reading() as db:
            for key in dict.fromkeys(run_keys):
                rows = db.execute(text("SELECT share, step, cut, losses, drift, ledger FROM looks WHERE run_key = :r"
                                       " AND rows_key = :k ORDER BY share, cut"),
                                  {"r": key, "k": rows_key})  # fmt: skip
                for share, step, cut, losses, drift, ledger in rows:
                    values = (tuple(json.loads(losses)), tuple(json.loads(drift)), cut, Ledger(**json.loads(ledger)))
                    found.append(RunLook(key, rows_key, share, step, *values))
        return found

    @property
    def has_diagnoses(self) -> bool:
        return self._version >= _DIAGNOSES_SINCE

    @property
    def cache(self) -> Path:
        """A folder for what depends on a base alone and can be computed again."""
        return self.folder / "cache"

    def checkpoint_folder(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def drop_checkpoint(self, name: str) -> None:
        shutil.rmtree(self.checkpoint_folder(name), ignore_errors=True)

    def want(self, study: str, mine: Iterable[str], wanted: set[str]) -> None:
        """Note which of a study's runs it wants to keep the weights of."""
        with self._transaction() as db:
            for key in mine:
                db.execute(text("DELETE FROM wanted WHERE study_key = :s AND run_key = :r"), {"s": study, "r": key})
                if key in wanted:
                    db.execute(text("INSERT INTO wanted VALUES (:s, :r)"), {"s": study, "r": key})

    def wanted_by_others(self, study: str) -> set[str]:
        """Runs whose weights another study of this store wants to keep."""
        with self._reading() as db:
            return {r[0] for r in db.execute(text("SELECT run_key FROM wanted WHERE study_key != :s"), {"s": study})}

    def gc(self, keep: set[str], delete: bool) -> dict[str, Any]:
        """What can go: blobs not in ``keep``, all checkpoints, what is kept of bases. Deletes them only if asked."""
        blobs = [k for k in self.blobs.keys() if k not in keep]  # noqa: SIM118
        checkpoints = self.folder / "checkpoints"
        files = [p for p in checkpoints.rglob("*") if p.is_file()] if checkpoints.is_dir() else []
        cached = [p for p in self.cache.rglob("*") if p.is_file()] if self.cache.is_dir() else []
        report = {
            "database_bytes": (self.folder / "rankscope.db").stat().st_size,
            "blob_files": len(self.blobs.keys()),
            "blob_bytes": sum(self.blobs.size(k) for k in self.blobs.keys()),  # noqa: SIM118
            "checkpoint_bytes": sum(p.stat().st_size for p in files),
            "cache_bytes": sum(p.stat().st_size for p in cached),
            "removable_blobs": len(blobs),
            "removable_bytes": sum(map(self.blobs.size, blobs)) + sum(p.stat().st_size for p in (*files, *cached)),
        }
        if delete:
            for key in blobs:
                self.blobs.remove(key)
            shutil.rmtree(checkpoints, ignore_errors=True)
            shutil.rmtree(self.cache, ignore_errors=True)
        return report

    def _migrate(self, write: bool) -> None:
        with self._reading() as db:
            version = db.execute(text("PRAGMA user_version")).scalar_one()
        if version > len(STEPS):
            raise StoreError(f"this store was made by a newer rankscope (schema {version}, known {len(STEPS)})",
                             where=str(self.folder), hint="Next: pip install -U rankscope")  # fmt: skip
        if version == 0 and not write:  # a first run that ended before its first table was there
            raise _none(self.folder)
        self._version = len(STEPS) if write else version
        for number in range(version, self._version):
            with self._transaction() as db:
                db.execute(text("BEGIN IMMEDIATE"))  # sqlite3 begins by itself only where rows change, not tables
                for statement in STEPS[number]:
                    db.execute(text(statement))
                db.execute(text(f"PRAGMA user_version = {number + 1}"))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self.clock.stage("writing"), self._translated(), self._engine.begin() as db:
            yield db

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._translated(), self._engine.connect() as db:
                yield db
        except ValueError as error:  # a row that isn't the JSON that was written
            raise self._damaged(str(error)) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            # A full disk also shows as an I/O error, where SQLite's shared memory can't grow.
            if "full" in str(error.orig) or shutil.disk_usage(self.folder).free < LEAST_FREE:
                raise full_disk(self.folder) from error
            raise self._damaged(str(error.orig)) from error

    def _damaged(self, why: str) -> StoreError:
        return StoreError(f"the database can't be used: {why}", where=str(self.folder / "rankscope.db"),
                          hint="Restore it from a copy, or give another --store")  # fmt: skip


def _run(body: dict, curve: tuple[CurvePoint, ...]) -> RunResult:
    ledger, notes = Ledger(**body.pop("ledger")), tuple(body.pop("notes"))
    items = tuple(body.pop("validation_items", ()))
    return RunResult(**body, curve=curve, ledger=ledger, notes=notes, validation_items=items)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _none(folder: Path) -> NoStore:
    return NoStore("no store here", got=str(folder), hint="Next: rankscope run STUDY")
