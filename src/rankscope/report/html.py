"""The report as one self-contained HTML file. In: a `View`, or the parts of another page. Out: text. No network:
scripts, styles and data are all inline.

Every text goes through Jinja's autoescape; chart specs are JSON in which ``<`` is written as an escape, so that no
name can end the script element it stands in. The page's own policy forbids loading anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from rankscope.report import tiles
from rankscope.report.cells import Part, Section, notes
from rankscope.report.charts import charts
from rankscope.report.cite import to_bibtex
from rankscope.report.drawing import Chart, linked
from rankscope.report.export import to_csv, to_latex
from rankscope.report.page import parts
from rankscope.report.policy import file_policy, scripts_of
from rankscope.report.rows import Verdict
from rankscope.report.view import View
from rankscope.report.wording import plural

START = "window.rankscope.start();"
_NEEDED = {"roi": ("roi_formulas",)}
"""Files that a widget's own needs before it."""
_OWN = {"css": ("style",), "js": ("copy", "start")}


_POLICY = "the-policy"  # its first place on a page is the policy's own: the scripts that it names are known last


@dataclass(frozen=True)
class Frame:
    """What a page shows. ``facts`` stand under the title: a text, and the section it warns of (or nothing).

    The first part holds the verdicts, or else ``lead``. ``has_models``: whether a verdict must say which model it is
    about.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    verdicts: tuple[Verdict, ...]
    parts: tuple[Part, ...]
    charts: tuple[Chart, ...]
    lead: str = ""
    cite: str = ""
    has_models: bool = False
    tiles: tuple[tiles.Row, ...] = ()

    @property
    def sections(self) -> tuple[Section, ...]:
        return tuple(section for part in self.parts for section in part.sections)


def page(view: View) -> str:
    """A study's finished page; under 3 MB, of which the drawing library is about 0.9 MB (left out if there is nothing
    to draw).
    """
    return written(
        Frame(
            title=view.title,
            facts=_facts(view),
            verdicts=view.verdicts,
            parts=parts(view),
            charts=charts(view),
            lead=view.verdict,
            cite=to_bibtex(view),
            has_models=len(view.models) > 1,
            tiles=tiles.rows(view),
        )
    )


def written(frame: Frame) -> str:
    """A page's text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    assets = resources.files("rankscope.report") / "assets"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    kinds = dict.fromkeys(widget.kind for section in frame.sections for widget in section.widgets)
    (early,) = _read(("theme",), "js")
    scripts = [*_assets("js", kinds), *([_library()] if frame.charts else []), START]
    template = environment.from_string((assets / "template.html.jinja").read_text("utf-8"))
    text = template.render(
        policy=_POLICY,
        frame=frame,
        charts=_by_section(linked(frame.charts, frame.sections)),
        notes=notes,
        places={section.id for section in frame.sections},
        copies=Markup(inline_json(_copies(frame.sections))),
        specs=Markup(inline_json({chart.id: chart.spec for chart in frame.charts})),
        inline=lambda value: Markup(inline_json(value)),
        style=Markup("\n".join(_assets("css", kinds))),
        early=Markup(early),
        scripts=[Markup(text) for text in scripts],
    )
    return text.replace(_POLICY, file_policy(scripts_of(text)), 1)


def _facts(view: View) -> tuple[tuple[str, str], ...]:
    """What the study consists of, and how much of it failed or is missing."""
    trained = [name for name in view.train if name]
    facts = [(", ".join(view.models) or "no model yet", "")]
    facts += [(f"trained on {', '.join(view.train)}", "")] if trained else []
    facts.append((f"{len(view.arms)} arms", ""))
    facts += [(f"{plural(len(view.seeds), 'seed')} ({', '.join(map(str, view.seeds))})", "")] if trained else []
    facts.append((plural(len(view.counted), "run"), ""))
    facts += [(f"{len(view.dropped)} stopped early", "stopped")] if view.dropped else []
    facts += [(f"{len(view.failures)} failed", "gaps")] if view.failures else []
    facts += [(f"unfinished: {plural(len(view.missing), 'gap')}", "gaps")] if view.missing else []
    return tuple(facts)


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


def _assets(ending: str, kinds: Iterable[str]) -> list[str]:
    """The page's own files of that ending, then those of the widgets that it shows."""
    wanted = (name for kind in kinds for name in (*_NEEDED.get(kind, ()), kind))
    return _read((*_OWN[ending], *wanted), ending)


def _read(names: Iterable[str], ending: str) -> list[str]:
    folder = resources.files("rankscope.report") / "assets"
    files = [folder / f"{name}.{ending}" for name in names]
    return [file.read_text("utf-8") for file in files if file.is_file()]


def _library() -> str:
    """Vega, Vega-Lite and vega-embed as one script that sets ``window.vegaEmbed``; safe inside a script element."""
    import vl_convert

    return vl_convert.javascript_bundle().replace("</script", "<\\/script").replace("<!--", "<\\!--").replace("\r", "")
