"""An audit as its reader gets it. In: what was found. Out: the same with a summary, advice, an object for programs, a
page.

Knows nothing about tensors; the page's drawing library is loaded only where a page is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankscope.report import audit_advice
from rankscope.report.audit_rows import Found


class Audit(Found):
    """What an audit found, with what follows from it."""

    @property
    def summary(self) -> dict[str, Any]:
        """The modules' numbers drawn together."""
        return audit_advice.summary(self)

    @property
    def advice(self) -> tuple[str, ...]:
        """What follows, in sentences."""
        return tuple(text for _, text in audit_advice.advice(self))

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "adapter": self.adapter,
            "base": self.base,
            "modules": [module.as_dict() for module in self.modules],
            "summary": self.summary,
            "advice": list(self.advice),
            "left_out": list(self.left_out),
        }

    def report(self, path: str | Path) -> Path:
        """Write the audit as one HTML file that opens offline."""
        from rankscope.report.audit_page import page

        path = Path(path)
        path.write_text(page(self), encoding="utf-8")
        return path
