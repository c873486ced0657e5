"""One file, one open, one decode: every view that any backbone asks for, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import av.error
import numpy as np

from backbones.spec import Frames, Sound
from extract.decode.events import Block, Broken, Event, Opened
from extract.decode.frame_pass import FramePass, FrameTap, MismatchError
from extract.decode.media import open_media, to_ns
from extract.decode.sampling import Selection, select
from extract.decode.sound import Window, Windows
from extract.decode.survey import Survey
from extract.errors import ClipError, PlanError, SpanOutside, TooLarge, TooShort, Undecodable
from extract.grid import NS
from extract.plan import Limits, Tap


def decode(
    path: str, start_ns: int, stop_ns: int | None, taps: Sequence[Tap], limits: Limits, *, skip_unneeded: bool = True
) -> Iterator[Event]:
    """Decode a clip once for all `taps`.

    Packets are read first, and nothing is decoded, which gives every frame's time; the rules then choose frames; then one
    pass over the same packets decodes both streams and makes each chosen frame once per size. Only files whose packets tell
    no times, or false ones, are decoded twice.

    Parameters
    ----------
    path
        a local file
    start_ns, stop_ns
        the clip on the file's presentation; None: to its end
    taps
        distinct (view, grid) pairs
    limits
        refused beyond them
    skip_unneeded
        let the decoder skip frames that neither a view nor another frame needs

    Yields
    ------
    Event
        Opened, then Blocks in ascending rows for each tap, and Broken where a tap fails on the way. A second Opened voids
        all that came before it: the decoder returned other frames than the packets promised

    Raises
    ------
    ClipError
        nothing can be had of the file: not found, forbidden, not media, span outside, too large
    PlanError
        a view cannot be made on its grid
    """
    for tap in taps:
        if isinstance(tap.view, Frames) and tap.view.jpeg and tap.grid.sampling != "ffmpeg_r8":
            raise PlanError(
                "the JPEG stage is defined for the sampling rule ffmpeg_r8 only, whose sequence sets its quality"
            )
    with ExitStack() as files:
        survey = Survey(lambda: files.enter_context(open_media(path)), path, start_ns, stop_ns, limits)
        try:
            yield from _decode(survey, taps, skip_unneeded)
            return
        except MismatchError:
            survey.time_by_decoding()
        try:
            yield from _decode(survey, taps, skip_unneeded=False)
        except MismatchError as error:
            raise Undecodable(f"{path}: decoding it twice gives different frames") from error


def _decode(survey: Survey, taps: Sequence[Tap], skip_unneeded: bool) -> Iterator[Event]:
    errors: dict[int, ClipError] = {}
    windows_ns = [tap.grid.windows_ns(survey.clip_ns) for tap in taps]
    frame_taps: list[FrameTap] = []
    cutters: dict[int, Windows] = {}
    for position, tap in enumerate(taps):
        try:
            if isinstance(tap.view, Sound):
                cutters[position] = _cutter(survey, tap, tap.view, windows_ns[position])
            else:
                frame_taps.append(_frame_tap(survey, position, tap, tap.view, windows_ns[position]))
        except ClipError as error:
            errors[position] = error
    yield Opened(tuple(windows_ns), errors)

    survey.fresh_decoders()
    frames = None
    if frame_taps and survey.timeline is not None:
        frames = FramePass(survey, survey.timeline, frame_taps, skip_unneeded)
        yield from frames.leading()
    sound = _SoundPass(survey, cutters)
    for packet in survey.packets.again():
        if packet.stream.type == "audio":
            yield from sound.feed(packet)
        elif frames is not None and not frames.done:
            yield from frames.feed(packet)
        if sound.done and (frames is None or frames.done):
            return
    if frames is not None and not frames.done:
        yield from frames.feed(None)
        if not frames.done:
            yield from frames.close()
    yield from sound.close()


def _frame_tap(survey: Survey, position: int, tap: Tap, view: Frames, windows_ns: Any) -> FrameTap:
    """Choose the frames of one view.

    Raises
    ------
    ClipError
        there are none, or too few for the grid's policy
    """
    if survey.frames_error is not None or survey.timeline is None:
        raise survey.frames_error or Undecodable(f"{survey.path}: the times of its frames are unknown")
    pts_ns, duration_ns = survey.timeline.pts_ns, survey.timeline.duration_ns
    until_ns = np.append(pts_ns[1:], survey.timeline.end_ns)
    if tap.grid.sampling in ("ffmpeg_r8", "interval"):
        inside = (pts_ns >= 0) & (pts_ns < survey.span_ns)
    else:
        # what is on screen when the clip starts belongs to it, and its last frame stays until the file shows another
        on_screen = (until_ns > 0) if tap.grid.sampling != "every" else (pts_ns >= 0)
        inside, duration_ns = on_screen & (pts_ns < survey.span_ns), until_ns - pts_ns
    if not inside.any():
        raise SpanOutside(f"{survey.path}: no frame appears in the clip's span")
    try:
        chosen = select(tap.grid, view.count, windows_ns, pts_ns[inside], duration_ns[inside])
    except TooShort as error:
        raise TooShort(f"{survey.path}: {error}") from error
    chosen = Selection(chosen.index, chosen.valid, chosen.slots + int(np.argmax(inside)))
    times_ns = np.where(chosen.source < 0, -1, np.maximum(pts_ns[np.maximum(chosen.source, 0)], 0))
    return FrameTap(position, view, chosen, times_ns)


def _cutter(survey: Survey, tap: Tap, view: Sound, windows_ns: Any) -> Windows:
    if survey.sound_error is not None:
        raise survey.sound_error
    span_s = None if survey.stop_ns is None else survey.span_ns / NS
    return Windows(view, tap.grid, windows_ns, survey.declared_s, span_s)


class _SoundPass:
    """The audio half of the pass: every view of sound cuts its windows out of the same decoded samples."""

    def __init__(self, survey: Survey, cutters: dict[int, Windows]) -> None:
        self._survey, self._cutters = survey, cutters
        self._samples = 0

    @property
    def done(self) -> bool:
        return all(cutter.done for cutter in self._cutters.values())

    def feed(self, packet: Any) -> Iterator[Event]:
        """Decode one packet (None: drain the decoder)."""
        if self.done:
            return
        try:
            frames = list(self._survey.audio.codec_context.decode(packet))
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            heard_s = self._samples / self._survey.audio.rate
            broken = self._survey.undecodable(f"the audio is undecodable after {heard_s:.3f} s of sound", error)
            for position in list(self._cutters):
                del self._cutters[position]
                yield Broken(position, broken)
            return
        for frame in frames:
            self._samples += frame.samples
            at_s = None
            if frame.pts is not None:
                at_s = (to_ns(frame.pts, frame.time_base) - self._survey.offset_ns) / NS
            if at_s is None or at_s * NS < self._survey.span_ns + NS:
                yield from self._each(partial(Windows.push, frame=frame, at_s=at_s))

    def close(self) -> Iterator[Event]:
        """The stream has ended."""
        yield from self.feed(None)
        if not self.done:
            yield from self._each(Windows.finish)

    def _each(self, step: Callable[[Windows], Iterator[Window]]) -> Iterator[Event]:
        for position, cutter in list(self._cutters.items()):
            if cutter.done:  # else it would keep all that follows
                continue
            try:
                for window in step(cutter):
                    yield _block(position, window)
            except (TooLarge, TooShort, Undecodable) as error:
                del self._cutters[position]
                yield Broken(position, type(error)(f"{self._survey.path}: {error}"))


def _block(position: int, window: Window) -> Block:
    return Block(
        position,
        window.row,
        window.samples[None],
        np.asarray([window.valid], dtype=np.uint8),
        np.asarray([[window.source_ns]], dtype=np.int64),
    )
