"""What a plain reader of a made file sees, for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from extract.testing import read_frame_number


@dataclass(frozen=True)
class Truth:
    """Each frame's number and time since the start of the presentation, as a plain reader of the file has it."""

    numbers: np.ndarray
    times_s: np.ndarray
    end_s: float
    origin_s: float

    def at(self, time_s: float) -> int:
        """The frame on screen, -1 where there is none."""
        if time_s >= self.end_s or time_s < self.times_s[0]:
            return -1
        return int(self.numbers[np.searchsorted(self.times_s, time_s + 1e-7, side="right") - 1])

    def centered(self, start_s: float, stop_s: float) -> list[list[int]]:
        rows = max(1, round((stop_s - start_s) * 10))
        return [[self.at(start_s + (k + 0.5) / 10) if start_s + k / 10 < self.end_s else -1] for k in range(rows)]


def truth(path: Path, fps: Fraction | int = 30) -> Truth:
    """By PyAV alone; in AVI a frame's place in the order is its time."""
    with av.open(str(path)) as file:
        stream = file.streams.best("video")
        starts = [s.start_time * s.time_base for s in file.streams if s.start_time is not None]
        seen = [
            (f.pts, read_frame_number(np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90)))
            for f in file.decode(stream)
        ]
        numbers = np.array([number for _, number in seen])
        times = np.array([float(pts * stream.time_base - min(starts)) for pts, _ in seen])
    if path.suffix == ".avi":
        times = np.arange(len(seen)) / float(fps)
    return Truth(numbers, times, times[-1] + 1 / float(fps), float(min(starts)))
