"""The row axis: half-open windows on a clip in int64 nanoseconds, and the named rule that picks frames for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

NS = 1_000_000_000
Sampling = Literal["ffmpeg_r8", "centered", "every", "linspace", "interval"]
Short = Literal["stretch", "repeat_last", "zeros", "error"]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the rows of a feature lie on a clip.

    Parameters
    ----------
    window_ns, hop_ns
        length of a window and distance between the starts of two, in nanoseconds
    count
        rows per clip; None: as many as fit, a last one counting when the clip fills at least half of its hop
    sampling
        which source frames a window shows (extract.decode.sampling); ignored by sound
    stride
        source frames between two samples of the rule ``every``
    short
        what to do where the clip ends before its windows do: ``stretch`` (spread what is there over all rows, the
        official LLP way; frames only), ``repeat_last``, ``zeros``, ``error``. Rows made by the policies
        ``repeat_last`` and ``zeros`` are stored with ``valid = 0``
    """

    window_ns: int = NS
    hop_ns: int = NS
    count: int | None = None
    sampling: Sampling = "centered"
    stride: int = 1
    short: Short = "zeros"

    def __post_init__(self) -> None:
        for name in ("window_ns", "hop_ns", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"Grid.{name} must be >= 1, got {getattr(self, name)}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"Grid.count must be >= 1 or None, got {self.count}")
        if self.sampling in ("ffmpeg_r8", "interval") and self.short != "stretch":
            raise ValueError(f"{self.sampling} spreads the clip over its rows: Grid.short must be 'stretch' with it")

    def rows(self, duration_ns: int) -> int:
        """Rows on a clip of that length: `count`, or the duration in hops, rounded half up, and at least one."""
        if self.count is not None:
            return self.count
        return max(1, (duration_ns - self.window_ns + self.hop_ns // 2) // self.hop_ns + 1)

    def windows_ns(self, duration_ns: int) -> NDArray[np.int64]:
        """The windows of a clip of that length.

        Returns
        -------
        (rows, 2) int64
            start and stop of each half-open window, in nanoseconds from the clip's start
        """
        start = np.arange(self.rows(duration_ns), dtype=np.int64) * self.hop_ns
        return np.stack([start, start + self.window_ns], axis=1)
