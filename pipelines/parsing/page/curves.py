"""Curves of a training run as pictures: the loss and its parts, and the scores that were watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

from pipelines.parsing.page.drawing import DASHES, HUES
from pipelines.parsing.page.tables import METRICS, PARTS
from pipelines.parsing.page.told import Table

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 240, 46, 12, 10, 30
MOST_LINES = HUES * DASHES
WATCHED = {"val": "Validation", "test": "Test: it chooses the epoch"}

Points = list[tuple[float, float]]
Lines = dict[str, tuple[Points, int, int]]
"""By name: points, and the numbers of a hue and of a line pattern."""

FAR_APART = (1, 6, 3, 4, 2, 7, 5)
"""Hues in the order in which lines take them, neighbours unlike each other."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over epochs.

    Parameters
    ----------
    title, svg
        of the picture
    legend
        name, styles of the line, and its last value
    """

    title: str
    svg: str
    legend: tuple[tuple[str, str, float], ...]


def charts(log: Table, best: float | None = None) -> tuple[Chart, ...]:
    """Every picture that a log allows.

    Parameters
    ----------
    log
        one row per epoch, with a column ``epoch``; epochs of several kinds have a line of the loss each, for they minimise
        different things
    best
        the epoch whose weights were kept; it is marked
    """
    if "epoch" not in log.columns or not log.rows:
        return ()
    epochs = log.numbers("epoch")
    found = [_chart("Training loss", _losses(log, epochs), best)]
    for prefix, title in WATCHED.items():
        names = [name for name in log.columns if name.startswith(f"{prefix}_") and name != f"{prefix}_s"]
        known = [name for name in METRICS if f"{prefix}_{name}" in names]
        for level in ("segment", "event"):
            there = [name for name in known if name.startswith(f"{level}_")]
            lines: Lines = {
                PARTS[name.partition("_")[2]]: (_points(epochs, log.numbers(f"{prefix}_{name}")), i, 0)
                for i, name in enumerate(there)
            }
            found.append(_chart(f"{title}, {level}-level F (%)", lines, best))
        rest = [name for name in names if name.removeprefix(f"{prefix}_") not in known]
        others: Lines = {
            name.removeprefix(f"{prefix}_"): (_points(epochs, log.numbers(name)), i, i // HUES)
            for i, name in enumerate(rest)
        }
        found.append(
            _chart(f"{title}, {'accuracy (%)' if list(others) == ['accuracy'] else 'other scores'}", others, best)
        )
    if "lr" in log.columns and len({rate for rate in log.numbers("lr") if isfinite(rate)}) > 1:
        found.append(_chart("Learning rate", {"lr": (_points(epochs, log.numbers("lr")), 0, 0)}, best))
    return tuple(each for each in found if each is not None)


def _losses(log: Table, epochs: Sequence[float]) -> Lines:
    """A hue for each part, a line pattern for each kind of epoch."""
    kinds = [row[log.columns.index("kind")] for row in log.rows] if "kind" in log.columns else [""] * len(log.rows)
    several = list(dict.fromkeys(kinds))
    lines: Lines = {}
    parts = [name for name in log.columns if name == "loss" or name.startswith("loss_")]
    for i, name in enumerate(parts):
        values = log.numbers(name)
        short = "all" if name == "loss" else name.removeprefix("loss_")
        for j, kind in enumerate(several):
            chosen = [at for at, each in enumerate(kinds) if each == kind]
            points = _points([epochs[at] for at in chosen], [values[at] for at in chosen])
            lines[f"{short}, {kind}" if len(several) > 1 else short] = (points, i, j)
    return lines


def _points(xs: Sequence[float], ys: Sequence[float]) -> Points:
    return [(x, y) for x, y in zip(xs, ys, strict=True) if isfinite(x) and isfinite(y)]


def _chart(title: str, lines: Lines, best: float | None) -> Chart | None:
    """A picture of the lines that have points; None without any."""
    shown = [(name, *line) for name, line in lines.items() if line[0]][:MOST_LINES]
    if not shown:
        return None
    xs = [x for _, points, _, _ in shown for x, _ in points]
    ys = [y for _, points, _, _ in shown for _, y in points]
    x_ticks, y_ticks = _ticks(min(xs), max(xs), 8, whole=True), _ticks(min(ys), max(ys), 5)
    x_span, y_span = (min(xs), max(xs)), (min(*ys, y_ticks[0]), max(*ys, y_ticks[-1]))
    drawn: list[str] = []
    for value in y_ticks:
        y = _y(value, y_span)
        drawn.append(f'<path class="gridline" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        drawn.append(f'<text class="y" x="{LEFT - 7}" y="{y + 4:.1f}">{_short(value)}</text>')
    below = HEIGHT - BOTTOM + 18
    drawn += [f'<text class="x" x="{_x(value, x_span):.1f}" y="{below}">{value:g}</text>' for value in x_ticks]
    if best is not None and x_span[0] <= best <= x_span[1]:
        x = _x(best, x_span)
        drawn.append(
            f'<path class="best" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"><title>epoch {best:g} was kept</title></path>'
        )
    legend = []
    for name, points, hue, dash in shown:
        kind = f"h{FAR_APART[hue % HUES]} d{dash % DASHES}"
        drawn.append(f'<g class="{kind}">{_line(name, points, x_span, y_span)}</g>')
        legend.append((name, kind, points[-1][1]))
    label = f"{title} over {len({*xs})} epochs: " + ", ".join(f"{name} ends at {last:.4g}" for name, _, last in legend)
    svg = f'<svg class="tl chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(drawn)}</svg>'
    return Chart(title, svg, tuple(legend))


def _line(name: str, points: Points, x_span: tuple[float, float], y_span: tuple[float, float]) -> str:
    placed = [(_x(x, x_span), _y(y, y_span)) for x, y in points]
    title = f"<title>{escape(name)}</title>"
    if len(placed) == 1:
        return f'<circle cx="{placed[0][0]:.1f}" cy="{placed[0][1]:.1f}" r="3.5">{title}</circle>'
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    return f'<path class="line" d="M{path}">{title}</path>'


def _x(value: float, span: tuple[float, float]) -> float:
    share = (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(value: float, span: tuple[float, float]) -> float:
    share = (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`; only those between with `whole`."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    base = 10.0 ** floor(log10(raw))
    step = next(base * factor for factor in (1, 2, 5, 10) if base * factor >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
        return [i * step for i in range(ceil(low / step), floor(high / step) + 1)]
    return [i * step for i in range(floor(low / step + 1e-9), ceil(high / step - 1e-9) + 1)]


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.1e}"
