"""What the figures of a report share: their frame, colours, axes, markers, numbers and words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, isinf, log10
from textwrap import wrap

from extract.errors import PlanError
from pipelines.collocation.report.figure_style import looks

CHARACTER, LINE = 7.9, 18
"""Mean width of a character, and the distance of two lines of text."""
PAD = 12


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis.

    Parameters
    ----------
    low, high
        values at its ends, ``low < high``
    start, stop
        where they are drawn
    """

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def picture(title: str, told: str, width: float, height: float, drawn: Iterable[str], after: float = PAD) -> str:
    """A whole figure: SVG that loads nothing, is told to screen readers, and can stand alone or within HTML.

    Parameters
    ----------
    title, told
        what it shows, and what is to be seen in it; the title stands on top, from `after` on
    width, height
        of the drawing; it is shown from 0.66 to 1.6 times this width, to fit the room there is. What holds it should scroll
        sideways where there is less
    drawn
        below the title, which takes :func:`head_height`
    """
    name = "cf-" + hashlib.sha256(repr((title, told)).encode("utf-8", "replace")).hexdigest()[:10]
    lines = [
        f'<text class="head" x="{after:g}" y="{PAD + 10 + LINE * i}">{escaped(line)}</text>'
        for i, line in enumerate(_wrapped(title, width - after))
    ]
    return (
        f'<svg class="tl cf" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" style="min-width:{0.66 * width:.0f}px;max-width:{1.6 * width:.0f}px" role="img" '
        f'aria-labelledby="{name} {name}-d"><title id="{name}">{escaped(title)}</title><desc id="{name}-d">{escaped(told)}</desc>'
        f'<style>{looks()}</style><rect class="paper" width="{width:g}" height="{height:g}"/>'
        f"{''.join(lines)}{''.join(drawn)}</svg>\n"
    )


def head_height(title: str, width: float, after: float = PAD) -> float:
    """How far down the title reaches."""
    return PAD + LINE * len(_wrapped(title, width - after)) + 4


def _wrapped(words: str, width: float) -> list[str]:
    return wrap(words, max(8, int((width - PAD) / CHARACTER))) or [""]


def escaped(words: str) -> str:
    """For XML: marked up, and without characters that XML does not know."""
    return escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", words))


def cut(words: str, most: int) -> str:
    """At most so many characters; the parts of a collocation are cut one by one, in their middles, the longest first."""
    parts = words.split("+")
    room, found = most - len(parts) + 1, dict.fromkeys(range(len(parts)), 0)
    if len(words) <= most or room < 3 * len(parts):
        return _shortened(words, most)
    for left, i in zip(range(len(parts), 0, -1), sorted(found, key=lambda i: len(parts[i])), strict=True):
        found[i] = min(len(parts[i]), room // left)
        room -= found[i]
    return "+".join(_shortened(part, found[i]) for i, part in enumerate(parts))


def _shortened(words: str, most: int) -> str:
    tail = (most - 1) // 2
    return words if len(words) <= most else f"{words[: most - 1 - tail]}…{words[len(words) - tail :]}"


def form(values: Iterable[float]) -> str:
    """How finite numbers are to be written so that they differ where they do: a format such as ``z.1f``."""
    known = [value for value in values if isfinite(value)] or [0.0]
    peak = max(abs(value) for value in known)
    span = max(known) - min(known) or peak
    if peak >= 1e6 or 0 < peak < 1e-3:
        return ".4g"
    digits = 1 - floor(log10(span / 2)) if span else 1
    return f"z.{max(1 if peak < 1000 else 0, min(4, digits))}f"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers, evenly apart, from at or below `low` to at or above `high`; ``low < high``."""
    base = 10.0 ** floor(log10((high - low) / most))
    step = next(base * factor for factor in (1, 2, 5, 10) if base * factor * most >= (high - low) * (1 - 1e-9))
    return [i * step for i in range(floor(low / step + 1e-9), ceil(high / step - 1e-9) + 1)]


def marker(kind: int, x: float, y: float, r: float) -> str:
    """One of seven shapes as the data of a path: circle, square, triangle, diamond, cross, triangle upside down, plus."""
    k = 0.9 * r
    shape = (
        f"m{-r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0z",
        f"m{-k:.1f} {-k:.1f}h{2 * k:.1f}v{2 * k:.1f}h{-2 * k:.1f}z",
        f"m0 {-1.2 * r:.1f}l{1.1 * r:.1f} {2 * r:.1f}h{-2.2 * r:.1f}z",
        f"m0 {-1.3 * r:.1f}l{1.3 * r:.1f} {1.3 * r:.1f}l{-1.3 * r:.1f} {1.3 * r:.1f}l{-1.3 * r:.1f} {-1.3 * r:.1f}z",
        f"m{-k:.1f} {-k:.1f}l{2 * k:.1f} {2 * k:.1f}m0 {-2 * k:.1f}l{-2 * k:.1f} {2 * k:.1f}",
        f"m0 {1.2 * r:.1f}l{1.1 * r:.1f} {-2 * r:.1f}h{-2.2 * r:.1f}z",
        f"m{-r:.1f} 0h{2 * r:.1f}m{-r:.1f} {-r:.1f}v{2 * r:.1f}",
    )[kind % 7]
    return f"M{x:.1f} {y:.1f}{shape}"


def checked(what: str, names: Sequence[str], values: Sequence[float], *, spread: bool = False) -> tuple[float, ...]:
    """The values, one per name.

    Raises
    ------
    PlanError
        there are more or fewer than names, one is infinite, or a spread is negative
    """
    found = tuple(float(value) for value in values)
    if len(found) != len(names):
        raise PlanError(
            f"{what} has {len(found)} values for {len(names)} names; give one for each, nan where it is not known"
        )
    for name, value in zip(names, found, strict=True):
        if isinf(value) or (spread and value < 0):
            allowed = "zero or more" if spread else "finite"
            raise PlanError(f"{what} of {name!r} is {value}; it must be {allowed}, or nan where it is not known")
    return found


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis that shows these finite values; around equal ones there is room."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    room = max(abs(low) * 0.02, 1e-3)
    return low - room, high + room


def runs(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """Stretches of points without a gap."""
    edges = [-1, *(i for i, point in enumerate(points) if point is None), len(points)]
    found = ([point for point in points[a + 1 : b] if point is not None] for a, b in pairwise(edges))
    return [each for each in found if each]


def some(names: Sequence[str], figure: str, what: str) -> None:
    if not len(names):
        raise PlanError(f"{figure} of no {what} cannot be drawn; give at least one")


def extremes(what: str, names: Sequence[str], values: Sequence[float]) -> str:
    known = [(value, name) for value, name in zip(values, names, strict=True) if isfinite(value)]
    if not known:
        return f"{what}: no values"
    (low, worst), (high, best) = min(known, key=lambda each: each[0]), max(known, key=lambda each: each[0])
    return f"{what}: highest {high:.6g} ({best}), lowest {low:.6g} ({worst}), {len(known)} of {len(names)} known"
