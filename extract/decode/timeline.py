"""When every frame of a clip appears, learnt from packets alone, before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av.error
import numpy as np
from numpy.typing import NDArray

from extract.decode.media import to_ns
from extract.errors import Truncated
from extract.grid import NS

Int = NDArray[np.int64]
KEEP_BYTES = 128 * 1024 * 1024
REORDER_NS = 3 * NS  # packets are read this far past a clip's end: B-frames arrive out of order


@dataclass(frozen=True, slots=True)
class Timeline:
    """The frames of one video stream in the order of presentation.

    Parameters
    ----------
    ticks
        (N,) presentation time in the stream's clock
    pts_ns, duration_ns
        (N,) from the start of the clip; negative: before it (needed by the decoder, not by the clip)
    exact
        the decoder returns frames under these ticks; False: only their order can be relied on (AVI stores no
        presentation times)
    """

    ticks: Int
    pts_ns: Int
    duration_ns: Int
    exact: bool

    @property
    def end_ns(self) -> int:
        """When the last frame disappears."""
        return int(self.pts_ns[-1] + max(self.duration_ns[-1], 1))


@dataclass(frozen=True, slots=True)
class Promise:
    """What a packet says of its frame: presentation time and duration in ticks, and whether decoding can begin with it."""

    pts: int | None
    duration: int
    is_key: bool


class Packets:
    """The packets of a clip's span: read from the file once, kept while they are small, read again where they are not.

    Parameters
    ----------
    container, streams
        an open file and its chosen streams
    origin_ns
        start of the presentation on the container's clock
    start_ns, stop_ns
        the clip's span; reading begins at the key frame before it
    """

    def __init__(self, container: Any, streams: list[Any], origin_ns: int, start_ns: int, stop_ns: int | None) -> None:
        self._container = container
        self._streams = streams
        self._origin_ns = origin_ns
        self._start_ns = start_ns
        self._stop_ns = stop_ns
        self._kept: list[Any] | None = []
        self._kept_bytes = 0
        self._touched = False

    def scan(self) -> Iterator[Any]:
        """Every packet of the span, in file order; data packets only."""
        assert self._kept is not None
        for packet in self._read():
            self._kept_bytes += packet.size
            if self._kept is not None:
                self._kept.append(packet)
                if self._kept_bytes > KEEP_BYTES:
                    self._kept = None
            yield packet

    def again(self) -> Iterator[Any]:
        """The same packets once more."""
        return iter(self._kept) if self._kept is not None else self._read()

    def _read(self) -> Iterator[Any]:
        self._seek()
        open_ends = {stream.index for stream in self._streams}
        try:
            for packet in self._container.demux(*self._streams):
                if packet.dts is None and packet.size == 0:
                    continue
                if self._stop_ns is not None:
                    time = packet.dts if packet.dts is not None else packet.pts
                    if time is not None and self._relative(time, packet.time_base) > self._stop_ns + REORDER_NS:
                        open_ends.discard(packet.stream_index)
                        if not open_ends:
                            return
                        continue
                yield packet
        except av.error.FFmpegError as error:
            raise Truncated(f"the file cannot be read to its end: {error}") from error

    def _relative(self, ticks: int, time_base: Any) -> int:
        return to_ns(ticks, time_base) - self._origin_ns

    def _seek(self) -> None:
        if not self._touched and self._start_ns == 0:
            self._touched = True
            return
        self._touched = True
        stream = self._streams[0]
        preroll_ns = (
            NS // 2 if self._start_ns else 0
        )  # audio decoders need a few frames before the first one that counts
        target_ns = max(0, self._start_ns - preroll_ns) + self._origin_ns
        offset = int(target_ns * stream.time_base.denominator // (stream.time_base.numerator * NS))
        if self._start_ns == 0 and stream.start_time is not None:
            offset = min(offset, stream.start_time)
        self._container.seek(offset, stream=stream, backward=True, any_frame=False)
        for each in self._streams:
            each.codec_context.flush_buffers()


def from_packets(promised: list[Promise], stream: Any, offset_ns: int, seeked: bool) -> Timeline | None:
    """The timeline that the packets promise, or None where they do not tell presentation times.

    Parameters
    ----------
    promised
        in file order, without packets that the container marks as not presented; not empty
    stream
        gives the clock and, for packets without a duration, the frame rate
    offset_ns
        the clip's start on the container's clock
    seeked
        reading began at a key frame inside the file: frames presented before that one cannot be decoded
    """
    found = sorted((each.pts, each.duration) for each in promised if each.pts is not None)
    if len(found) < len(promised):
        return None
    if seeked:
        first = next((each.pts for each in promised if each.is_key), None)
        found = [entry for entry in found if first is None or entry[0] >= first]
    return _timeline([pts for pts, _ in found], [d for _, d in found], stream, offset_ns, _stores_pts(stream))


def from_frames(frames: list[tuple[int | None, int]], stream: Any, offset_ns: int) -> Timeline:
    """The timeline of frames as a decoder returned them, (pts, duration): its order is right even where its times are not."""
    known = sorted(pts for pts, _ in frames if pts is not None)
    if len(known) < len(frames):
        first = known[0] if known else 0
        known = [first + k * _nominal_ticks(stream) for k in range(len(frames))]
    return _timeline(known, [duration for _, duration in frames], stream, offset_ns, exact=False)


def _timeline(ticks: list[int], durations: list[int], stream: Any, offset_ns: int, exact: bool) -> Timeline:
    nominal = _nominal_ticks(stream)
    return Timeline(
        ticks=np.asarray(ticks, dtype=np.int64),
        pts_ns=np.asarray([to_ns(t, stream.time_base) - offset_ns for t in ticks], dtype=np.int64),
        duration_ns=np.asarray([to_ns(d or nominal, stream.time_base) for d in durations], dtype=np.int64),
        exact=exact,
    )


def _nominal_ticks(stream: Any) -> int:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return max(1, round(1 / (rate * stream.time_base))) if rate else 1


def _stores_pts(stream: Any) -> bool:
    return "avi" not in stream.container.format.name.split(",")
