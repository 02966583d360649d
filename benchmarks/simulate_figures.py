"""The figures of simulate.py as small SVG files, readable on a light and on a dark page. In: its result. Out: files."""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 300, 56, 44, 44
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #333 } .t { font-size: 14px; font-weight: 600 }
.axis { stroke: #999; stroke-width: 1 } .aim { fill: #2a9d5c; opacity: .18 } .line { fill: none; stroke-width: 2 }
.a { fill: #2563c9; stroke: #2563c9 } .b { fill: #d9660b; stroke: #d9660b } .line.a, .line.b { fill: none }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .axis { stroke: #777 }
.a { fill: #7fb0ff; stroke: #7fb0ff } .b { fill: #ffa65c; stroke: #ffa65c } .line.a, .line.b { fill: none } }
</style>"""


class Plot:
    """One panel with a vertical scale; x is given as a share of the width."""

    def __init__(self, title: str, low: float, high: float, ticks: list[float]):
        self.low, self.high, self.parts = low, high, [f'<text class="t" x="{LEFT}" y="20">{title}</text>']
        for tick in ticks:
            y = self.y(tick)
            self.parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" '
                              f'stroke-dasharray="2 4"/><text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                              f"{100 * tick:g} %</text>")  # fmt: skip

    def x(self, share: float) -> float:
        return LEFT + 12 + share * (WIDTH - LEFT - 36)

    def y(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return TOP + (self.high - inside) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def band(self, low: float, high: float) -> None:
        self.parts.append(f'<rect class="aim" x="{LEFT}" width="{WIDTH - LEFT - 12}" y="{self.y(high):.1f}" '
                          f'height="{self.y(low) - self.y(high):.1f}"/>')  # fmt: skip

    def dots(self, points: list[tuple[float, float]], kind: str, radius: float = 3.5) -> None:
        self.parts += [f'<circle class="{kind}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius}"/>'
                       for x, y in points]  # fmt: skip

    def line(self, points: list[tuple[float, float]], kind: str) -> None:
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline class="line {kind}" points="{path}"/>')

    def label(self, x: float, text: str, row: int = 0) -> None:
        y = HEIGHT - BOTTOM + 18 + 15 * row
        self.parts.append(f'<text x="{self.x(x):.1f}" y="{y}" text-anchor="middle">{text}</text>')

    def key(self, names: dict[str, str]) -> None:
        for number, (kind, text) in enumerate(names.items()):
            x = WIDTH - 190 * (len(names) - number)
            self.parts.append(f'<circle class="{kind}" cx="{x}" cy="34" r="4"/><text x="{x + 9}" y="38">{text}</text>')

    def save(self, path: Path) -> None:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">'
        path.write_text("\n".join([head, STYLE, *self.parts, "</svg>"]) + "\n", encoding="utf-8")


def write_figures(folder: Path, result: dict) -> None:
    """Three files: coverage.svg, family-error.svg, power.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted(result["coverage"], key=lambda r: (r["seeds"], r["items"], r["seed_sd"]))
    places = [(i + 0.5) / len(rows) for i in range(len(rows))]
    plot = Plot("Coverage of 95 % intervals, by cell", 0.88, 1.0, [0.88, 0.91, 0.93, 0.95, 0.97, 1.0])
    plot.band(0.93, 0.97)
    plot.key({"a": "one table alone", "b": "within a family of 5 arms"})
    for kind, what in (("a", "alone"), ("b", "family")):
        plot.dots([(x, r[what]) for x, r in zip(places, rows, strict=True)], kind)
    _groups(plot, rows, places)
    plot.save(folder / "coverage.svg")
    plot = Plot("Families with any false verdict (5 % is meant)", 0.0, 0.12, [0, 0.03, 0.06, 0.09, 0.12])
    plot.band(0.0, 0.06)
    plot.key({"a": "false better or worse", "b": "false equivalent"})
    for kind, what in (("a", "error"), ("b", "error_at_margin")):
        plot.dots([(x, r[what]) for x, r in zip(places, rows, strict=True)], kind)
    _groups(plot, rows, places)
    plot.save(folder / "family-error.svg")
    plot = Plot("Chance to show a true difference: 3 seeds, 500 items", 0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    curve = result["curve"]
    plot.key({"a": "predicted", "b": "simulated"})
    most = max(r["effect"] for r in curve)
    plot.line([(r["effect"] / most, r["predicted"]) for r in curve], "a")
    plot.dots([(r["effect"] / most, r["simulated"]) for r in curve], "b", 4.5)
    for row in curve:
        plot.label(row["effect"] / most - 0.01, f"{100 * row['effect']:.1f}")
    plot.label(0.5, "true difference in points", 1)
    plot.save(folder / "power.svg")


def _groups(plot: Plot, rows: list[dict], places: list[float]) -> None:
    """Names under the dots: number of items, and below it of seeds."""
    for row, keys in ((0, ("seeds", "items")), (1, ("seeds",))):
        groups: dict[tuple, list[float]] = {}
        for x, r in zip(places, rows, strict=True):
            groups.setdefault(tuple(r[k] for k in keys), []).append(x)
        for values, xs in groups.items():
            word = f"{values[-1]}" + ((" seed" if values == (1,) else " seeds") if row else "")
            plot.label(sum(xs) / len(xs), word, row)
