"""A number for each pair of backbones as a coloured cell."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from pipelines.collocation.report.figure_axes import (
    CHARACTER,
    LINE,
    PAD,
    checked,
    cut,
    escaped,
    extremes,
    form,
    head_height,
    picture,
    some,
)
from pipelines.collocation.report.figure_style import SHADES

_NAME, _TALL, _SLANT = 26, 30.0, 0.7072


def heat_map(rows: Sequence[str], columns: Sequence[str], values: Any, *, title: str, unit: str) -> str:
    """A number for each pair, in a cell that is the stronger coloured the higher it is.

    Parameters
    ----------
    rows, columns
        R and C names, such as backbones of the audio and of the visual slot
    values
        (R, C); nan where a number is not known. The highest is marked, several where they are equal
    title, unit
        what the figure shows, and what numbers are counted in; the unit may be empty

    Raises
    ------
    PlanError
        no rows or columns, values of another shape, or infinite values
    """
    some(rows, "a heat map", "rows")
    some(columns, "a heat map", "columns")
    table: NDArray[np.float64] = np.asarray(values, np.float64)
    if table.shape != (len(rows), len(columns)):
        raise PlanError(
            f"values have the shape {table.shape}; {len(rows)} rows and {len(columns)} columns have ({len(rows)}, {len(columns)})"
        )
    for name, row in zip(rows, table, strict=True):
        checked(name, columns, row)
    known = table[~np.isnan(table)].tolist()
    low, high = (min(known), max(known)) if known else (nan, nan)
    spec, unit = form(known), f" {unit}" if unit else ""
    heads = [cut(name, _NAME) for name in columns]
    longest = CHARACTER * max(map(len, heads))
    left = PAD + CHARACTER * max(len(cut(name, _NAME)) for name in rows) + 10
    digits = max((len(f"{value:{spec}}") for value in known), default=1)
    wide = max(CHARACTER * digits + 14, min(96.0, 330 / len(columns)))
    slanted = longest > wide - 4
    width = max(left + wide * len(columns) + PAD + slanted * max(0.0, longest * _SLANT - wide / 2), 440.0)
    top = head_height(title, width) + (longest * _SLANT + 14 if slanted else LINE)
    drawn = []
    for j, head in enumerate(heads):
        x, y = left + (j + 0.5) * wide, top - 6
        turned = f'transform="translate({x:.1f} {y:.1f})rotate(-45)"'
        place = turned if slanted else f'class="middle" x="{x:.1f}" y="{y:.1f}"'
        drawn.append(f"<text {place}>{escaped(head)}</text>")
    for i, name in enumerate(rows):
        y = top + i * _TALL
        drawn.append(f'<text class="end" x="{left - 8:.1f}" y="{y + 19.5:.1f}">{escaped(cut(name, _NAME))}</text>')
        for j, value in enumerate(table[i].tolist()):
            words = f"{name} + {columns[j]}: " + ("not known" if isnan(value) else f"{value:.6g}{unit}")
            shade = "" if isnan(value) else f"q{_shade(value, low, high)}"
            text = "–" if isnan(value) else f"{value:{spec}}"
            drawn.append(_cell(left + j * wide, y, wide - 2, _TALL - 2, shade, text, words, value == high))
    y = top + _TALL * len(rows) + 14
    drawn += _legend(y, low, high, spec, unit, len(known) < table.size)
    pairs = [f"{row} + {column}" for row in rows for column in columns]
    told = extremes(f"pairs{unit and f', in{unit}'}", pairs, table.ravel().tolist())
    return picture(title, told, width, y + 40, drawn)


def _shade(value: float, low: float, high: float) -> int:
    return SHADES // 2 if high == low else min(SHADES - 1, int((value - low) / (high - low) * SHADES))


def _cell(x: float, y: float, width: float, height: float, shade: str, text: str, words: str, best: bool) -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"'
    inner = f'<rect class="best" x="{x + 2.5:.1f}" y="{y + 2.5:.1f}" width="{width - 5:.1f}" height="{height - 5:.1f}" rx="2"/>'
    box = f"<rect {size}/>" if shade else f'<rect class="none" {size}/>'
    kind = "middle strong" if best else "middle"
    told = f"<title>{escaped(words)}{' (highest)' if best else ''}</title>" if words else ""
    return (
        f'<g class="cell {shade}">{told}{box}{inner if best else ""}'
        f'<text class="{kind}" x="{x + width / 2:.1f}" y="{y + height / 2 + 4.5:.1f}">{text}</text></g>'
    )


def _legend(y: float, low: float, high: float, spec: str, unit: str, gaps: bool) -> list[str]:
    """The legend of a heat map."""
    drawn, x = [], float(PAD)
    if not isnan(low):
        shades = [SHADES // 2] if low == high else range(SHADES)
        drawn += [
            f'<g class="cell q{n}"><rect x="{x + 24 * i:g}" y="{y:.1f}" width="24" height="12"/></g>'
            for i, n in enumerate(shades)
        ]
        end = x + 24 * len(shades)
        drawn.append(
            f'<text class="soft" x="{x:g}" y="{y + 27:.1f}">{low:{spec}}{escaped(unit) if low == high else ""}</text>'
        )
        if low != high:
            drawn.append(f'<text class="soft end" x="{end:g}" y="{y + 27:.1f}">{high:{spec}}{escaped(unit)}</text>')
        drawn.append(_cell(end + 20, y - 2, 26, 18, f"q{shades[-1]}", "", "", True))
        drawn.append(f'<text class="soft" x="{end + 52:g}" y="{y + 11:.1f}">highest</text>')
        x = end + 112
    if gaps:
        drawn.append(_cell(x, y - 2, 26, 18, "", "–", "", False))
        drawn.append(f'<text class="soft" x="{x + 32:g}" y="{y + 11:.1f}">not known</text>')
    return drawn
