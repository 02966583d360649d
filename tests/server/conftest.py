"""A made store, and the app over it as a visitor with the key sees it."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from made_stores import MadeStore
from rankscope.server import app as app_module
from rankscope.server.access import Pass
from rankscope.server.app import make_app
from rankscope.server.pages import Served
from rankscope.study.study import Study

PORT = 8765


class Counted:
    """A study that is counted, and whose result is nothing."""

    def __init__(self, row):
        self.study = Study.stored(row)
        self.study.resolve()

    def tally(self, folder):
        return self.study.tally(folder)

    def result(self, folder):
        return SimpleNamespace(full_view=lambda: None)


def counted_page(_, key, version):
    told = json.dumps({"ask": f"/api/studies/{key}/state", "version": version})
    return Served(f'<script type="application/json" id="live">{told}</script>', "")


ORIGIN = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="session")
def first_seed(tmp_path_factory):
    """The base and the first seed's runs; the second seed's are to come. To be read only."""
    made = MadeStore(tmp_path_factory.mktemp("made") / "runs")
    made.add_base()
    for index in range(3):
        made.add(index, 0)
    return made


@pytest.fixture
def made(first_seed, tmp_path):
    """The same, to be written to."""
    return first_seed.at(shutil.copytree(first_seed.folder, tmp_path / "runs"))


@pytest.fixture(scope="session")
def access():
    return Pass(PORT)


@pytest.fixture(scope="session")
def reading(first_seed, access):
    """One app over the store that nobody writes to, so that its page is made once."""
    app = make_app(first_seed.folder, Study.stored, access)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_module, "_PATIENCE", 120.0)
        yield app


@pytest.fixture
def following(made, access, monkeypatch):
    """An app over the store that is written to. Its pages hold no more than their version: real ones take long."""
    monkeypatch.setattr(app_module, "study_page", counted_page)
    app = make_app(made.folder, Counted, access)
    return visitor(app, access)


@pytest.fixture
def stranger(reading):
    """A client without a cookie."""
    return TestClient(reading, base_url=ORIGIN, follow_redirects=False)


@pytest.fixture
def client(reading, access):
    return visitor(reading, access)


def visitor(app, access):
    client = TestClient(app, base_url=ORIGIN, follow_redirects=False)
    assert client.get(f"/?token={access.token}").status_code == 303
    return client
