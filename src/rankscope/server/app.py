"""The live page: FastAPI over a store. In: a folder, and who opens its studies. Out: an app, and a server that runs.

Two pages (the studies; one study, the same as the report's file) and what they ask every two seconds. Read-only, on
127.0.0.1 alone; who may read is decided in ``access``. Knows nothing about how a study is resolved: it is handed
``opened``, so that no torch is loaded.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from rankscope.errors import InputError, StoreError
from rankscope.provenance import content_key
from rankscope.server.access import ADDRESS, Guard, Pass
from rankscope.server.keeping import Keeper, Made
from rankscope.server.pages import Served, list_page, study_page, waiting_page
from rankscope.storage.watching import Now, StoredStudy

PORT = 8765
_TRIES = 20  # ports after the usual one
_PATIENCE = 6.0  # seconds that a first visit waits for its page
_READ = ["GET", "HEAD"]


def make_app(folder: Path, opened: Callable[[StoredStudy], Any], access: Pass) -> FastAPI:
    """The app over one store. Everything it sends is for who has the pass."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    keeper = Keeper(folder, opened, study_page)
    app.add_middleware(Guard, access=access)

    @app.exception_handler(StoreError)
    def unreadable(_: Request, error: StoreError) -> Response:
        return PlainTextResponse(f"the store can't be read: {error.what}\n", 503)

    @app.exception_handler(404)
    def nothing(_: Request, error: Exception) -> Response:
        return PlainTextResponse("there is nothing here\n", 404)

    # Plain functions: FastAPI runs them in threads, and the event loop stays free.
    @app.api_route("/", methods=_READ)
    def studies() -> Response:
        version, rows = keeper.studies()
        return _sent(list_page(_listed(keeper, version, rows)))

    @app.api_route("/api/studies", methods=_READ)
    def listing() -> Response:
        version, rows = keeper.studies()
        found = _listed(keeper, version, rows)
        return JSONResponse({"version": content_key(found), "said": "", "studies": found})

    @app.api_route("/studies/{key}", methods=_READ)
    def study(key: str) -> Response:
        version, row = _find(keeper, key)
        made = keeper.page(row, version, _PATIENCE)
        return _sent(waiting_page(row, made) if made is None or made.problem else made.thing)

    @app.api_route("/api/studies/{key}/state", methods=_READ)
    def state(key: str) -> Response:
        version, row = _find(keeper, key)
        return JSONResponse(_state(row, keeper.page(row, version), keeper.tally(row, version), keeper.now()))

    return app


def _find(keeper: Keeper, key: str) -> tuple[str, StoredStudy]:
    version, rows = keeper.studies()
    row = next((row for row in rows if row.key == key), None)
    if row is None:
        raise HTTPException(404)
    return version, row


def _sent(page: Served) -> Response:
    return HTMLResponse(page.text, headers={"Content-Security-Policy": page.policy})


def _state(row: StoredStudy, page: Made | None, tally: Made | None, now: Now | None) -> dict[str, Any]:
    """What an open page asks for: the version to show, and a sentence on how the study goes."""
    mine = now if now is not None and now.study == row.key else None
    found: dict[str, Any] = {"version": page.version if page else "", "problem": page.problem if page else "",
                             "running": mine is not None, "said": "", "work": "", "losses": []}  # fmt: skip
    if tally is not None and tally.thing is not None:
        at = time.time()
        counted = tally.thing.running(mine)
        found["said"] = counted.sentence(mine, at)
        found |= {"done": counted.plan.num_done, "total": len(counted.plan.runs), **counted.as_dict()}
        left = counted.seconds_left(mine, at)
        found |= {"seconds_left": left and left[0], "is_at_least": bool(left and left[1])}
    if mine is not None and mine.work:
        found["work"] = f"{mine.work}: {mine.done} of {mine.total} {mine.unit}"
        found["losses"] = [list(point) for point in mine.losses]
    return found


def _listed(keeper: Keeper, version: str, rows: list[StoredStudy]) -> list[dict[str, Any]]:
    """The studies of a store, each with what is known of it by now."""
    now, found = keeper.now(), []
    for row in rows:
        tally = keeper.tally(row, version)
        mine = now if now is not None and now.study == row.key else None
        said = "" if tally is None or tally.thing is None else tally.thing.sentence(mine, time.time())
        problem = tally.problem if tally else ""
        found.append({"key": row.key, "name": row.name, "title": row.title, "run": row.created, "said": said,
                      "problem": problem, "running": mine is not None})  # fmt: skip
    return found


def listen(port: int | None) -> socket.socket:
    """A socket on this machine alone: on ``port`` (0: any that is free), or on the usual one or one after it.

    Raises InputError if the port is taken.
    """
    asked = range(PORT, PORT + _TRIES) if port is None else (port,)
    for number in asked:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((ADDRESS, number))
            return made
        except OSError as error:
            made.close()
            why = error.strerror
    taken = f"port {port}" if port is not None else f"ports {asked[0]} to {asked[-1]}"
    raise InputError(f"can't listen on {taken} of {ADDRESS}: {why}", hint="Name another: --port 0 takes a free one")


def serve(app: FastAPI, at: socket.socket, started: Callable[[], None]) -> None:
    """Serve until Ctrl-C. ``started`` is called once the socket takes visitors."""
    config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, server_header=False, ws="none")
    server = uvicorn.Server(config)
    if not os.environ.get("RANKSCOPE_TRACEBACK"):
        threading.excepthook = _last_words
    at.listen(128)
    started()
    try:
        server.run(sockets=[at])
    except KeyboardInterrupt:  # uvicorn has closed what was open
        pass
    finally:
        at.close()


def _last_words(found: Any) -> None:
    """An error that nobody foresaw, in the thread that makes pages: one line, as everywhere."""
    print(f"error: a bug in rankscope: {found.exc_type.__name__}: {found.exc_value}", file=sys.stderr)
