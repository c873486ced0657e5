"""Histograms, as heights of bars in percent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 24


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values spread.

    Parameters
    ----------
    count
        values
    low, high, median, mean
        of them
    bars
        from, to, values and height in percent of the highest; empty where all values are one
    """

    count: int
    low: float
    high: float
    median: float
    mean: float
    bars: tuple[tuple[float, float, int, float], ...]


def histogram(values: NDArray[np.generic]) -> Histogram | None:
    """The histogram of finite numbers, (N,); None of nothing. Few whole numbers have a bar each."""
    if not len(values):
        return None
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        return Histogram(len(numbers), low, high, low, low, ())
    edges = np.linspace(low, high, BINS + 1)
    if np.array_equal(numbers, np.rint(numbers)):
        step = max(1, int(np.ceil((high - low + 1) / BINS)))
        edges = np.arange(low, high + step + 0.5, step)
        if edges[-2] > high:
            edges = edges[:-1]
    counts = np.histogram(numbers, edges)[0]
    bars = tuple(
        (float(a), float(b), int(n), 100 * float(n) / float(counts.max()))
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    return Histogram(len(numbers), low, high, float(np.median(numbers)), float(numbers.mean()), bars)
