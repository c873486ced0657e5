"""Timelines as pictures: SVG that is complete in itself, told to screen readers, and right in light and in dark."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from math import ceil, floor

from pipelines.parsing.page.rows import EPS, Row, check, labels_of

BLOCK_S = 60
LEFT, PLOT, RIGHT, TOP, AXIS = 104, 680, 24, 4, 22
TRACK, GAP, ROW_GAP, PAIR_GAP, BLOCK_GAP = 23, 2, 5, 12, 16
BASELINE = 14.5
CHARACTER = 6.7
HUES, DASHES = 7, 4
MARK = "<!-- extract parse timeline -->"


@cache
def style() -> str:
    """How pictures look, in light and in dark; a page that holds several carries it once."""
    return files("pipelines.parsing.page").joinpath("templates/timeline.css").read_text("utf-8")


def look(label: str, classes: Sequence[str]) -> str:
    """Names of the styles of a class: one of seven hues and four line patterns by its number, so 28 differ; else grey."""
    if label not in classes:
        return "h0 d0"
    number = list(classes).index(label)
    return f"h{number % HUES + 1} d{number // HUES % DASHES}"


def swatch(label: str, classes: Sequence[str]) -> str:
    """A small picture of a class's colour, for legends in HTML."""
    line = f'<rect width="26" height="12" rx="2"/><path d="M0 10.5H26" class="{look(label, classes)}"/>'
    return f'<svg class="tl swatch" viewBox="0 0 26 12" aria-hidden="true"><g class="{look(label, classes)}">{line}</g></svg>'


def svg(title: str, seconds: float, rows: Sequence[Row], classes: Sequence[str], *, alone: bool = True) -> str:
    """A timeline as a picture.

    Parameters
    ----------
    title
        such as the id of the clip; with all that is drawn, it is told to screen readers
    seconds
        its length; every further minute is drawn below
    rows
        drawn in this order; classes that overlap lie one below the other, in the same order in all rows
    classes
        they decide the colours; a label that is not among them is grey
    alone
        a file of its own; otherwise for HTML that carries :func:`style`

    Returns
    -------
    str
        SVG that loads nothing

    Raises
    ------
    PlanError
        no seconds, or an event outside them
    """
    check(seconds, rows)
    labels = labels_of(rows)
    block_s = min(float(BLOCK_S), seconds)
    drawn: list[str] = []
    y = TOP
    for number in range(ceil(seconds / block_s - EPS)):
        y += BLOCK_GAP if number else 0
        y = _draw_block(
            drawn, rows, labels, classes, (number * block_s, min(seconds, (number + 1) * block_s), block_s), y
        )
    told = "; ".join(f"{row.name}: {_told(row)}" for row in rows)
    name = "tl-" + hashlib.sha256(repr((title, told)).encode("utf-8", "replace")).hexdigest()[:10]
    width = LEFT + PLOT + RIGHT
    head = f'<svg class="tl" viewBox="0 0 {width} {y}" role="img" aria-labelledby="{name} {name}-d"'
    paper = ""
    if alone:
        head += f' xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}"'
        paper = f'<style>{style()}</style><rect class="paper" width="{width}" height="{y}"/>'
    words = f'<title id="{name}">{_escape(title)}</title><desc id="{name}-d">{_escape(f"{seconds:g} s. {told}")}</desc>'
    return f"{head}>{MARK}{words}{paper}{''.join(drawn)}</svg>\n"


def _told(row: Row) -> str:
    return ", ".join(f"{label} {start:g} to {stop:g} s" for start, stop, label in row.events) or "nothing"


