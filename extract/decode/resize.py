"""Antialiased resizing with PIL's numbers at several times its speed (docs/adr/0009-resize-with-numba.md).

PIL resamples one axis after the other with fixed-point weights of 22 bits and rounds to uint8 in between. The same integers are
computed here on a transposed copy, so that the inner loops run along memory and the compiler makes vector instructions of
them; views of one frame share the transposition, and what a crop drops is never computed. Tests hold every result to PIL's, bit
for bit. What looks at two pixels per axis only is in linear.py.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_BITS = 22
_BLOCK = 16  # rows and columns that are turned over together stay in the first-level cache


class Source:
    """One frame, from which views of several sizes are made.

    Parameters
    ----------
    picture
        (h, w, 3) uint8, C order
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = np.ascontiguousarray(picture)
        self.height, self.width = picture.shape[:2]
        self._columns: Picture | None = None

    def resized(
        self, size: tuple[int, int], crop: tuple[int, int, int, int], interpolation: str = "bilinear"
    ) -> Picture:
        """A part of the resized frame.

        Parameters
        ----------
        size
            height and width of the whole resized frame
        crop
            top, left, height and width of the part
        interpolation
            ``bilinear`` or ``bicubic``, as PIL's

        Returns
        -------
        (height, width, 3) uint8
            what ``PIL.Image.resize((w, h), filter)`` and ``crop`` give
        """
        top, left, height, width = crop
        if self._columns is None:
            self._columns = np.empty((self.width, 3, self.height), dtype=np.uint8)
            _turn(self.picture, self._columns)
        narrow = np.empty((width, 3 * self.height), dtype=np.uint8)
        _along(
            self._columns.reshape(self.width, 3 * self.height),
            *_weights(self.width, size[1], interpolation),
            left,
            np.empty(3 * self.height, dtype=np.int32),
            narrow,
        )
        rows = np.empty((self.height, width, 3), dtype=np.uint8)
        _turn_back(narrow.reshape(width, 3, self.height), rows)
        out = np.empty((height, 3 * width), dtype=np.uint8)
        _along(
            rows.reshape(self.height, 3 * width),
            *_weights(self.height, size[0], interpolation),
            top,
            np.empty(3 * width, dtype=np.int32),
            out,
        )
        return out.reshape(height, width, 3)


def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _cubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * a if x < 2.0 else 0.0


@lru_cache(maxsize=256)
def _weights(
    n_in: int, n_out: int, interpolation: str
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """First source sample, number of samples and fixed-point weights of every output sample, as PIL rounds them."""
    kernel, reach = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}[interpolation]
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    support = reach * stretch
    most = math.ceil(support) * 2 + 1
    first, count = np.zeros(n_out, dtype=np.int32), np.zeros(n_out, dtype=np.int32)
    weights = np.zeros((n_out, most), dtype=np.int32)
    for i in range(n_out):
        centre = (i + 0.5) * scale
        lo = max(int(centre - support + 0.5), 0)
        hi = min(int(centre + support + 0.5), n_in)
        exact = [kernel((j + lo - centre + 0.5) * (1.0 / stretch)) for j in range(hi - lo)]
        total = sum(exact)
        for j, value in enumerate(exact):
            share = value * (1.0 / total) if total else value
            weights[i, j] = int(share * (1 << _BITS) + (-0.5 if share < 0 else 0.5))
        first[i], count[i] = lo, hi - lo
    return first, count, weights


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True)(function)


@_jit
def _turn(picture: Any, columns: Any) -> None:
    height, width, _ = picture.shape
    for top in range(0, height, _BLOCK):
        bottom = min(top + _BLOCK, height)
        for x in range(width):
            for y in range(top, bottom):
                columns[x, 0, y] = picture[y, x, 0]
                columns[x, 1, y] = picture[y, x, 1]
                columns[x, 2, y] = picture[y, x, 2]


@_jit
def _turn_back(columns: Any, picture: Any) -> None:
    height, width, _ = picture.shape
    for left in range(0, width, _BLOCK):
        right = min(left + _BLOCK, width)
        for y in range(height):
            for x in range(left, right):
                picture[y, x, 0] = columns[x, 0, y]
                picture[y, x, 1] = columns[x, 1, y]
                picture[y, x, 2] = columns[x, 2, y]


@_jit
def _along(source: Any, first: Any, count: Any, weights: Any, skip: int, sums: Any, out: Any) -> None:
    """Weighted sums of whole rows of `source`; row i of `out` is output sample ``skip + i``."""
    length = source.shape[1]
    for i in range(out.shape[0]):
        sample = skip + i
        for j in range(length):
            sums[j] = 1 << (_BITS - 1)
        for tap in range(count[sample]):
            weight = weights[sample, tap]
            row = first[sample] + tap
            for j in range(length):
                sums[j] += np.int32(source[row, j]) * weight
        for j in range(length):
            out[i, j] = min(max(sums[j] >> _BITS, 0), 255)
