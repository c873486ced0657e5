"""What a file holds of a clip, learnt from its headers and packets before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import av.error

from extract.decode.media import DECLARING, best_stream, origin_ns, to_ns
from extract.decode.timeline import Packets, Promise, Timeline, from_frames, from_packets
from extract.decode.truncation import cut_off
from extract.errors import (
    ClipError,
    NoAudio,
    NotMedia,
    NoVideo,
    SpanOutside,
    TooLarge,
    Truncated,
    Undecodable,
    ZeroDuration,
)
from extract.grid import NS
from extract.plan import Limits


class Survey:
    """An open file, its best streams, and what their packets promise for ``[start_ns, stop_ns)``.

    Parameters
    ----------
    reopen
        opens the file, each time anew
    path
        for messages
    start_ns, stop_ns
        the clip on the file's presentation; None: to its end
    limits
        refused beyond them

    Attributes
    ----------
    frames_error, sound_error
        why there is nothing to be had of the one or the other; None: there is
    timeline
        of the video, unless `frames_error`
    clip_ns
        length of the clip: to the end of the file or of the span, whichever comes first
    offset_ns
        the clip's start on the container's clock

    Raises
    ------
    NotMedia, SpanOutside, TooLarge
        nothing can be had of the clip
    """

    def __init__(
        self, reopen: Callable[[], Any], path: str, start_ns: int, stop_ns: int | None, limits: Limits
    ) -> None:
        container, self._reopen = reopen(), reopen
        self.path, self.limits = path, limits
        self.start_ns, self.stop_ns = start_ns, stop_ns
        self.frames_error: ClipError | None = None
        self.sound_error: ClipError | None = None
        self.video: Any = best_stream(container, "video")
        self.audio: Any = best_stream(container, "audio", related=self.video)
        if self.video is None and self.audio is None:
            raise NotMedia(f"{path}: there is neither a video nor an audio stream in it")
        if self.video is None:
            self.frames_error = NoVideo(f"{path}: no video stream")
        if self.audio is None:
            self.sound_error = NoAudio(f"{path}: no audio stream")
        streams = [stream for stream in (self.video, self.audio) if stream is not None]
        self._single_threaded()
        self._decoders_used = False
        self._streams = streams
        self.origin_ns = origin_ns(container, streams)
        self.offset_ns = self.origin_ns + start_ns
        self._format = container.format.name.split(",")[0]
        self._printed_ns = None if container.duration is None else container.duration * 1000
        self.declared_ns = self._printed_ns if self._format in DECLARING else None
        self._check_size()
        indices = [stream.index for stream in streams]
        self.packets = Packets(container, reopen, indices, path, self.origin_ns, start_ns, stop_ns)
        self._promised: list[Promise] = []
        self._is_cut = False
        self.timeline: Timeline | None = None
        self.clip_ns = 0
        self._scan()

    @property
    def span_ns(self) -> int:
        """Length of the clip as its span or its file's end say."""
        return self.clip_ns if self.stop_ns is None else self.stop_ns - self.start_ns

    @property
    def declared_s(self) -> float:
        """Length as ``ffmpeg -i`` prints it (two decimals, halves up), which moviepy takes for the length of the sound."""
        declared_ns = self.clip_ns if self._printed_ns is None else self._printed_ns - self.start_ns
        if self.stop_ns is not None:
            declared_ns = min(declared_ns, self.span_ns)
        return (declared_ns + 5_000_000) // 10_000_000 / 100

    def fresh_decoders(self) -> None:
        """Let a pass over the packets begin with decoders that have seen nothing.

        Flushing a used one is not enough: AAC's keeps what it would have blended into the next frame.
        """
        if self._decoders_used:
            container = self._reopen()
            self.video = None if self.video is None else container.streams[self.video.index]
            self.audio = None if self.audio is None else container.streams[self.audio.index]
            self._single_threaded()
        self._decoders_used = True

    def _single_threaded(self) -> None:
        """Clips run side by side, with one thread each, which also bounds memory."""
        for stream in (self.video, self.audio):
            if stream is not None:
                stream.codec_context.thread_count = 1

    def decode_video(self, packet: Any, count: int) -> list[Any]:
        """Frames that come out when `packet` goes in (None: drain).

        Raises
        ------
        Undecodable, Truncated
            the decoder gives up; `count` frames came before
        """
        try:
            return list(self.video.codec_context.decode(packet))
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            of = f" of {len(self.timeline.ticks)}" if self.timeline is not None else ""
            raise self.undecodable(f"undecodable after {count}{of} frames", error) from error

    def undecodable(self, what: str, error: Exception) -> ClipError:
        """What to say of a decoder that gives up; in a file that ends within a packet, that packet is the cause."""
        if self._is_cut:
            return Truncated(f"{self.path}: {what}: the file is cut off there ({reason(error)}); download it again")
        return Undecodable(f"{self.path}: {what} ({reason(error)})")

    def time_by_decoding(self) -> None:
        """Decode the video once just for its times: for files whose packets tell none, or the wrong ones."""
        self.timeline = None
        try:
            frames = [(frame.pts, frame.duration or 0) for frame in self._all_frames()]
            if not frames:
                raise Undecodable(f"{self.path}: not one video frame can be decoded")
            self.timeline = from_frames(frames, self._promised, self.video, self.offset_ns)
        except ClipError as error:
            self.frames_error = error

    def _all_frames(self) -> Iterator[Any]:
        self.fresh_decoders()
        count = 0
        for packet in self.packets.again():
            if packet.stream.type == "video":
                for frame in self.decode_video(packet, count):
                    count += 1
                    yield frame
        yield from self.decode_video(None, count)

    def _check_size(self) -> None:
        context = self.video.codec_context if self.video is not None else None
        if context is not None and context.width * context.height > self.limits.pixels:
            self.frames_error = TooLarge(
                f"{self.path}: {context.width}x{context.height} is more than {self.limits.pixels:,} pixels per frame; "
                "raise --max-pixels to admit it"
            )
        if self.declared_ns is not None:
            self._check_length(self.declared_ns)

    def _check_length(self, end_ns: int) -> None:
        stop_ns = end_ns if self.stop_ns is None else min(end_ns, self.stop_ns)
        if stop_ns - self.start_ns > self.limits.seconds * NS:
            raise TooLarge(
                f"{self.path}: the clip lasts at least {(stop_ns - self.start_ns) / NS:g} s, more than {self.limits.seconds:g}; "
                "raise --max-seconds to admit it, or give it a start and an end"
            )

    def _scan(self) -> None:
        """Read the packets of the span once, or again from an earlier place where searching led behind the clip's start."""
        while True:
            ends, key, late = self._read_packets()
            if not late or not self.packets.earlier():
                break
        promised = self._promised
        self._check_content(promised, ends)
        self._check_truncation(ends)
        if self.video is not None and self.frames_error is None:
            self.timeline = from_packets(promised, self.video, self.offset_ns, key)
            if self.timeline is None:
                self.time_by_decoding()
            if self.timeline is not None and "video" not in ends:  # a bare stream: its packets carry no times
                ends["video"] = self.start_ns + self.timeline.end_ns
        end_ns = max(ends.values(), default=self.start_ns)
        self.clip_ns = max(1, (end_ns if self.stop_ns is None else min(self.stop_ns, end_ns)) - self.start_ns)
        self._check_length(end_ns)

    def _read_packets(self) -> tuple[dict[str, int], int | None, bool]:
        """When each kind of stream ends; the first key frame's time, if frames before it are lost; whether that is late."""
        self._promised, self.packets.lead, seen = [], 0, 0
        begins: dict[str, int] = {}
        lasts: dict[str, int] = {}
        ends: dict[str, int] = {}
        key, has_key = None, False
        for packet in self.packets.scan():
            kind = packet.stream.type
            time = packet.dts if packet.pts is None or self._format == "avi" else packet.pts
            self._is_cut |= packet.is_corrupt and self._format in ("mov", "avi")  # the file ends within it
            begin_ns = 0 if time is None else to_ns(time, packet.time_base) - self.origin_ns
            if kind == "video" and packet.is_keyframe and not has_key:
                key, has_key, self.packets.lead = time, True, seen
                begins[kind] = begin_ns
                self._promised.clear()
            begins.setdefault(kind, begin_ns)
            self._check_length(begin_ns)
            seen += kind == "video"
            if packet.is_discard:
                continue
            if kind == "video":
                self._promised.append(Promise(packet.pts, packet.dts, packet.duration or 0))
                if len(self._promised) > self.limits.frames:
                    raise TooLarge(
                        f"{self.path}: more than {self.limits.frames:,} frames; raise --max-frames to admit it"
                    )
            # the end of the last one shown: encoders of variable rates give others durations that reach past it
            if time is not None and begin_ns >= lasts.get(kind, begin_ns):
                lasts[kind], ends[kind] = begin_ns, begin_ns + to_ns(packet.duration or 0, packet.time_base)
        late = any(begins[s.type] > max(self.start_ns, self._begin_ns(s)) for s in self._streams if s.type in begins)
        lost = self.packets.inside or self.packets.lead > 0
        return ends, key if lost else None, late or ("video" in begins and not has_key)

    def _begin_ns(self, stream: Any) -> int:
        return 0 if stream.start_time is None else to_ns(stream.start_time, stream.time_base) - self.origin_ns

    def _check_content(self, promised: list[Promise], ends: dict[str, int]) -> None:
        end_ns = max([*ends.values(), self.declared_ns or 0], default=0)
        if 0 < self.start_ns >= end_ns and (ends or not promised):
            raise SpanOutside(
                f"{self.path}: the clip starts at {self.start_ns / NS:g} s and the file ends at {end_ns / NS:g} s"
            )
        if not ends and not promised:
            empty: ClipError = ZeroDuration(f"{self.path}: its streams are empty")
            if self.declared_ns:
                text = (
                    f"{self.path}: it declares {self.declared_ns / NS:.3f} s and holds nothing; it is probably cut off"
                )
                empty = Truncated(f"{text}, download it again")
            self.frames_error = self.frames_error or empty
            self.sound_error = self.sound_error or empty
        if self.video is not None and not promised and self.frames_error is None:
            self.frames_error = ZeroDuration(f"{self.path}: the video stream holds no frame in the clip's span")
        if self.audio is not None and "audio" not in ends and self.sound_error is None:
            self.sound_error = NoAudio(f"{self.path}: the audio stream holds no sample in the clip's span")

    def _check_truncation(self, ends: dict[str, int]) -> None:
        """Compare what each stream declares with what was found of it, up to the clip's end."""
        for stream in self._streams:
            if stream.type not in ends:
                continue
            times = self._declared_and_found_ns(stream, ends)
            error = cut_off(self.path, stream, *times, self.stop_ns, self._promised, self._is_cut)
            if error is not None and stream is self.video:
                self.frames_error = self.frames_error or error
            elif error is not None:
                self.sound_error = self.sound_error or error

    def _declared_and_found_ns(self, stream: Any, ends: dict[str, int]) -> tuple[int | None, int]:
        if self._format == "avi" and self.video is not None:
            # FFmpeg replaces the durations of a cut AVI by what is there; the number of frames is the header's
            frames = self.video.frames
            return to_ns(frames, self.video.time_base) if frames else None, max(ends.values())
        if self.declared_ns is not None and stream.duration is not None and stream.start_time is not None:
            return to_ns(stream.start_time + stream.duration, stream.time_base) - self.origin_ns, ends[stream.type]
        # the file's own duration has to do; Matroska counts it from zero
        return self.declared_ns, max(ends.values()) + max(0, self.origin_ns)


def reason(error: Exception) -> str:
    """The decoder's own words in an exception of PyAV."""
    return str(error).rsplit("last error log:", maxsplit=1)[-1].strip()
