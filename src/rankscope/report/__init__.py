"""The report of a study: numbers (`view`), then words (`page`, `verdict`), then drawing (`charts`, `html`, `text`).

In: an `Evidence` record. Out: one HTML file that opens offline, markdown or JSON. Loads nothing heavy until it is
called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankscope.errors import ConfigError

if TYPE_CHECKING:
    from rankscope.report.view import View

UNTRAINED = ""
"""Stands for the train task in a study that trains nothing: it only scores arms that exist already."""
FORMATS = ("html", "md", "json")


def render(view: View, format: str = "html") -> str:
    """The report as text in one of `FORMATS`. Raises ConfigError on any other format."""
    if format == "html":
        from rankscope.report.html import page

        return page(view)
    if format in ("md", "json"):
        from rankscope.report.text import markdown, to_json

        return markdown(view) if format == "md" else to_json(view)
    raise ConfigError("no such report format", got=format, hint=f"Use one of: {', '.join(FORMATS)}")
