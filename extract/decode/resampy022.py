"""Resampling as resampy 0.2.2 does it, the release that the audio networks of its time were trained and published with."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def kaiser_best(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Resample with the default filter of resampy 0.2.2; since 0.3 the filter of that name is another one.

    The first call in a process compiles resampy's loop, which takes half a second.

    Parameters
    ----------
    samples
        (n,) at `from_hz`, with ``n * to_hz // from_hz >= 1``; sums run in float64, as they did on the official floats

    Returns
    -------
    (n * to_hz // from_hz,) float32
        `samples` themselves where the rates are equal
    """
    if from_hz == to_hz:
        return samples
    import resampy  # type: ignore[import-untyped]

    out: NDArray[np.float64] = resampy.resample(samples.astype(np.float64), from_hz, to_hz, filter=_filter)
    return out.astype(np.float32)


@lru_cache(maxsize=1)
def _filter() -> tuple[NDArray[np.float64], int, float]:
    """The right half of the filter, its coefficients per zero crossing, its roll-off."""
    import resampy

    return resampy.filters.sinc_window(  # type: ignore[no-any-return]
        num_zeros=64, precision=9, window=_window, rolloff=0.9475937167399596
    )


def _window(length: int) -> NDArray[np.float64]:
    return np.kaiser(length, 14.769656459379492)
