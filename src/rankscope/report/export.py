"""Tables of the report as LaTeX and CSV, ready to paste. In: a `Table`. Out: text. Knows nothing about the page that
offers it, and changes no number: what is shown is what is copied.
"""

from __future__ import annotations

import csv
import io
import re

from rankscope.report.cells import Table, joined, notes

MINUS = "\N{MINUS SIGN}"
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",  # BibTeX counts braces, escaped ones too
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{mark: f"\\{mark}" for mark in "&%$#_"},
    MINUS: "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "√": r"$\surd$",
    "α": r"$\alpha$",
    "→": r"$\rightarrow$",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
    "·": r"\textperiodcentered{}",
    "…": r"\ldots{}",
}
_NUMBER = re.compile(r"[+-][\d.,]+(?= \[| |$)")


def to_latex(table: Table) -> str:
    """A ``table`` environment around a booktabs ``tabular``; how columns were computed stands above it as comments.

    Every text is escaped; a note follows its text, and intervals keep their brackets.
    """
    sides = "".join("r" if i in table.numeric else "l" for i in range(len(table.columns)))
    said = [f"% {_line('; '.join(titles))}: {_line(how)}" for how, titles in notes(table).items()]
    rows = [_latex_row([joined(cell) for cell in row]) for row in table.rows]
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            *said,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(table.caption)}}}",
            rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', table.id.lower())}}}",
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            _latex_row(list(table.titles)),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def latex(text: str) -> str:
    """Text that LaTeX sets as it stands, on one line."""
    shown = "".join(_LATEX.get(mark, mark) for mark in _line(text))
    # Hyphens in a row are kept apart, which LaTeX would join to a dash; a dash of ours is written so.
    return re.sub("-(?=-)", "-{}", shown).replace("\N{EN DASH}", "--")


def _latex_row(cells: list[str]) -> str:
    # LaTeX would take a bracket or a star at the start of a row for an option of the line break before it.
    shown = [latex(cell) for cell in cells]
    return " & ".join(f"{{}}{cell}" if cell[:1] in ("[", "*") else cell for cell in shown) + r" \\"


def to_csv(table: Table) -> str:
    """RFC 4180 with one line per row. A column in which some cell has a note is followed by one for its notes.

    A minus is an ordinary one, so that programs read numbers as such. Text that a spreadsheet would run as a formula
    gets an apostrophe in front.
    """
    noted = [any(row[i].note for row in table.rows) for i in range(len(table.columns))]
    head: list[str] = []
    for title, has_notes in zip(table.titles, noted, strict=True):
        head += [title, f"{title} (note)"] if has_notes else [title]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_plain(title) for title in head])
    for row in table.rows:
        line: list[str] = []
        for cell, has_notes in zip(row, noted, strict=True):
            line += [cell.text, cell.note] if has_notes else [cell.text]
        writer.writerow([_plain(text) for text in line])
    return out.getvalue()


def _plain(text: str) -> str:
    shown = _line(text).replace(MINUS, "-")
    is_formula = shown[:1] in ("=", "@") or (shown[:1] in ("+", "-") and not _NUMBER.match(shown))
    return f"'{shown}" if is_formula else shown


def _line(text: str) -> str:
    return " ".join(text.split())
