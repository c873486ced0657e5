"""Figures of the report of a collocation search, from numbers to SVG: curves, heat maps and bars.

Each figure is complete in itself: the same text is a file of its own and a part of an HTML page, in light and in dark. Names
may hold any characters. A number that is not known is nan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan

from extract.errors import PlanError
from pipelines.collocation.report.figure_axes import (
    CHARACTER,
    LINE,
    PAD,
    Scale,
    checked,
    cut,
    escaped,
    extremes,
    form,
    head_height,
    marker,
    padded,
    picture,
    runs,
    some,
    ticks,
)
from pipelines.collocation.report.heat_map import heat_map
from pipelines.parsing.page.curves import FAR_APART
from pipelines.parsing.page.drawing import DASHES, HUES

__all__ = ["bars", "curves", "heat_map"]

_MOST = HUES * DASHES
_SLANT = 0.7072
_LEFT, _NAME, _ROW = 62.0, 34, 34


def curves(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    spreads: Mapping[str, Sequence[float]] | None,
    *,
    y_title: str,
    title: str,
) -> str:
    """Lines over collocations: Fig. 5 and 6 of Wu et al., Information Sciences 2022.

    Parameters
    ----------
    names
        of the collocations, from left to right; where they are many, some are written below, and all are told at the points
    series
        by the name of a line, a value for each collocation; nan is a gap. At most 28 lines, each with its own colour,
        pattern and marker
    spreads
        by the name of a line, a standard deviation for each collocation, drawn as a whisker of ± so much; nan: none
    y_title, title
        what the values are, and what the figure shows

    Raises
    ------
    PlanError
        no names or lines, more than 28 lines, spreads of a line that is not there, other counts of values than of names,
        infinite values, or negative spreads
    """
    some(names, "a curve", "collocations")
    some(list(series), "a curve", "lines")
    if len(series) > _MOST:
        raise PlanError(f"{len(series)} lines cannot be told apart; draw at most {_MOST} in one figure")
    if unknown := [name for name in spreads or {} if name not in series]:
        raise PlanError(
            f"spreads are given for {unknown[0]!r}, which is no line; lines are {', '.join(map(repr, series))}"
        )
    lines = {name: checked(name, names, values) for name, values in series.items()}
    none = [nan] * len(names)
    widths = {
        name: checked(f"the spread of {name}", names, (spreads or {}).get(name, none), spread=True) for name in lines
    }
    plot = float(min(max(420, 16 * len(names)), 900))
    step = plot / len(names)
    below = _below(names, step)
    left = below.left
    width = left + plot + PAD
    top = head_height(title, width)
    drawn, top = _legend(list(lines), width, top)
    ends = [end for name, values in lines.items() for end in _reach(values, widths[name])]
    marks = ticks(*padded(ends), 5)
    bottom = top + 230
    scale = Scale(marks[0], marks[-1], bottom, top + 6)
    for value in marks:
        y = scale.at(value)
        drawn.append(f'<path class="grid" d="M{left:.1f} {y:.1f}h{plot:.1f}"/>')
        drawn.append(f'<text class="soft end" x="{left - 7:.1f}" y="{y + 4:.1f}">{value:.6g}</text>')
    middle = (top + 6 + bottom) / 2
    drawn.append(
        f'<text class="soft middle" transform="translate({left - 50:.1f} {middle:.1f})rotate(-90)">{escaped(y_title)}</text>'
    )
    if not ends:
        drawn.append(f'<text class="soft middle" x="{left + plot / 2:.1f}" y="{middle:.1f}">no values yet</text>')
    drawn += [_label(left + (i + 0.5) * step, bottom, words, below.slanted) for i, words in below.shown.items()]
    beside = min(5.0, 0.6 * step / len(lines))
    for number, name in enumerate(lines):
        shift = left + (0.5 * step) + (number - (len(lines) - 1) / 2) * beside
        xs = [shift + i * step for i in range(len(names))]
        drawn += _line(number, name, names, xs, lines[name], widths[name], scale, min(3.6, max(1.3, 0.35 * step)))
    told = f"{y_title} of {len(names)} collocations. " + ". ".join(
        extremes(name, names, values) for name, values in lines.items()
    )
    return picture(title, told, width, bottom + below.deep, drawn)


def bars(
    names: Sequence[str], values: Sequence[float], spreads: Sequence[float] | None, *, title: str, unit: str
) -> str:
    """Horizontal bars from zero, one below the other, with their numbers.

    Parameters
    ----------
    names, values
        of the bars, in this order; nan: not known
    spreads
        standard deviations, drawn as whiskers of ± so much; nan: none
    title, unit
        what the figure shows, and what numbers are counted in; the unit may be empty

    Raises
    ------
    PlanError
        no names, other counts of values or spreads than of names, infinite values, or negative spreads
    """
    some(names, "a bar chart", "names")
    found = checked("the chart", names, values)
    widths = checked("the spread", names, [nan] * len(names) if spreads is None else spreads, spread=True)
    spec = form(found)
    words = [
        "not known" if isnan(value) else _number(value, spread, spec)
        for value, spread in zip(found, widths, strict=True)
    ]
    ends = [0.0, *_reach(found, widths)]
    marks = ticks(min(ends), max(ends) if max(ends) > min(ends) else 1.0, 4)
    left = PAD + CHARACTER * max(len(cut(name, _ROW)) for name in names) + 10
    right = CHARACTER * max(map(len, words)) + 12
    width = left + 270 + right + PAD
    top, row = head_height(title, width), 24.0
    bottom = top + row * len(names) + 4
    scale, drawn = Scale(marks[0], marks[-1], left, left + 270), []
    for value in marks:
        kind = "zero" if value == 0 else "grid"
        drawn.append(f'<path class="{kind}" d="M{scale.at(value):.1f} {top:.1f}V{bottom:.1f}"/>')
        drawn.append(f'<text class="soft middle" x="{scale.at(value):.1f}" y="{bottom + 16:.1f}">{value:.6g}</text>')
    for i, (name, value, spread) in enumerate(zip(names, found, widths, strict=True)):
        y = top + row * i + 4
        drawn.append(f'<text class="end" x="{left - 8:.1f}" y="{y + 13:.1f}">{escaped(cut(name, _ROW))}</text>')
        drawn.append(f'<text class="end" x="{width - PAD:.1f}" y="{y + 13:.1f}">{words[i]}</text>')
        if not isnan(value):
            x, other = sorted((scale.at(0), scale.at(value)))
            bar = f'<rect x="{x:.1f}" y="{y:.1f}" width="{other - x:.1f}" height="{row - 7:g}"/>'
            whisker = _whisker(scale, value, spread, y + (row - 7) / 2, across=True)
            told = f"<title>{escaped(f'{name}: {words[i]} {unit}'.rstrip())}</title>"
            drawn.append(f'<g class="bar h1">{told}{bar}{whisker}</g>')
    drawn.append(f'<text class="soft end" x="{width - PAD:.1f}" y="{bottom + 16:.1f}">{escaped(unit)}</text>')
    listed = ", ".join(f"{name} {word}" for name, word in zip(names, words, strict=True))
    return picture(title, f"{listed}{unit and f' ({unit})'}", width, bottom + 28, drawn)


def _reach(values: Sequence[float], spreads: Sequence[float]) -> list[float]:
    """What an axis must reach for values and their whiskers."""
    return [end for value, spread in zip(values, spreads, strict=True) for end in _ends(value, spread)]


def _ends(value: float, spread: float) -> list[float]:
    if isnan(value):
        return []
    return [value] if isnan(spread) else [value - spread, value + spread]


def _number(value: float, spread: float, spec: str) -> str:
    return f"{value:{spec}}" if isnan(spread) else f"{value:{spec}} ± {spread:{spec}}"


@dataclass(frozen=True, slots=True)
class _Below:
    """Labels of the x axis: lines of words by number, how they lie, and the room that they need on the left and below."""

    shown: Mapping[int, Sequence[str]]
    slanted: bool
    left: float
    deep: float


def _below(names: Sequence[str], step: float) -> _Below:
    parts = [re.split(r"(?=\+)", name) for name in names]
    if all(len(part) * CHARACTER <= step - 4 for each in parts for part in each):
        return _Below(dict(enumerate(parts)), False, _LEFT, 18.0 + (LINE - 2) * max(map(len, parts)))
    short = {i: [cut(names[i], _NAME)] for i in range(0, len(names), ceil(18 / step))}
    reach = max(len(words) * CHARACTER * _SLANT - (i + 0.5) * step for i, (words,) in short.items())
    longest = max(len(words) for (words,) in short.values())
    return _Below(short, True, max(_LEFT, reach + PAD), 26 + CHARACTER * _SLANT * longest)


def _label(x: float, y: float, words: Sequence[str], slanted: bool) -> str:
    if slanted:
        return (
            f'<text class="end" transform="translate({x - 1:.1f} {y + 14:.1f})rotate(-45)">{escaped(words[0])}</text>'
        )
    lines = (f'<tspan x="{x:.1f}" dy="{LINE - 2 if i else 0}">{escaped(line)}</tspan>' for i, line in enumerate(words))
    return f'<text class="middle" y="{y + 18:.1f}">{"".join(lines)}</text>'


def _look(number: int) -> tuple[str, str]:
    """Names of the styles of a line: its colour, and its pattern. Seven and four are coprime, so 28 pairs differ."""
    return f"h{FAR_APART[number % HUES]}", f"d{number % DASHES}"


def _legend(names: Sequence[str], width: float, top: float) -> tuple[list[str], float]:
    """A sample of each line with its name, in as many rows as it takes; where they end."""
    drawn, x, y = [], float(PAD), top + 6
    for number, name in enumerate(names):
        words = cut(name, int((width - 2 * PAD - 40) / CHARACTER))
        need = 40 + CHARACTER * len(words) + 14
        if x > PAD and x + need > width:
            x, y = float(PAD), y + LINE
        hue, dash = _look(number)
        drawn.append(
            f'<g class="{hue} {dash}"><path class="line" d="M{x:.1f} {y:.1f}h32"/></g><g class="{hue}"><path class="mark" '
            f'd="{marker(number, x + 16, y, 3.6)}"/></g><text x="{x + 39:.1f}" y="{y + 4.5:.1f}">{escaped(words)}</text>'
        )
        x += need
    return drawn, y + LINE - 4


def _line(
    number: int,
    name: str,
    names: Sequence[str],
    xs: Sequence[float],
    values: Sequence[float],
    spreads: Sequence[float],
    scale: Scale,
    size: float,
) -> list[str]:
    hue, dash = _look(number)
    points = [None if isnan(value) else (x, scale.at(value)) for x, value in zip(xs, values, strict=True)]
    path = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in run) for run in runs(points))
    drawn = [f'<g class="{hue} {dash}"><path class="line" d="{path}"/></g>'] if path else []
    for words, value, spread, point in zip(names, values, spreads, points, strict=True):
        if point is not None:
            told = escaped(f"{words}, {name}: {_number(value, spread, '.6g')}")
            mark = f'<path class="mark" d="{marker(number, *point, size)}"/>'
            drawn.append(f'<g class="{hue}"><title>{told}</title>{_whisker(scale, value, spread, point[0])}{mark}</g>')
    return drawn


def _whisker(scale: Scale, value: float, spread: float, at: float, *, across: bool = False) -> str:
    if isnan(spread):
        return ""
    one, other = (scale.at(end) for end in _ends(value, spread))
    if across:
        return f'<path class="whisker" d="M{one:.1f} {at - 3:.1f}v6m0 -3H{other:.1f}m0 -3v6"/>'
    return f'<path class="whisker" d="M{at - 2.5:.1f} {one:.1f}h5m-2.5 0V{other:.1f}m-2.5 0h5"/>'
