"""Resizing that looks at the two nearest pixels per axis only, however much smaller the result is: OpenCV's, torch's, skimage's.

Tests hold the bytes to OpenCV's, bit for bit, and the floats to torch's and skimage's
(docs/adr/0010-linear-pictures-are-float32.md).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Levels = NDArray[np.float32]
_CV2_ONE = 2048  # OpenCV's weights for 8-bit pictures have 11 bits


def cv2_linear(picture: Picture, size: tuple[int, int], crop: tuple[int, int, int, int]) -> Picture:
    """A part of the frame as OpenCV's INTER_LINEAR resizes 8-bit pictures.

    Its fixed-point arithmetic: weights of 11 bits, the sum within a row cut by 4 bits, its product with the row's weight by 16,
    two bits rounded at the end. A picture of exactly twice the size in both axes is averaged in squares instead.

    Parameters
    ----------
    picture
        (h, w, 3) uint8, C order
    size
        height and width of the whole resized frame
    crop
        top, left, height and width of the part

    Returns
    -------
    (height, width, 3) uint8
        what ``cv2.resize(picture, (w, h))`` and the crop give, bit for bit (OpenCV 4.10)
    """
    top, left, height, width = crop
    out = np.empty((height, width, 3), dtype=np.uint8)
    if picture.shape[:2] == (2 * size[0], 2 * size[1]):
        _halve(picture, top, left, out)
    else:
        _cv2_pairs(
            picture,
            *(table[top : top + height] for table in _cv2_weights(picture.shape[0], size[0], "rows")),
            *(table[left : left + width] for table in _cv2_weights(picture.shape[1], size[1], "columns")),
            np.empty((2, 3 * width), dtype=np.int32),
            out,
        )
    return out


def linear(
    picture: Picture,
    size: tuple[int, int],
    crop: tuple[int, int, int, int],
    places: Literal["float32", "float64"] = "float32",
) -> Levels:
    """A part of the resized frame without any rounding to whole levels.

    Parameters
    ----------
    picture, size, crop
        as for :func:`cv2_linear`
    places
        arithmetic of the positions in the frame. ``float32``: with one rounding, as torch's ``interpolate`` has them on
        processors with fused multiply-add (bilinear, align_corners and antialias off); ``float64``: as skimage's ``rescale``
        (order 1, anti_aliasing off). In a picture 1280 pixels wide the two are up to 0.0001 pixels apart

    Returns
    -------
    (height, width, 3) float32
        levels in [0, 255]
    """
    top, left, height, width = crop
    out = np.empty((height, width, 3), dtype=np.float32)
    _linear_pairs(
        picture,
        *(table[top : top + height] for table in _linear_weights(picture.shape[0], size[0], places)),
        *(table[left : left + width] for table in _linear_weights(picture.shape[1], size[1], places)),
        np.empty((2, 3 * width), dtype=np.float32),
        out,
    )
    return out


@lru_cache(maxsize=256)
def _cv2_weights(n_in: int, n_out: int, axis: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Places and weights, (n_out, 2), of the two pixels behind every output sample, as OpenCV computes them."""
    scale = 1.0 / (n_out / n_in)
    position = ((np.arange(n_out) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position)
    share = position - first
    if axis == "columns":  # beyond the edges rows keep their shares, and lose up to a level to the cuts
        share[(first < 0) | (first >= n_in - 1)] = 0.0
    weights = np.rint(np.stack([1 - share, share], axis=1) * np.float32(_CV2_ONE)).astype(np.int32)
    return _neighbours(first, n_in), weights


@lru_cache(maxsize=256)
def _linear_weights(n_in: int, n_out: int, places: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Places and weights, (n_out, 2), of the two pixels behind every output sample."""
    scale = float(np.float32(n_in) / np.float32(n_out)) if places == "float32" else n_in / n_out
    position = np.maximum((np.arange(n_out) + 0.5) * scale - 0.5, 0.0).astype(places)
    first = np.floor(position)
    share = (position - first).astype(np.float32)
    return _neighbours(first, n_in), np.stack([1 - share, share], axis=1)


def _neighbours(first: NDArray[np.floating], n_in: int) -> NDArray[np.int32]:
    """The pixel at `first` and the next one; beyond the edges the outermost one goes on."""
    low = first.astype(np.int32)
    pair: NDArray[np.int32] = np.clip(np.stack([low, low + 1], axis=1), 0, n_in - 1)
    return pair


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True)(function)


@_jit
def _halve(picture: Any, top: int, left: int, out: Any) -> None:
    height, width, _ = out.shape
    for i in range(height):
        y = 2 * (top + i)
        for j in range(width):
            x = 2 * (left + j)
            for c in range(3):
                total = np.int32(picture[y, x, c]) + picture[y, x + 1, c]
                total += np.int32(picture[y + 1, x, c]) + picture[y + 1, x + 1, c]
                out[i, j, c] = (total + 2) >> 2


@_jit
def _cv2_pairs(
    picture: Any, rows: Any, row_weights: Any, columns: Any, column_weights: Any, sums: Any, out: Any
) -> None:
    height, width, _ = out.shape
    for i in range(height):
        for k in range(2):
            y = rows[i, k]
            for j in range(width):
                near, far = columns[j, 0], columns[j, 1]
                for c in range(3):
                    total = np.int32(picture[y, near, c]) * column_weights[j, 0]
                    sums[k, 3 * j + c] = (total + np.int32(picture[y, far, c]) * column_weights[j, 1]) >> 4
        upper, lower = row_weights[i, 0], row_weights[i, 1]
        for j in range(width):
            for c in range(3):
                above, below = (sums[0, 3 * j + c] * upper) >> 16, (sums[1, 3 * j + c] * lower) >> 16
                out[i, j, c] = (above + below + 2) >> 2


@_jit
def _linear_pairs(
    picture: Any, rows: Any, row_weights: Any, columns: Any, column_weights: Any, sums: Any, out: Any
) -> None:
    height, width, _ = out.shape
    for i in range(height):
        for k in range(2):
            y = rows[i, k]
            for j in range(width):
                near, far = columns[j, 0], columns[j, 1]
                for c in range(3):
                    total = np.float32(picture[y, near, c]) * column_weights[j, 0]
                    sums[k, 3 * j + c] = total + np.float32(picture[y, far, c]) * column_weights[j, 1]
        upper, lower = row_weights[i, 0], row_weights[i, 1]
        for j in range(width):
            for c in range(3):
                out[i, j, c] = sums[0, 3 * j + c] * upper + sums[1, 3 * j + c] * lower
