"""The pages that the server sends. In: a view, or the rows of the list. Out: text, and the policy it is sent under.

A study's page is the report's own file with one more script, which keeps it up to date. Everything is escaped by Jinja
or by ``inline_json``, as in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rankscope.provenance import content_key
from rankscope.report.html import inline_json, page
from rankscope.report.policy import live_policy, scripts_of, without_policy
from rankscope.server.keeping import Made
from rankscope.storage.watching import StoredStudy


@dataclass(frozen=True)
class Served:
    """A finished page and its Content-Security-Policy."""

    text: str
    policy: str


def study_page(view: Any, key: str, version: str) -> Served:
    """A study's report, which asks for news of ``version``."""
    return _live(without_policy(page(view)), f"/api/studies/{key}/state", version)


def waiting_page(study: StoredStudy, made: Made | None) -> Served:
    """In the place of a page that isn't made yet, or can't be; the message has no path of this machine."""
    words = "Its page is being made …"
    if made is not None:
        words = f"This study can't be shown: {made.problem}"
    version = "" if made is None else made.version
    return _live(_frame(study.title, words, None), f"/api/studies/{study.key}/state", version)


def list_page(rows: list[dict[str, Any]]) -> Served:
    """The studies of a store."""
    return _live(_frame("Studies", "", rows), "/api/studies", content_key(rows))


def _frame(title: str, message: str, rows: list[dict[str, Any]] | None) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_asset("studies.html.jinja"))
    return template.render(title=title, message=message, rows=rows, style=Markup(_asset("style.css")))


def _live(text: str, ask: str, version: str) -> Served:
    told = inline_json({"ask": ask, "version": version})
    more = (f'<style>{_asset("live.css")}</style>\n<script type="application/json" id="live">{told}</script>\n'
            f'<script>{_asset("live.js")}</script>\n')  # fmt: skip
    before, end, after = text.rpartition("</body>")
    text = before + more + end + after
    return Served(text, live_policy(scripts_of(text)))


def _asset(name: str) -> str:
    return (resources.files("rankscope.report") / "assets" / name).read_text("utf-8")
