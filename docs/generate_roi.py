"""Write the tables of docs/roi.md from the code. Run: python docs/generate_roi.py. A test checks that it was run."""

from __future__ import annotations

from pathlib import Path

from rankscope.config.prices import number_text
from rankscope.config.reality import GROUPS as INPUT_GROUPS
from rankscope.config.reality import INPUTS
from rankscope.stats.roi_formulas import FORMULAS, GROUPS, MEASURED

TARGET = Path(__file__).with_name("roi.md")
START, END = "<!-- tables: written by docs/generate_roi.py -->", "<!-- end of tables -->"
KINDS = {"": "", "lora": " (LoRA)", "full": " (full SFT)"}


def tables() -> str:
    """Formulas, what is measured and what is typed, as Markdown."""
    lines, twice = ["### Formulas", ""], {f.name for f in FORMULAS if f.only == "full"}
    for group, title in GROUPS.items():
        lines += [f"#### {title}", "", "| line | formula | unit | assumption |", "|---|---|---|---|"]
        for f in (f for f in FORMULAS if f.group == group):
            kind = KINDS[f.only] if f.name in twice else ""
            lines.append(f"| {f.title}{kind} | `{f.name} = {f.expression}` | {f.unit} | {f.why} |")
        lines.append("")
    lines += ["### Measured", "", "| name | what | unit |", "|---|---|---|"]
    lines += [f"| `{name}` | {title} | {unit} |" for name, (title, unit) in MEASURED.items()]
    lines += ["", "### Typed", "", "| name | what | unit | assumed if left out |", "|---|---|---|---|"]
    for group in INPUT_GROUPS:
        lines += [f"| `{e.name}` | {e.title}. {e.help} | {e.unit} | {number_text(e.assumed) if e.assumed else ''} |"
                  for e in INPUTS if e.group == group]  # fmt: skip
    return "\n".join([*lines, ""])


def generate() -> str:
    """The text of docs/roi.md with its tables renewed."""
    text = TARGET.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    return f"{before}{START}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    TARGET.write_text(generate(), encoding="utf-8")
