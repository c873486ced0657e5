"""How the samples of a row are made out of the sound of a clip: one rule for each ``Sound.resample``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.spec import Sound
from extract.decode.resampy022 import kaiser_best
from extract.errors import PlanError, TooLarge
from extract.grid import NS, Grid

Int = NDArray[np.int64]
Samples = NDArray[np.float32]
MOVIEPY_HZ = 44_100
JITTER_S = 0.05  # containers round timestamps; only larger steps are gaps in the sound
SQUEEZE = 6  # a whole clip waits in memory to be squeezed into one row


class Buffer:
    """The samples from `start` on that some row still needs.

    Parameters
    ----------
    dtype, channels
        of the samples
    rate_hz
        their rate; 0: not known yet
    """

    def __init__(self, dtype: Any, channels: int, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.start = 0
        self._pieces: list[NDArray[Any]] = []
        self.stop = 0
        self._empty = np.zeros((0, channels), dtype=dtype)

    def append(self, piece: NDArray[Any]) -> None:
        """Add (n, channels) samples at the end."""
        if len(piece):
            self._pieces.append(piece)
            self.stop += len(piece)

    def take(self, index: Int) -> NDArray[Any]:
        """Samples at absolute positions, all of which must lie in ``start .. stop-1``."""
        return self._whole()[index - self.start]

    def span(self, begin: int, stop: int) -> NDArray[Any]:
        """A copy of the samples ``begin .. stop-1``, all of which must be there."""
        return self._whole()[begin - self.start : stop - self.start].copy()

    def _whole(self) -> NDArray[Any]:
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        return self._pieces[0] if self._pieces else self._empty

    def forget(self, before: int) -> None:
        """Drop what lies before an absolute position, once that is worth a copy."""
        if before - self.start > 4 * MOVIEPY_HZ and self._pieces:
            whole = np.concatenate(self._pieces)
            keep = min(before - self.start, len(whole) - 1)  # the last one may be repeated
            self._pieces = [whole[keep:].copy()]
            self.start += keep


class Rule(Protocol):
    """Rows out of the samples that are kept; `last` says that no more will come."""

    def begin(self, row: int, kept: Buffer) -> int:
        """The first kept sample that the row needs."""

    def ready(self, row: int, kept: Buffer, last: bool) -> bool:
        """Whether the row can be cut."""

    def cut(self, row: int, kept: Buffer) -> Samples:
        """The row, which is ready."""

    def span_s(self, row: int, kept: Buffer) -> tuple[float, float]:
        """When the row is heard."""

    def until_s(self, kept: Buffer) -> float:
        """When the sound ends, all of it having come."""

    def heard(self, row: int, kept: Buffer) -> bool:
        """Whether the clip's own sound fills a row that is ready."""


def rule_for(view: Sound, grid: Grid, windows_ns: Int, clip_s: float, span_s: float | None) -> Rule:
    """The rule of a view.

    Parameters
    ----------
    view, grid
        what to cut
    windows_ns
        (R, 2) of the grid on the clip
    clip_s
        the clip's length as its container declares it
    span_s
        length of a clip that is a part of its file; None: it goes on to the file's end

    Raises
    ------
    PlanError
        such rows cannot be cut on this grid
    """
    starts = np.rint(windows_ns[:, 0] * (view.rate_hz / NS)).astype(np.int64)
    if view.resample == "moviepy":
        return Moviepy(view, starts, clip_s)
    if view.resample == "resampy_rows":
        if view.samples * NS > grid.window_ns * view.rate_hz:
            raise PlanError(
                f"resampy_rows resamples the windows alone, and one of {grid.window_ns / NS:g} s does not give the "
                f"{view.samples} samples at {view.rate_hz} Hz that this view needs; "
                f"windows of at least {view.samples / view.rate_hz:g} s do"
            )
        return ResampyRows(view, windows_ns, pad=grid.short == "zeros")
    if view.resample == "indexed":
        if grid.count != 1:
            rows = "as many rows as fit" if grid.count is None else f"{grid.count} rows"
            raise PlanError(f"indexed makes one row of a clip's whole sound: Grid.count must be 1, it asks for {rows}")
        return Indexed(view, math.inf if span_s is None else span_s)
    return Straight(view, starts)


