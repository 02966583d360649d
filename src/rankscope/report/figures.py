"""Every chart of a report as SVG and PNG files, for papers and slides. In: charts. Out: files. Asks no network.

On the page a chart takes the colours and the width of what it stands in; a file has neither, so ink is black on white
and each size of a chart is so many pixels wide.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rankscope.errors import InputError
from rankscope.report.drawing import INK, Chart

WIDTHS = {"wide": 1080, "half": 620, "small": 420}
PAPER_INK, PAPER, SCALE = "#14181d", "#ffffff", 2
"""Ink, background, and pixels of a PNG for each pixel of the drawing."""


def write(charts: tuple[Chart, ...], folder: str | Path) -> list[Path]:
    """Write ``folder/CHART.svg`` and ``.png`` for every chart; files of these names are replaced.

    Raises InputError if they can't be written.
    """
    import vl_convert

    target, written = Path(folder), []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            svg = vl_convert.vegalite_to_svg(on_paper(chart), allowed_base_urls=[])
            files = (target / f"{chart.id}.svg", target / f"{chart.id}.png")
            files[0].write_text(svg, encoding="utf-8")
            files[1].write_bytes(vl_convert.svg_to_png(svg, scale=SCALE))
            written += files
    except OSError as error:
        raise InputError(f"figures can't be written: {error.strerror}", where=str(target)) from error
    return written


def on_paper(chart: Chart) -> dict[str, Any]:
    """The chart's spec with ink instead of the page's colour, a white ground, a title and a width of its own."""
    spec = json.loads(json.dumps(chart.spec).replace(json.dumps(INK), json.dumps(PAPER_INK)))
    spec["background"] = PAPER
    spec["padding"] = 8
    if spec.get("width") == "container":
        spec["width"] = WIDTHS[chart.size]
    spec.setdefault("title", chart.title)
    return spec
