"""The report as markdown, and as JSON. In: a `View`. Out: text. The same sections and numbers as the HTML page."""

from __future__ import annotations

import json

from rankscope.report.cells import Section, Table, joined, notes
from rankscope.report.page import parts
from rankscope.report.view import View


def markdown(view: View) -> str:
    """GitHub-flavoured markdown; charts are left to the HTML page."""
    lines = [f"# {_escape(view.title)}", ""]
    for verdict in view.verdicts:
        lines += [f"**{_escape(verdict.lead)}**", ""]
        lines += [f"- {label}: {_escape(text)}" for label, text in verdict.points] + [""] * bool(verdict.points)
    if not view.verdicts:
        lines += [f"**{_escape(view.verdict)}**", ""]
    for part in parts(view):
        lines += [f"## {part.title}", ""]
        lines += [_escape(part.opening), ""] if part.opening else []
        for section in part.sections:
            lines += _section(section)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section) -> list[str]:
    lines = [f"### {section.title}", ""]
    lines += [_escape(section.intro), ""] if section.intro else []
    steps = [f"{i}. **{step.title}** ({step.state}): {_escape(step.text)}" for i, step in enumerate(section.steps, 1)]
    lines += [*steps, ""] if steps else []
    for table in section.tables:
        lines += [*_table(table), ""]
    return lines + _hows(section)


def to_json(view: View) -> str:
    """The whole view, indented; what is not a finite number is null."""
    return json.dumps(view.as_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _table(table: Table) -> list[str]:
    if not table.rows:
        return [f"{_escape(table.caption)}: {table.empty}"]
    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.columns))]
    rows = [[_escape(joined(cell)) for cell in row] for row in table.rows]
    head = [f"**{_escape(table.caption)}**", "", _row([_escape(title) for title in table.titles]), _row(rule)]
    return head + [_row(row) for row in rows]


def _hows(section: Section) -> list[str]:
    """How the section's columns were computed, each said once however many tables have it."""
    lines = [f"- {_escape('; '.join(titles))}: {_escape(how)}" for how, titles in notes(*section.tables).items()]
    return ["How these were computed:", "", *lines, ""] if lines else []


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    """Text that a markdown reader shows as it is: no table breaks, no raw HTML, no emphasis by accident."""
    text = " ".join(text.split())
    for mark in ("\\", "|", "*", "_", "`"):
        text = text.replace(mark, "\\" + mark)
    text = text.replace("](", "]\\(")  # intervals keep their brackets; links are not made
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