@dataclass(frozen=True, slots=True)
class Straight:
    """``soxr_hq``: what is kept is at the view's rate already."""

    view: Sound
    starts: Int

    def begin(self, row: int, kept: Buffer) -> int:
        return int(self.starts[row])

    def ready(self, row: int, kept: Buffer, last: bool) -> bool:
        return int(self.starts[row]) + self.view.samples <= kept.stop

    def cut(self, row: int, kept: Buffer) -> Samples:
        start = int(self.starts[row])
        samples: Samples = kept.span(start, start + self.view.samples)[:, 0]
        return samples

    def span_s(self, row: int, kept: Buffer) -> tuple[float, float]:
        start = int(self.starts[row])
        return start / self.view.rate_hz, (start + self.view.samples) / self.view.rate_hz

    def until_s(self, kept: Buffer) -> float:
        return kept.stop / self.view.rate_hz

    def heard(self, row: int, kept: Buffer) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Moviepy:
    """``moviepy``: kept as 44.1 kHz stereo in 16 bits; every row takes the nearest of those samples."""

    view: Sound
    starts: Int
    clip_s: float

    def begin(self, row: int, kept: Buffer) -> int:
        return int(self._source_index(self.starts[row : row + 1])[0])

    def ready(self, row: int, kept: Buffer, last: bool) -> bool:
        return int(self.starts[row]) + self.view.samples <= self._available(kept, last)

    def cut(self, row: int, kept: Buffer) -> Samples:
        start = int(self.starts[row])
        index = self._source_index(np.arange(start, start + self.view.samples))
        pair = kept.take(np.minimum(index, kept.stop - 1)) / 32768.0
        written = (np.clip(pair, -0.99, 0.99) * 32768).astype(np.int16)
        samples: Samples = (written.mean(axis=1) / 32768.0).astype(np.float32)
        return samples

    def span_s(self, row: int, kept: Buffer) -> tuple[float, float]:
        start = int(self.starts[row])
        return start / self.view.rate_hz, (start + self.view.samples) / self.view.rate_hz

    def until_s(self, kept: Buffer) -> float:
        return self._available(kept, last=True) / self.view.rate_hz

    def heard(self, row: int, kept: Buffer) -> bool:
        """False for rows that moviepy completed by repeating the last sample."""
        return self.span_s(row, kept)[1] <= kept.stop / MOVIEPY_HZ + JITTER_S

    def _available(self, kept: Buffer, last: bool) -> int:
        """Samples at the view's rate that can be had by now."""
        if not kept.stop:
            return 0
        declared = int(self.view.rate_hz * self.clip_s)
        if last:
            return declared  # moviepy repeats the last sample up to the declared length
        return min(declared, int((kept.stop - 1) * self.view.rate_hz / MOVIEPY_HZ))

    def _source_index(self, n: Int) -> Int:
        # moviepy 1.0.3 multiplies in this order; ties of the rounding depend on it
        return np.round(MOVIEPY_HZ * ((1.0 / self.view.rate_hz) * n)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ResampyRows:
    """``resampy_rows``: kept at the file's own rate; every window is resampled as if nothing were around it.

    With `pad`, a window in whose middle the sound ends keeps what it has and is filled with zeros, as AVE's own script does; such
    a row counts as not heard.
    """

    view: Sound
    windows_ns: Int
    pad: bool

    def begin(self, row: int, kept: Buffer) -> int:
        return round(int(self.windows_ns[row, 0]) * kept.rate_hz / NS)

    def ready(self, row: int, kept: Buffer, last: bool) -> bool:
        """The whole window is there; at the sound's end as much of it as gives all samples is enough, as officially."""
        if not kept.rate_hz or (not last and kept.stop < self._end(row, kept)):
            return False
        return self.heard(row, kept) or (self.pad and last and self._there(row, kept) > 0)

    def cut(self, row: int, kept: Buffer) -> Samples:
        begin, there = self.begin(row, kept), self._there(row, kept)
        source = kept.span(begin, begin + there)[:, 0]
        if not self.heard(row, kept):
            source = np.pad(source, (0, self._end(row, kept) - begin - there))
        return kaiser_best(source, kept.rate_hz, self.view.rate_hz)[: self.view.samples]

    def span_s(self, row: int, kept: Buffer) -> tuple[float, float]:
        begin_s = int(self.windows_ns[row, 0]) / NS
        return begin_s, begin_s + self.view.samples / self.view.rate_hz

    def until_s(self, kept: Buffer) -> float:
        return kept.stop / kept.rate_hz if kept.rate_hz else 0.0

    def heard(self, row: int, kept: Buffer) -> bool:
        return self._there(row, kept) * self.view.rate_hz // kept.rate_hz >= self.view.samples

    def _there(self, row: int, kept: Buffer) -> int:
        return min(kept.stop, self._end(row, kept)) - self.begin(row, kept)

    def _end(self, row: int, kept: Buffer) -> int:
        return round(int(self.windows_ns[row, 1]) * kept.rate_hz / NS)


@dataclass(frozen=True, slots=True)
class Indexed:
    """``indexed``: all of a clip is kept, at the view's rate, and brought to the row's length by its nearest samples.

    Source: Franklin905/VALOR (2677da9), utils/clap_preprocess.py, get_audio_feature_maps.
    """

    view: Sound
    clip_s: float

    def begin(self, row: int, kept: Buffer) -> int:
        return 0

    def ready(self, row: int, kept: Buffer, last: bool) -> bool:
        """The sound has ended.

        Raises
        ------
        TooLarge
            it is too long to be kept
        """
        if self._length(kept) > SQUEEZE * self.view.samples:
            longest_s = SQUEEZE * self.view.samples / self.view.rate_hz
            raise TooLarge(
                f"its sound lasts more than {longest_s:g} s, and {longest_s:g} s are the most that is squeezed into one row of "
                f"{self.view.samples / self.view.rate_hz:g} s; give the clip a start and an end"
            )
        return last and self._length(kept) > 0

    def cut(self, row: int, kept: Buffer) -> Samples:
        index = np.round(np.linspace(0, self._length(kept) - 1, self.view.samples)).astype(np.int64)
        samples: Samples = kept.take(index)[:, 0]
        return samples

    def span_s(self, row: int, kept: Buffer) -> tuple[float, float]:
        return 0.0, self._length(kept) / self.view.rate_hz

    def until_s(self, kept: Buffer) -> float:
        return self._length(kept) / self.view.rate_hz

    def heard(self, row: int, kept: Buffer) -> bool:
        return True

    def _length(self, kept: Buffer) -> int:
        if math.isinf(self.clip_s):
            return kept.stop
        return min(kept.stop, math.ceil(self.clip_s * self.view.rate_hz))
