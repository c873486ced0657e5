"""The video half of the one pass: decode what is needed, make each picture once per size, complete rows in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av.error
import numpy as np
from numpy.typing import NDArray

from backbones.spec import Frames
from extract.decode.events import Block, Broken, Event, Int
from extract.decode.linear import Levels
from extract.decode.pictures import Mjpeg, ToRgb, Upright, dtype_of, resized, resized_height_width
from extract.decode.resize import Picture, Source
from extract.decode.sampling import Selection
from extract.decode.survey import Survey, reason
from extract.decode.timeline import Timeline
from extract.errors import ClipError, TooLarge, TooSmall, Truncated, Undecodable

BLOCK_BYTES = 8 * 1024 * 1024
SKIPPABLE = ("h264", "hevc")


class MismatchError(Exception):
    """The decoder returned other frames than the packets promised: decode once more, by the frames' own times."""


@dataclass(slots=True)
class FrameTap:
    """Progress of one view of frames through the pass.

    Parameters
    ----------
    position
        of the tap
    view, selection
        what to make, of which frames
    times_ns
        (R, t) presentation times of the chosen frames, -1 where there is none
    """

    position: int
    view: Frames
    selection: Selection
    times_ns: Int
    index: Int = field(init=False)
    wanted: set[int] = field(init=False)
    row: int = 0
    cache: dict[int, Picture | Levels] = field(default_factory=dict)
    pending: list[NDArray[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # behind the JPEG stage frames are known by their slot, because two slots of one frame differ
        self.index = self.selection.index if self.view.jpeg else self.selection.source
        self.wanted = {int(i) for i in np.unique(self.index) if i >= 0}

    def keep(self, at: int, picture: Source, aspect: Fraction, made: dict[tuple[Any, ...], Picture | Levels]) -> None:
        """Make the view's picture of a frame, unless `made` holds one of the same size already.

        Raises
        ------
        TooSmall
            the view takes no picture of this size
        """
        size = (self.view.resize, self.view.crop, self.view.interpolation, self.view.aspect)
        if size not in made:
            made[size] = resized(picture, self.view, aspect)
        self.cache[at] = made[size]

    def complete(self, upto: int) -> Iterator[Block]:
        """The rows whose frames have all been seen, as blocks of bounded size."""
        blank = np.zeros((*self.view.height_width, 3), dtype=dtype_of(self.view))
        while self.row < len(self.index) and self.index[self.row].max() <= upto:
            self.pending.append(np.stack([blank if i < 0 else self.cache[int(i)] for i in self.index[self.row]]))
            self.row += 1
            self._forget()
            if len(self.pending) * self.pending[0].nbytes >= BLOCK_BYTES or self.row == len(self.index):
                first = self.row - len(self.pending)
                rows = slice(first, self.row)
                data = np.stack(self.pending)
                self.pending.clear()
                yield Block(self.position, first, data, self.selection.valid[rows], self.times_ns[rows])

    def _forget(self) -> None:
        """Drop pictures that no later row shows; rows of overlapping windows may still go back a little."""
        if self.row < len(self.index):
            following = self.index[self.row]
            oldest = int(following[following >= 0].min(initial=np.iinfo(np.int64).max))
            if oldest == np.iinfo(np.int64).max:
                return
        else:
            oldest = np.iinfo(np.int64).max
        for old in [i for i in self.cache if i < oldest]:
            del self.cache[old]


class FramePass:
    """Decodes the video of a surveyed clip for all its views of frames.

    Parameters
    ----------
    survey
        with a timeline
    taps
        what to make
    skip_unneeded
        let the decoder skip frames that neither a view nor another frame needs (H.264 and HEVC): the others do not
        change by a bit
    """

    def __init__(self, survey: Survey, timeline: Timeline, taps: list[FrameTap], skip_unneeded: bool) -> None:
        self._survey, self._timeline, self._taps = survey, timeline, list(taps)
        self._upright, self._to_rgb, self._mjpeg = Upright(), ToRgb(), Mjpeg()
        self._slots = next((tap.selection.slots for tap in taps if tap.view.jpeg), np.zeros(0, dtype=np.int64))
        self._slot = 0
        self._raw = set().union(*(tap.wanted for tap in taps if not tap.view.jpeg))
        self._needed = self._raw | {int(i) for i in self._slots}
        self._due = deque(sorted(self._needed))
        self._last_needed = max(self._needed, default=-1)
        self._position_of = {int(t): i for i, t in enumerate(timeline.ticks)} if timeline.exact else None
        self._context = survey.video.codec_context
        self._skipping = skip_unneeded and timeline.exact and self._context.name in SKIPPABLE
        # codecs that do not skip may hide frames (VP8, VP9, AV1): there each promised frame is awaited, in order
        self._hiding = timeline.exact and self._context.name not in SKIPPABLE
        self._count = self._reached = 0
        self.done = False

    def leading(self) -> Iterator[Event]:
        """Rows that show nothing and come before any that does."""
        for tap in self._taps:
            yield from tap.complete(-1)
        self.done = not self._needed

    def feed(self, packet: Any) -> Iterator[Event]:
        """Decode one packet (None: drain the decoder).

        Raises
        ------
        MismatchError
            a frame has a time that no packet promised, or a needed one did not come
        """
        if self._skipping and packet is not None:
            assert self._position_of is not None
            wanted = packet.pts is None or self._position_of.get(packet.pts) in self._needed
            self._context.skip_frame = "DEFAULT" if wanted else "NONREF"
        try:
            for frame in self._survey.decode_video(packet, self._reached):
                position = self._position(frame)
                if position is None:
                    continue
                self._count, self._reached = self._count + 1, position + 1
                if position in self._needed:
                    if position != self._due.popleft():
                        raise MismatchError
                    self._needed.discard(position)
                    yield from self._take(frame, position)
                if self.done:
                    return
                if position >= self._last_needed:
                    yield from self.close()
                    return
        except (Undecodable, Truncated, TooLarge) as error:
            yield from self._break(error)
        except av.error.FFmpegError as error:
            text = f"{self._survey.path}: frame {self._reached - 1} cannot be converted ({reason(error)})"
            yield from self._break(Undecodable(text))

    def close(self) -> Iterator[Event]:
        """The last frame has come: nothing may be missing, and the rows after it that show nothing are due.

        Raises
        ------
        MismatchError
            a needed frame did not come
        """
        self.done = True
        if self._needed:
            raise MismatchError
        for tap in self._taps:
            yield from tap.complete(len(self._timeline.ticks) + len(self._slots))

    def _position(self, frame: Any) -> int | None:
        """Where the frame stands on the timeline; None: before its beginning."""
        if self._position_of is None:
            return self._count
        position = None if frame.pts is None else self._position_of.get(frame.pts)
        if position is None and (frame.pts is None or frame.pts >= self._timeline.ticks[0]):
            raise MismatchError
        if self._hiding and position is not None and position != self._count:
            raise MismatchError
        return position

    def _take(self, frame: Any, position: int) -> Iterator[Event]:
        self._check_size(frame.height, frame.width, "a frame")
        try:
            upright, turned = self._upright(frame)
        except Undecodable as error:
            raise Undecodable(f"{self._survey.path}: {error}") from error
        aspect = Fraction(self._survey.video.sample_aspect_ratio or 1)
        if turned:
            aspect = 1 / aspect
        if position in self._raw:
            yield from self._keep(position, Source(self._to_rgb(upright)), aspect, jpeg=False)
        while self._slot < len(self._slots) and self._slots[self._slot] == position:
            yield from self._keep(self._slot, Source(self._mjpeg(upright)), aspect, jpeg=True)
            self._slot += 1
        for tap in self._taps:
            yield from tap.complete(self._slot - 1 if tap.view.jpeg else position)
        self.done = not self._taps

    def _keep(self, at: int, picture: Source, aspect: Fraction, *, jpeg: bool) -> Iterator[Event]:
        """Make the pictures of those views that want them; one for which they are too small fails alone."""
        made: dict[tuple[Any, ...], Picture | Levels] = {}
        for tap in list(self._taps):
            if bool(tap.view.jpeg) != jpeg or at not in tap.wanted:
                continue
            try:
                size = resized_height_width(picture.height, picture.width, tap.view, aspect)
                self._check_size(*size, "a resized frame")
                tap.keep(at, picture, aspect, made)
            except TooSmall as error:
                self._taps.remove(tap)
                yield Broken(tap.position, TooSmall(f"{self._survey.path}: {error}"))

    def _check_size(self, height: int, width: int, what: str) -> None:
        limit = self._survey.limits.pixels
        if width * height > limit:
            raise TooLarge(
                f"{self._survey.path}: {what} of {width}x{height} is more than {limit:,} pixels; "
                "raise --max-pixels to admit it"
            )

    def _break(self, error: ClipError) -> Iterator[Event]:
        self.done = True
        for tap in self._taps:
            yield Broken(tap.position, error)