def _draw_block(
    drawn: list[str],
    rows: Sequence[Row],
    labels: Sequence[str],
    classes: Sequence[str],
    span: tuple[float, float, float],
    top: int,
) -> int:
    """Draw a stretch of the clip below `top`; how far down it reaches."""
    from_s, to_s, block_s = span
    scale, y = PLOT / block_s, top
    lines: list[str] = []
    for i, row in enumerate(rows):
        if i:
            y += ROW_GAP if rows[i - 1].name.partition(" ")[0] == row.name.partition(" ")[0] else PAIR_GAP
        lines.append(f'<text class="name" x="{LEFT - 12}" y="{y + BASELINE}">{_escape(row.name)}</text>')
        tracks = [
            (label, bars)
            for label in labels
            if (bars := [_clip(e, from_s, to_s) for e in row.events if e[2] == label and e[0] < to_s and e[1] > from_s])
        ]
        for label, bars in tracks or [("", [])]:
            lines.append(
                f'<rect class="track" x="{LEFT}" y="{y}" width="{(to_s - from_s) * scale:g}" height="{TRACK}" rx="2"/>'
            )
            places = [(LEFT + (a - from_s) * scale, LEFT + (b - from_s) * scale) for a, b in sorted(bars)]
            lines += _draw_bars(label, look(label, classes), places, LEFT + (to_s - from_s) * scale, y)
            for (a, b), (x0, x1) in zip(sorted(bars), places, strict=True):
                lines.append(_hover(f"{row.name}: {label}, {a:g} to {b:g} s", x0, x1, y))
            y += TRACK + GAP
        y -= GAP
    drawn += _draw_axis(from_s, to_s, scale, top, y)
    drawn += lines
    return y + AXIS


def _clip(event: tuple[float, float, str], from_s: float, to_s: float) -> tuple[float, float]:
    return max(event[0], from_s), min(event[1], to_s)


def _hover(words: str, x0: float, x1: float, y: float) -> str:
    place = f'x="{x0:.1f}" y="{y}" width="{x1 - x0:.1f}" height="{TRACK}"'
    return f'<rect class="hover" {place}><title>{_escape(words)}</title></rect>'


def _draw_bars(label: str, kind: str, places: Sequence[tuple[float, float]], end: float, y: float) -> list[str]:
    """The stretches of one class in one row; its name stands in every one that has room, and once in any case."""
    lines = [
        f'<g class="{kind}"><rect x="{x0:.1f}" y="{y}" width="{x1 - x0:.1f}" height="{TRACK}" rx="2"/>'
        f'<path d="M{x0:.1f} {y + TRACK - 1.5}H{x1:.1f}"/></g>'
        for x0, x1 in places
    ]
    need = CHARACTER * len(label) + 10
    inside = [x0 for x0, x1 in places if x1 - x0 >= need]
    if not places:
        return lines
    if inside:
        return lines + [_label(label, x + 5, y) for x in inside]
    starts = [x0 for x0, _ in places] + [end]
    befores = [LEFT, *(x1 for _, x1 in places)]
    after = max(range(len(places)), key=lambda i: starts[i + 1] - starts[i])
    before = max(range(len(places)), key=lambda i: starts[i] - befores[i])
    room = starts[after + 1] - starts[after]
    if room < need and starts[before] - befores[before] > room:
        fits = int((starts[before] - befores[before] - 10) / CHARACTER)
        return [*lines, _label(_cut(label, fits), starts[before] - 5, y, "before")]
    return [*lines, _label(_cut(label, int((room - 10) / CHARACTER)), starts[after] + 5, y)]


def _label(words: str, x: float, y: float, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y + BASELINE}">{_escape(words)}</text>'


def _draw_axis(from_s: float, to_s: float, scale: float, top: float, bottom: float) -> list[str]:
    step = next(step for step in (1, 2, 5, 10) if step * scale >= 34)
    lines = []
    for number in range(floor((to_s - from_s) / step + EPS) + 1):
        second = from_s + number * step
        x = LEFT + number * step * scale
        lines.append(f'<path class="tick" d="M{x:.1f} {top}V{bottom + 4}"/>')
        lines.append(
            f'<text class="second" x="{x:.1f}" y="{bottom + 17}">{second:g}{" s" if not number else ""}</text>'
        )
    return lines


def _escape(words: str) -> str:
    """For XML: marked up, and without characters that XML does not know."""
    return escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", words))


def _cut(words: str, length: int) -> str:
    return words if len(words) <= length else words[: max(0, length - 1)] + "…"
