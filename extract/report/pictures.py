"""Arrays as pictures that the page carries within itself (``data:`` addresses)."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# matplotlib's viridis (CC0) at nine places: lightness grows evenly, also for colour-blind eyes and in grey print
_VIRIDIS = "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725"
SIDE_MOST = 96
_MISSING = 255  # the palette's last colour stands for NaN: nothing is drawn there


def _palette() -> list[int]:
    anchors = np.array([[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in _VIRIDIS.split()], float)
    at = np.linspace(0, len(anchors) - 1, _MISSING)
    colours = np.stack([np.interp(at, range(len(anchors)), anchors[:, i]) for i in range(3)], axis=1)
    return [*np.rint(colours).astype(int).ravel().tolist(), 0, 0, 0]


def heat(values: NDArray[np.floating], low: float, high: float) -> str:
    """(h, w) numbers as a PNG, `low` dark and `high` bright, numbers beyond them like the nearest of the two, NaN left out."""
    span = high - low if high > low else 1.0
    with np.errstate(invalid="ignore"):
        level = np.clip((values - low) / span, 0.0, 1.0) * (_MISSING - 1)
    index = np.where(np.isfinite(values), np.rint(np.nan_to_num(level)), _MISSING).astype(np.uint8)
    picture = Image.fromarray(index, "P") if index.size else Image.new("P", (1, 1))
    picture.putpalette(_palette())
    return _address(picture, "PNG", optimize=True, transparency=_MISSING)


def ramp() -> str:
    """The colours of :func:`heat` from low to high, one pixel high."""
    return heat(np.arange(_MISSING, dtype=np.float64)[None], 0, _MISSING - 1)


def photo(pixels: NDArray[np.uint8]) -> str:
    """(h, w, 3) RGB as a JPEG."""
    return _address(Image.fromarray(pixels), "JPEG", quality=78, optimize=True)


def narrowed(values: NDArray[np.floating], columns: int) -> NDArray[np.floating]:
    """(h, w) with at most so many columns: means of neighbouring ones."""
    width = values.shape[1]
    if width <= columns:
        return values
    edges = np.linspace(0, width, columns + 1).astype(int)
    return np.add.reduceat(values, edges[:-1], axis=1) / np.diff(edges)


def smaller(table: NDArray[np.floating]) -> NDArray[np.floating]:
    """(R, R) numbers with at most 96 lines and columns: means of neighbouring ones."""
    return narrowed(narrowed(table, SIDE_MOST).T, SIDE_MOST).T


def _address(picture: Image.Image, form: str, **options: object) -> str:
    raw = io.BytesIO()
    picture.save(raw, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(raw.getvalue()).decode()}"
