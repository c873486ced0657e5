"""From decoded audio to the windows of samples a view asks for, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from backbones.spec import Sound
from extract.errors import PlanError, TooShort, Undecodable
from extract.grid import NS, Grid

Int = NDArray[np.int64]
Samples = NDArray[np.float32]
MOVIEPY_HZ = 44_100
JITTER_S = 0.05  # containers round timestamps; only larger steps are gaps in the sound
LACK = 0.25  # the share of a window that gaps may take: encoders' delays and lost packets are shorter, pauses longer
SILENCE_S = 10  # a gap may last hours: it is filled piece by piece, and windows leave as they fill up


@dataclass(frozen=True, slots=True)
class Window:
    """One row of sound: (samples,) float32, whether the clip filled it, and when its first sample is heard (-1: never)."""

    row: int
    samples: Samples
    valid: int
    source_ns: int


class _Buffer:
    """The samples from `start` on that some window still needs."""

    def __init__(self, dtype: Any, channels: int) -> None:
        self.start = 0
        self._pieces: list[NDArray[Any]] = []
        self.stop = 0
        self._empty = np.zeros((0, channels), dtype=dtype)

    def append(self, piece: NDArray[Any]) -> None:
        if len(piece):
            self._pieces.append(piece)
            self.stop += len(piece)

    def take(self, index: Int) -> NDArray[Any]:
        """Samples at absolute positions, all of which must lie in ``start .. stop-1``."""
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        whole = self._pieces[0] if self._pieces else self._empty
        return whole[index - self.start]

    def forget(self, before: int) -> None:
        """Drop what lies before an absolute position, once that is worth a copy."""
        if before - self.start > 4 * MOVIEPY_HZ and self._pieces:
            whole = np.concatenate(self._pieces)
            keep = min(before - self.start, len(whole) - 1)  # the last one may be repeated
            self._pieces = [whole[keep:].copy()]
            self.start += keep


class Windows:
    """Cuts the sound of a clip into the rows of one view on one grid.

    Feed it decoded frames in order with :meth:`push`, then call :meth:`finish`; both give the windows that became complete.

    Parameters
    ----------
    view, grid
        what to cut
    windows_ns
        (R, 2) of the grid on this clip
    clip_s
        length of the clip as its container declares it, which the official audio stage trusts
    """

    def __init__(self, view: Sound, grid: Grid, windows_ns: Int, clip_s: float) -> None:
        if grid.short == "stretch":
            raise PlanError("sound cannot be stretched: Grid.short must be repeat_last, zeros or error for audio views")
        self._view = view
        self._grid = grid
        self._starts = np.rint(windows_ns[:, 0] * (view.rate_hz / NS)).astype(np.int64)
        self._clip_s = clip_s
        self._row = 0
        self._seen = 0  # samples of the stream placed so far, silence for gaps included
        self._heard = False
        self._gaps: list[tuple[float, float]] = []
        self._last_good: tuple[Samples, int] | None = None
        self._moviepy = view.resample == "moviepy"
        self._rate_hz = MOVIEPY_HZ if self._moviepy else 0  # of the samples placed; frames tell the stream's own
        self._buffer = _Buffer(np.int16 if self._moviepy else np.float32, 2 if self._moviepy else 1)
        self._to_s16: Any = None
        self._shape: tuple[Any, ...] = ()
        self._soxr: Any = None

    @property
    def done(self) -> bool:
        """Every row has been given."""
        return self._row == len(self._starts)

    def push(self, frame: Any, at_s: float | None) -> Iterator[Window]:
        """Take one decoded frame.

        Parameters
        ----------
        frame
            of the stream, in order
        at_s
            when it is heard, in seconds after the clip's start (negative: partly or wholly before it); None: right after
            the one before

        Raises
        ------
        Undecodable
            the sample rate changes
        TooShort
            the policy is ``error`` and there is nothing to be heard in a row's window
        """
        if self._moviepy:
            for part in self._stereo(frame):
                yield from self._place(part, at_s)
        else:
            self._follow(frame.sample_rate)
            yield from self._place(_mono(frame)[:, None], at_s)
        yield from self._ready(last=False)

    def finish(self) -> Iterator[Window]:
        """The stream has ended: everything that is still owed."""
        if self._heard:
            for part in self._drained():
                self._append(part)
        if self._soxr is not None:
            self._buffer.append(self._soxr.resample_chunk(np.zeros(0, dtype=np.float32), last=True)[:, None])
        yield from self._ready(last=True)

    def _stereo(self, frame: Any) -> Iterator[NDArray[Any]]:
        """The frame as 44.1 kHz stereo in 16 bits; where the stream changes its format, ffmpeg begins anew as well."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self._drained()
            self._to_s16, self._shape = av.AudioResampler(format="s16", layout="stereo", rate=MOVIEPY_HZ), shape
        for part in self._to_s16.resample(frame):
            yield part.to_ndarray().reshape(-1, 2)

    def _drained(self) -> Iterator[NDArray[Any]]:
        for part in () if self._to_s16 is None else self._to_s16.resample(None):
            yield part.to_ndarray().reshape(-1, 2)

    def _follow(self, rate_hz: int) -> None:
        """Resample from the rate of the stream's frames: what its header says may be wrong (HE-AAC)."""
        if rate_hz == self._rate_hz:
            return
        if self._rate_hz:
            raise Undecodable(
                f"the sample rate changes from {self._rate_hz} to {rate_hz} Hz after {self._seen / self._rate_hz:g} s; "
                "such files are not supported"
            )
        self._rate_hz = rate_hz
        if rate_hz != self._view.rate_hz:
            self._soxr = soxr.ResampleStream(rate_hz, self._view.rate_hz, 1, dtype="float32", quality="HQ")

    def _place(self, samples: NDArray[Any], at_s: float | None) -> Iterator[Window]:
        """Append samples where their timestamp says; silence fills gaps, what was heard already or is too early is dropped."""
        position = self._seen if at_s is None else round(at_s * self._rate_hz)
        if not self._heard and position + len(samples) <= 0:
            return
        if (
            self._moviepy
        ):  # raw audio out of ffmpeg begins with its first sample, whenever that is heard, and has no gaps
            samples = samples if self._heard else samples[max(0, -position) :]
        elif not self._heard or abs(position - self._seen) > JITTER_S * self._rate_hz:
            samples = samples[max(0, self._seen - position) :]
            yield from self._silence(position - self._seen, samples)
        self._heard = True
        self._append(samples)

    def _silence(self, count: int, like: NDArray[Any]) -> Iterator[Window]:
        if count <= 0:
            return
        self._gaps.append((self._seen / self._rate_hz, (self._seen + count) / self._rate_hz))
        while count > 0:
            piece = min(count, SILENCE_S * self._rate_hz)
            self._append(np.zeros((piece, like.shape[1]), dtype=like.dtype))
            count -= piece
            yield from self._ready(last=False)

    def _append(self, samples: NDArray[Any]) -> None:
        self._seen += len(samples)
        if self._soxr is None:
            self._buffer.append(samples)
        elif len(samples):
            self._buffer.append(self._soxr.resample_chunk(np.ascontiguousarray(samples[:, 0]))[:, None])

    def _ready(self, last: bool) -> Iterator[Window]:
        available = self._available(last)
        while self._row < len(self._starts):
            start = int(self._starts[self._row])
            if start + self._view.samples <= available:
                yield self._complete(start)
            elif last:
                yield self._filled(start, available)
            else:
                return
            self._row += 1
            if self._row < len(self._starts):
                self._buffer.forget(self._source_index(np.asarray([self._starts[self._row]]))[0])

    def _available(self, last: bool) -> int:
        """Samples at the view's rate that can be had by now."""
        if not self._moviepy:
            return self._buffer.stop
        if not self._buffer.stop:
            return 0
        declared = int(self._view.rate_hz * self._clip_s)
        if last:
            return declared  # moviepy repeats the last sample up to the declared length
        return min(declared, int((self._buffer.stop - 1) * self._view.rate_hz / MOVIEPY_HZ))

    def _source_index(self, n: Int) -> Int:
        if not self._moviepy:
            return n
        # moviepy 1.0.3 multiplies in this order; ties of the rounding depend on it
        return np.round(MOVIEPY_HZ * ((1.0 / self._view.rate_hz) * n)).astype(np.int64)

    def _complete(self, start: int) -> Window:
        index = self._source_index(np.arange(start, start + self._view.samples))
        if self._moviepy:
            pair = self._buffer.take(np.minimum(index, self._buffer.stop - 1)) / 32768.0
            written = (np.clip(pair, -0.99, 0.99) * 32768).astype(np.int16)
            samples = (written.mean(axis=1) / 32768.0).astype(np.float32)
        else:
            samples = self._buffer.take(index)[:, 0]
        gap = self._gap(start)
        if gap is not None:
            return self._policy(start, f"there is none from {gap[0]:g} s to {gap[1]:g} s")
        source_ns = round(start * NS / self._view.rate_hz)
        self._last_good = (samples, source_ns)
        return Window(self._row, samples, int(self._really_there(start)), source_ns)

    def _gap(self, start: int) -> tuple[float, float] | None:
        """The gap in the sound that takes too much of the window from `start` on, if any."""
        begin_s, end_s = start / self._view.rate_hz, (start + self._view.samples) / self._view.rate_hz
        self._gaps = [gap for gap in self._gaps if gap[1] > begin_s]
        allowed_s = LACK * (end_s - begin_s)
        return next((g for g in self._gaps if min(g[1], end_s) - max(g[0], begin_s) > allowed_s), None)

    def _really_there(self, start: int) -> bool:
        """False for windows that moviepy completed by repeating the last sample."""
        end_s = (start + self._view.samples) / self._view.rate_hz
        return not self._moviepy or end_s <= self._buffer.stop / MOVIEPY_HZ + JITTER_S

    def _filled(self, start: int, available: int) -> Window:
        return self._policy(start, f"it lasts until {available / self._view.rate_hz:g} s")

    def _policy(self, start: int, why: str) -> Window:
        if self._grid.short == "error":
            raise TooShort(
                f"row {self._row} asks for {self._view.samples / self._view.rate_hz:g} s of sound from "
                f"{start / self._view.rate_hz:g} s on; {why}; policies that fill such rows: repeat_last, zeros"
            )
        if self._grid.short == "repeat_last" and self._last_good is not None:
            samples, source_ns = self._last_good
            return Window(self._row, samples, 0, source_ns)
        return Window(self._row, np.zeros(self._view.samples, dtype=np.float32), 0, -1)


def _mono(frame: Any) -> Samples:
    """(samples,) float32 in [-1, 1], the mean over channels."""
    data = frame.to_ndarray()
    channels = len(frame.layout.channels)
    if not frame.format.is_planar:
        data = data.reshape(-1, channels).T
    if data.dtype.kind == "u":
        data = (data.astype(np.float32) - 128.0) / 128.0
    elif data.dtype.kind == "i":
        data = data.astype(np.float64) / float(1 << (8 * data.dtype.itemsize - 1))
    mono: Samples = data.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mono
