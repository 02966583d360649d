"""Charts as files: every one as SVG and PNG, in ink on white, at a width of its own."""

from __future__ import annotations

import pytest

from rankscope.errors import InputError
from rankscope.report.charts import charts
from rankscope.report.drawing import INK
from rankscope.report.figures import PAPER, WIDTHS, on_paper, write


def test_a_chart_is_written_as_svg_and_png_on_white(view, tmp_path):
    some = tuple(c for c in charts(view) if c.id in ("frontier-0", "rank-0-0"))
    files = write(some, tmp_path / "figures")
    assert sorted(f.name for f in files) == ["frontier-0.png", "frontier-0.svg", "rank-0-0.png", "rank-0-0.svg"]
    svg = (tmp_path / "figures" / "frontier-0.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg") and "lora-r4" in svg and INK not in svg and f'fill="{PAPER}"' in svg
    png = (tmp_path / "figures" / "frontier-0.png").read_bytes()
    assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") > 2 * WIDTHS["half"] * 0.9


def test_no_chart_keeps_the_pages_colour_or_width(view):
    for chart in charts(view):
        spec = on_paper(chart)
        assert INK not in str(spec) and spec.get("width") != "container" and spec["background"] == PAPER
        assert INK in str(chart.spec)


def test_a_folder_that_cannot_be_made_is_a_clear_error(view, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="figures can't be written"):
        write(charts(view)[:1], tmp_path / "file" / "figures")
