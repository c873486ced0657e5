"""How much rows resemble each other along time, per backbone, averaged over clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from extract.report.lanes import lowest
from extract.report.pictures import heat, smaller
from extract.report.sample import Looked

WIDTH, HEIGHT = 600, 160


@dataclass(frozen=True, slots=True)
class Similarity:
    """One backbone.

    Parameters
    ----------
    key
        its name
    picture, rows, pictured
        the (R, R) mean cosine as a picture, its R and the clips behind it; no picture of clips with a single row
    strip
        the mean cosine by distance as a picture of one line, the nearest rows first
    low
        the cosine of the darkest colour
    line
        distance in pixels of a 600 x 160 picture and height, as points of a line over cosines from `low` to 1
    marks
        distance in rows, in seconds, and the cosine: of the first, the middle and the last distance
    compared
        clips behind `strip` and `line`
    """

    key: str
    picture: str
    rows: int
    pictured: int
    strip: str
    low: float
    line: str
    marks: tuple[tuple[int, float, float], ...]
    compared: int


def similar(looked: Looked) -> Similarity | None:
    """The self-similarity of one key; None where no clip has two rows that can be compared."""
    lag = looked.lag
    if len(lag) < 2:
        return None
    low = min(lowest(looked.picture), lowest(lag[None]))
    there = np.flatnonzero(np.isfinite(lag))
    x = there / (len(lag) - 1) * WIDTH
    y = HEIGHT * (1 - (lag[there] - low) / (1 - low))
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    marks = [1, len(lag) // 2, len(lag) - 1]
    return Similarity(
        looked.key,
        heat(smaller(looked.picture), low, 1.0) if looked.pictured and len(looked.picture) > 1 else "",
        len(looked.picture),
        looked.pictured,
        heat(lag[None, 1:], low, 1.0),
        low,
        line,
        tuple((at, at * looked.hop_s, float(lag[at])) for at in sorted(set(marks)) if np.isfinite(lag[at])),
        looked.compared,
    )
