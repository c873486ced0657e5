"""Sound as a decoder gives it, piece by piece, and the rows that are cut out of it: no file, no codec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.spec import Sound
from extract.decode.sound import Window, Windows
from extract.grid import NS, Grid


def planes(samples: NDArray[Any], format_: str, layout: str, rate_hz: int, pts: int | None) -> Any:
    """(channels, n) floats in [-1, 1] as a frame of that sample format, such as ``s16`` or ``fltp``."""
    import av

    kind = format_.rstrip("p")
    x = {
        "u8": lambda s: np.rint(s * 127 + 128).astype(np.uint8),
        "s16": lambda s: np.rint(s * 32_767).astype(np.int16),
        "s32": lambda s: np.rint(s * (2**31 - 1)).astype(np.int32),
        "flt": lambda s: s.astype(np.float32),
        "dbl": lambda s: s.astype(np.float64),
    }[kind](samples.astype(np.float64))
    x = x if format_.endswith("p") else x.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x), format=format_, layout=layout)
    frame.sample_rate, frame.pts = rate_hz, pts
    return frame


def in_pieces(
    x: NDArray[Any], rate_hz: int, size: int = 1024, start_s: float = 0.0, dated: bool = True
) -> Iterator[tuple[Any, float | None]]:
    """(channels, n) floats as frames of `size` samples, each with the time it is heard at, or None if not `dated`."""
    for k in range(0, x.shape[1], size):
        yield (
            planes(x[:, k : k + size], "fltp", "mono" if len(x) == 1 else "stereo", rate_hz, k),
            (start_s + k / rate_hz if dated else None),
        )


def windows_of(view: Sound, grid: Grid, length_s: float) -> Windows:
    """The windows of a clip of that length."""
    return Windows(view, grid, grid.windows_ns(round(length_s * NS)), length_s)


def cut(windows: Windows, pieces: Iterable[tuple[Any, float | None]]) -> list[Window]:
    """Push all pieces, and finish."""
    out = [window for frame, at_s in pieces for window in windows.push(frame, at_s)]
    return [*out, *windows.finish()]
