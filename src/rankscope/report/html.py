"""The report as one self-contained HTML file. In: a `View`. Out: text. No network: scripts, styles and data are all
inline.

Every text goes through Jinja's autoescape; chart specs are JSON in which ``<`` is written as an escape, so that no
name can end the script element it stands in. The page's own policy forbids loading anything.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from rankscope.report.cells import Section, notes
from rankscope.report.charts import charts
from rankscope.report.cite import to_bibtex
from rankscope.report.drawing import Chart
from rankscope.report.export import to_csv, to_latex
from rankscope.report.page import sections
from rankscope.report.view import View


def page(view: View) -> str:
    """The finished page; under 3 MB, of which the drawing library is about 0.9 MB (left out if there is nothing to
    draw).
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    assets = resources.files("rankscope.report") / "assets"
    drawn, parts = charts(view), sections(view)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((assets / "template.html.jinja").read_text("utf-8"))
    return template.render(
        view=view,
        sections=parts,
        charts=_by_section(drawn),
        notes=notes,
        cite=to_bibtex(view),
        copies=Markup(inline_json(_copies(parts))),
        copy=Markup((assets / "copy.js").read_text("utf-8")),
        style=Markup((assets / "style.css").read_text("utf-8")),
        specs=Markup(inline_json({chart.id: chart.spec for chart in drawn})),
        library=Markup(_library() if drawn else ""),
        draw=Markup((assets / "draw.js").read_text("utf-8") if drawn else ""),
    )


def inline_json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _copies(parts: tuple[Section, ...]) -> dict[str, dict[str, str]]:
    """The text of every table that has rows, in both forms, by its id."""
    tables = (table for section in parts for table in section.tables if table.rows)
    return {table.id: {"latex": to_latex(table), "csv": to_csv(table)} for table in tables}


def _by_section(drawn: tuple[Chart, ...]) -> dict[str, list[Chart]]:
    found: dict[str, list[Chart]] = {}
    for chart in drawn:
        found.setdefault(chart.section, []).append(chart)
    return found


def _library() -> str:
    """Vega, Vega-Lite and vega-embed as one script that sets ``window.vegaEmbed``; safe inside a script element."""
    import vl_convert

    return vl_convert.javascript_bundle().replace("</script", "<\\/script").replace("<!--", "<\\!--")
