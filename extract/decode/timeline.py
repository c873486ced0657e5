"""When every frame of a clip appears, learnt from packets alone, before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
PACKET_BYTES = 512  # what a kept packet takes besides its data
PREROLL_NS = NS // 2
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
    """What a packet says of its frame, in ticks."""

    pts: int | None
    dts: int | None
    duration: int


class Packets:
    """The packets of a clip's span: read from the file once, kept while they are small, read again where they are not.

    Each reading begins with the file freshly opened: searching back to where one has been before loses packets in most
    containers, and would let the second reading differ from the first.

    Parameters
    ----------
    container
        the file, open and untouched
    reopen
        opens it once more
    streams
        indices of the chosen ones; searching goes by the first
    path
        for messages
    origin_ns
        start of the presentation on the container's clock
    start_ns, stop_ns
        the clip's span; reading begins at the key frame before it

    Attributes
    ----------
    lead
        video packets before the first key frame: nothing can be made of them, and no decoder sees them
    """

    def __init__(
        self,
        container: Any,
        reopen: Callable[[], Any],
        streams: list[int],
        path: str,
        origin_ns: int,
        start_ns: int,
        stop_ns: int | None,
    ) -> None:
        self._untouched, self._reopen, self._streams, self._path = container, reopen, streams, path
        self._origin_ns, self._stop_ns = origin_ns, stop_ns
        # decoders of sound need a few frames before the first one that counts
        self._from_ns = max(0, start_ns - PREROLL_NS)
        self._step_ns = PREROLL_NS
        self._kept: list[Any] | None = []
        self.lead = 0

    @property
    def inside(self) -> bool:
        """Reading begins inside the file."""
        return self._from_ns > 0

    def scan(self) -> Iterator[Any]:
        """Every packet from the place found on, in file order; data packets only."""
        self._kept = []
        kept_bytes = 0
        for packet in self._read():
            kept_bytes += packet.size + PACKET_BYTES
            if self._kept is not None:
                self._kept.append(packet)
                if kept_bytes > KEEP_BYTES:
                    self._kept = None
            yield packet

    def again(self) -> Iterator[Any]:
        """The same packets once more, from the first key frame on."""
        unusable = self.lead
        for packet in self._kept if self._kept is not None else self._read():
            if unusable and packet.stream.type == "video":
                unusable -= 1
                continue
            yield packet

    def earlier(self) -> bool:
        """Begin the next scan at an earlier place; False: this one began at the beginning."""
        if not self.inside:
            return False
        self._step_ns *= 8
        self._from_ns = max(0, self._from_ns - self._step_ns)
        return True

    def _read(self) -> Iterator[Any]:
        container = self._placed()
        streams = [container.streams[index] for index in self._streams]
        open_ends = {stream.index for stream in streams if self._goes_on(stream)}
        try:
            for packet in container.demux(*streams):
                if packet.size == 0:  # the end of a stream, or AVI's "show the last one once more"
                    continue
                time = packet.dts if packet.dts is not None else packet.pts
                if self._beyond(time, packet.time_base):
                    open_ends.discard(packet.stream_index)
                    if not open_ends:
                        return
                    continue
                yield packet
        except av.error.FFmpegError as error:
            raise Truncated(f"{self._path}: the file cannot be read to its end ({error})") from error

    def _goes_on(self, stream: Any) -> bool:
        """Whether packets past the clip's end are to be expected of the stream, as far as its container tells."""
        if stream.duration is None or stream.start_time is None:
            return True
        return self._beyond(stream.start_time + stream.duration, stream.time_base)

    def _beyond(self, ticks: int | None, time_base: Any) -> bool:
        if ticks is None or self._stop_ns is None:
            return False
        return to_ns(ticks, time_base) - self._origin_ns > self._stop_ns + REORDER_NS

    def _placed(self) -> Any:
        """The file, open at the key frame before the place to read from, as far as its demuxer can tell."""
        container, self._untouched = self._untouched or self._reopen(), None
        if not self.inside:
            return container
        stream = container.streams[self._streams[0]]
        offset = (self._from_ns + self._origin_ns) * stream.time_base.denominator // (stream.time_base.numerator * NS)
        try:
            container.seek(offset, stream=stream, backward=True, any_frame=False)
        except av.error.FFmpegError:  # there is no index: what comes before the clip is read, and not used
            self._from_ns = 0
            return self._reopen()
        return container


def from_packets(promised: list[Promise], stream: Any, offset_ns: int, key: int | None) -> Timeline | None:
    """The timeline that the packets promise, or None where they do not tell presentation times.

    Parameters
    ----------
    promised
        in file order, without packets that the container marks as not presented; not empty
    stream
        gives the clock and, for packets without a duration, the frame rate
    offset_ns
        the clip's start on the container's clock
    key
        where reading began at a key frame inside the file, its time: frames presented before it cannot be decoded
    """
    exact = stores_pts(stream)
    times = [(each.pts if exact else each.dts, each.duration) for each in promised]
    found = sorted((ticks, duration) for ticks, duration in times if ticks is not None)
    if len({ticks for ticks, _ in found}) < len(promised):
        return None
    if exact and key is not None:
        found = [entry for entry in found if entry[0] >= key]
    return _timeline([ticks for ticks, _ in found], [d for _, d in found], stream, offset_ns, exact) if found else None


def from_frames(frames: list[tuple[int | None, int]], promised: list[Promise], stream: Any, offset_ns: int) -> Timeline:
    """The timeline of frames as a decoder returned them, (pts, duration): its order is right even where its times are not."""
    known = sorted(pts for pts, _ in frames if pts is not None)
    if not stores_pts(stream):
        known = sorted(each.dts for each in promised if each.dts is not None)[: len(frames)]
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


def stores_pts(stream: Any) -> bool:
    """Whether the container stores presentation times.

    AVI does not: its frames appear in their order, one per chunk. FFmpeg guesses times for H.264 and B-frames in it that
    are a frame late and not even ascending; the numbers of the chunks (dts) are right.
    """
    return "avi" not in stream.container.format.name.split(",")
