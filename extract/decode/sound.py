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
from extract.decode.sound_rules import JITTER_S, MOVIEPY_HZ, Buffer, Int, Samples, rule_for
from extract.errors import PlanError, TooShort, Undecodable
from extract.grid import NS, Grid

LACK = 0.25  # the share of a window that gaps may take: encoders' delays and lost packets are shorter, pauses longer
SOXR_PIECE = (
    8192  # samples resampled at once: a call for every frame costs as much as the resampling, and gives the same bits
)
SILENCE_S = 10  # a gap may last hours: it is filled piece by piece, and windows leave as they fill up


@dataclass(frozen=True, slots=True)
class Window:
    """One row of sound: (samples,) float32, whether the clip filled it, and when its first sample is heard (-1: never)."""

    row: int
    samples: Samples
    valid: int
    source_ns: int


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
    span_s
        length of a clip that is a part of its file; None: it goes on to the file's end

    Raises
    ------
    PlanError
        the view cannot be cut on the grid
    """

    def __init__(self, view: Sound, grid: Grid, windows_ns: Int, clip_s: float, span_s: float | None = None) -> None:
        if grid.short == "stretch":
            raise PlanError("sound cannot be stretched: Grid.short must be repeat_last, zeros or error for audio views")
        self._view = view
        self._grid = grid
        self._rule = rule_for(view, grid, windows_ns, clip_s, span_s)
        self._rows = len(windows_ns)
        self._row = 0
        self._seen = 0  # samples of the stream placed so far, silence for gaps included
        self._heard = False
        self._gaps: list[tuple[float, float]] = []
        self._last_good: tuple[Samples, int] | None = None
        self._moviepy = view.resample == "moviepy"
        self._rate_hz = MOVIEPY_HZ if self._moviepy else 0  # of the samples placed; frames tell the stream's own
        self._own_rate = view.resample == "resampy_rows"
        self._kept = Buffer(np.float32, 1, 0 if self._own_rate else view.rate_hz)
        if self._moviepy:
            self._kept = Buffer(np.int16, 2, MOVIEPY_HZ)
        self._to_s16: Any = None
        self._shape: tuple[Any, ...] = ()
        self._soxr: Any = None
        self._waiting: list[Samples] = []  # placed, but not resampled
        self._resampled = 0

    @property
    def done(self) -> bool:
        """Every row has been given."""
        return self._row == self._rows

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
        TooLarge
            the clip is to become one row and is too long to be kept
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
            self._resample(last=True)
            if self._view.resample == "indexed":
                # librosa.load rounds the number of samples up, and the index rule counts them
                owed = int(np.ceil(self._seen * (float(self._view.rate_hz) / self._rate_hz))) - self._kept.stop
                self._kept.append(np.zeros((max(0, owed), 1), dtype=np.float32))
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
        if self._own_rate:
            self._kept.rate_hz = rate_hz
        elif rate_hz != self._view.rate_hz:
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
            self._kept.append(samples)
            return
        self._waiting.append(samples[:, 0])
        if self._seen - self._resampled >= SOXR_PIECE:
            self._resample(last=False)

    def _resample(self, last: bool) -> None:
        piece = np.concatenate([*self._waiting, np.zeros(0, dtype=np.float32)])
        self._kept.append(self._soxr.resample_chunk(piece, last=last)[:, None])
        self._waiting, self._resampled = [], self._seen

    def _ready(self, last: bool) -> Iterator[Window]:
        while not self.done:
            if self._rule.ready(self._row, self._kept, last):
                yield self._complete()
            elif last:
                yield self._policy(f"it lasts until {self._rule.until_s(self._kept):g} s")
            else:
                return
            self._row += 1
            if not self.done:
                self._kept.forget(self._rule.begin(self._row, self._kept))

    def _complete(self) -> Window:
        begin_s, end_s = self._rule.span_s(self._row, self._kept)
        gap = self._gap(begin_s, end_s)
        if gap is not None:
            return self._policy(f"there is none from {gap[0]:g} s to {gap[1]:g} s")
        samples, source_ns = self._rule.cut(self._row, self._kept), round(begin_s * NS)
        self._last_good = (samples, source_ns)
        return Window(self._row, samples, int(self._rule.heard(self._row, self._kept)), source_ns)

    def _gap(self, begin_s: float, end_s: float) -> tuple[float, float] | None:
        """The gap in the sound that takes too much of a window, if any."""
        self._gaps = [gap for gap in self._gaps if gap[1] > begin_s]
        allowed_s = LACK * (end_s - begin_s)
        return next((g for g in self._gaps if min(g[1], end_s) - max(g[0], begin_s) > allowed_s), None)

    def _policy(self, why: str) -> Window:
        if self._grid.short == "error":
            begin_s, _ = self._rule.span_s(self._row, self._kept)
            raise TooShort(
                f"row {self._row} asks for {self._view.samples / self._view.rate_hz:g} s of sound from "
                f"{begin_s:g} s on; {why}; policies that fill such rows: repeat_last, zeros"
            )
        if self._grid.short == "repeat_last" and self._last_good is not None:
            samples, source_ns = self._last_good
            return Window(self._row, samples, 0, source_ns)
        return Window(self._row, np.zeros(self._view.samples, dtype=np.float32), 0, -1)


def _mono(frame: Any) -> Samples:
    """(samples,) float32 in [-1, 1], the mean over channels."""
    channels = _channels(frame)
    # the sum that ndarray.mean makes, which casts in small pieces: frames are short, and there are many
    total = channels[0].astype(np.float64)
    for channel in channels[1:]:
        total += channel.astype(np.float64, copy=False)
    total /= len(channels)
    mono: Samples = total.astype(np.float32)
    return mono


def _channels(frame: Any) -> list[NDArray[Any]]:
    """Each channel in [-1, 1]."""
    if frame.format.name == "fltp":  # what most codecs decode to, without the copy that to_ndarray makes
        return [np.frombuffer(plane, np.float32, frame.samples) for plane in frame.planes]
    data: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, len(frame.layout.channels)).T
    if data.dtype.kind == "u":
        data = (data.astype(np.float32) - 128.0) / 128.0
    elif data.dtype.kind == "i":
        data = data.astype(np.float64) / float(1 << (8 * data.dtype.itemsize - 1))
    return list(data)
