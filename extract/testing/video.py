"""``make_video``: real files with PyAV, of every shape that the decoder has to get right."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from extract.testing.marks import Picture, numbered_picture, timed_sound
from extract.testing.tracks import AUDIO_ENCODERS, VIDEO_ENCODERS, AudioTrack, Sound, VideoTrack, check_container

Number = int | float | Fraction
_FINE = Fraction(1, 1_000_000_000)


def make_video(
    path: Path | str,
    *,
    video: str | None = "h264",
    width: int = 320,
    height: int = 240,
    fps: Number = 30,
    duration_s: Number | None = None,
    frames: int | None = None,
    pts_ms: Sequence[int] | None = None,
    b_frames: int | None = None,
    gop: int = 30,
    pix_fmt: str | None = None,
    sample_aspect_ratio: Number = 1,
    rotation: int = 0,
    video_start_s: Number = 0,
    picture: Picture | None = None,
    extra_video: Sequence[tuple[int, int]] = (),
    audio: str | None = "aac",
    rate_hz: int = 44_100,
    channels: int = 2,
    audio_duration_s: Number | None = None,
    audio_start_s: Number = 0,
    sound: Sound | None = None,
    extra_audio: Sequence[tuple[int, int]] = (),
    container: str | None = None,
    faststart: bool = False,
) -> Path:
    """Write a media file; the same arguments give the same bytes.

    Parameters
    ----------
    path
        of the file; an existing one is replaced
    video
        ``h264 mpeg4 vp8 vp9 mjpeg``, or None: sound only
    width, height
        as stored, in pixels
    fps
        frames per second, > 0; with `pts_ms` only the declared rate
    duration_s, frames
        how long: one of them, or neither (2 s). The frames are ``round(duration_s * fps)``
    pts_ms
        instead of `duration_s` and `frames`: the presentation time of each frame in ms, increasing (variable rate)
    b_frames
        B-frames in a row, really used; None: 2 where H.264 can store them, else 0
    gop
        frames from one keyframe to the next
    pix_fmt
        None: yuv420p (mjpeg: yuvj420p); ``yuv420p10le`` for 10 bit, ``yuv444p`` for odd sizes
    sample_aspect_ratio
        width over height of one stored pixel
    rotation
        degrees clockwise (0, 90, 180, 270) by which a player turns the stored picture (mp4 and mov). `picture` draws
        what the player shows, so for 90 and 270 it is `height` wide and `width` high
    video_start_s, audio_start_s
        presentation time of the first frame or sample, >= 0. What the containers make of it: ``ts`` moves everything
        until no decode time lies before zero (two frames with B-frames); ``avi`` plays the codec's priming before the
        sound (mp3: 25 ms) and FFmpeg reads H.264 in it one frame late; ``mp4`` with an audio start plays the priming
        too, but dates it before that start
    picture
        ``(k, t_s) -> (h, w, 3) uint8`` of frame k shown at `t_s` (start included); None: `numbered_picture`
    extra_video
        (width, height) of further video streams with the same times; their default pictures have track 1, 2, ...
    audio
        ``aac opus mp3 pcm``, or None: no sound
    rate_hz, channels
        of the sound; 1 or 2 channels
    audio_duration_s
        None: as long as the pictures
    sound
        ``(n,) times in s (start included) -> (n,) or (n, channels)`` in [-1, 1]; None: `timed_sound`
    extra_audio
        (rate_hz, channels) of further audio streams; their default sound has track 1, 2, 3
    container
        ``mp4 mov mkv webm avi ts``; None: the suffix of `path`
    faststart
        mp4, mov: put the index in front, so that a truncated file still opens

    Returns
    -------
    Path
        `path`

    Raises
    ------
    ValueError
        options that contradict each other, or that the codec or container cannot hold
    """
    path = Path(path)
    rate = _fraction(fps)
    if sum(option is not None for option in (duration_s, frames, pts_ms)) > 1:
        raise ValueError("make_video: give one of duration_s, frames and pts_ms")
    if rate <= 0:
        raise ValueError(f"make_video: fps must be > 0, got {fps}")
    if pts_ms is not None:
        pts, time_base = tuple(pts_ms), Fraction(1, 1000)
        length_s = (pts[-1] + (pts[-1] - pts[0]) // max(1, len(pts) - 1)) * time_base if pts else Fraction(0)
    else:
        count = frames if frames is not None else round(_fraction(2 if duration_s is None else duration_s) * rate)
        pts, time_base, length_s = tuple(range(count)), 1 / rate, count / rate
    kind = container or path.suffix.lstrip(".")
    if b_frames is None:
        b_frames = 2 if video == "h264" and kind != "avi" else 0
    shown = (height, width) if rotation in (90, 270) else (width, height)
    videos = tuple(
        VideoTrack(
            codec=video, width=w, height=h, fps=rate, pts=pts, time_base=time_base, b_frames=b_frames, gop=gop,
            pix_fmt=pix_fmt or ("yuvj420p" if video == "mjpeg" else "yuv420p"),
            sample_aspect_ratio=_fraction(sample_aspect_ratio), rotation=0 if i else rotation,
            start_s=_fraction(video_start_s),
            picture=picture if picture and not i else numbered_picture(*((w, h) if i else shown), track=i),
        )
        for i, (w, h) in enumerate([(width, height), *extra_video])
        if video is not None
    )  # fmt: skip
    sound_s = length_s if audio_duration_s is None else _fraction(audio_duration_s)
    audios = tuple(
        AudioTrack(
            codec=audio, rate_hz=hz, channels=c, samples=round(sound_s * hz), start_s=_fraction(audio_start_s),
            sound=sound if sound and not i else partial(timed_sound, track=i),
        )
        for i, (hz, c) in enumerate([(rate_hz, channels), *extra_audio])
        if audio is not None
    )  # fmt: skip
    name = check_container(kind, videos, audios)
    if faststart and name not in ("mp4", "mov"):
        raise ValueError(f"make_video: faststart is for mp4 and mov, got {kind!r}")
    _write(path, name, videos, audios, faststart)
    if rotation and videos:
        _write_rotation(path, rotation, width, height)
    return path


def _fraction(value: Number) -> Fraction:
    return Fraction(value) if isinstance(value, (int, Fraction)) else Fraction(value).limit_denominator(1_000_000)


def _write(path: Path, name: str, videos: Sequence[VideoTrack], audios: Sequence[AudioTrack], faststart: bool) -> None:
    import av

    # bitexact: Matroska would write random ids otherwise
    options = {"fflags": "+bitexact", **({"movflags": "+faststart"} if faststart else {})}
    if name == "avi":
        options["avoid_negative_ts"] = "disabled"  # else mp3's priming delays the pictures by two frames, not the sound
    with av.open(str(path), "w", format=name, options=options) as out:
        streams = [_add_video(out, track) for track in videos]
        feeds = [
            _video_packets(stream, track, i) for i, (stream, track) in enumerate(zip(streams, videos, strict=True))
        ]
        for j, track in enumerate(audios, start=len(videos)):
            layout = "mono" if track.channels == 1 else "stereo"
            feeds.append(
                _audio_packets(out.add_stream(AUDIO_ENCODERS[track.codec], rate=track.rate_hz, layout=layout), track, j)
            )
        # each feed encodes only when the merge asks for its next item, so the streams advance together
        for _, _, packets in heapq.merge(*feeds):
            out.mux(packets)


def _add_video(out: Any, track: VideoTrack) -> Any:
    own = {
        # rc-lookahead=0: with it x264 (r164) writes other bytes each time for the same frames, if there are B-frames
        "h264": {
            "preset": "veryfast",
            "crf": "20",
            "bf": f"{track.b_frames}",
            "b_strategy": "0",
            "sc_threshold": "0",
            "rc-lookahead": "0",
        },
        "mpeg4": {"bf": f"{track.b_frames}", "qmin": "2", "qmax": "5", "sc_threshold": "1000000000"},
        "vp8": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
        "vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "row-mt": "0"},
        "mjpeg": {"qmin": "2", "qmax": "5"},
    }[track.codec]
    options = own if track.codec == "mjpeg" else {"g": f"{track.gop}", **own}
    stream = out.add_stream(VIDEO_ENCODERS[track.codec], rate=track.fps, options=options)
    stream.width, stream.height, stream.pix_fmt = track.width, track.height, track.pix_fmt
    stream.bit_rate = 4_000_000 if track.codec != "h264" else 0
    stream.codec_context.time_base = track.time_base
    stream.codec_context.sample_aspect_ratio = track.sample_aspect_ratio
    stream.codec_context.thread_count = 1
    return stream


def _video_packets(stream: Any, track: VideoTrack, index: int) -> Iterator[tuple[Fraction, int, list[Any]]]:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

    converter = VideoReformatter()  # one for all frames: three times as fast as VideoFrame.reformat
    at_s = track.start_s
    for k, pts in enumerate(track.pts):
        at_s = pts * track.time_base + track.start_s
        rgb = np.rot90(track.picture(k, float(at_s)), track.rotation // 90)  # turns back what the player will turn
        if rgb.shape != (track.height, track.width, 3) or rgb.dtype != np.uint8:
            raise ValueError(f"make_video: picture({k}) must be uint8 of the track's size, got {rgb.shape} {rgb.dtype}")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = converter.reformat(frame, format=track.pix_fmt)
        frame.pts, frame.time_base = pts, track.time_base
        yield at_s, index, _moved(stream.encode(frame), track.start_s)
    yield at_s, index, _moved(stream.encode(None), track.start_s)


def _audio_packets(stream: Any, track: AudioTrack, index: int) -> Iterator[tuple[Fraction, int, list[Any]]]:
    from av import AudioFrame

    at_s, block = track.start_s, 4096
    for first in range(0, track.samples, block):
        n = np.arange(first, min(first + block, track.samples))
        at_s = track.start_s + Fraction(first, track.rate_hz)
        x = np.asarray(track.sound(n / track.rate_hz + float(track.start_s)), np.float32)
        if x.shape not in ((len(n),), (len(n), track.channels)):
            raise ValueError(f"make_video: sound must give ({len(n)},) or ({len(n)}, {track.channels}), got {x.shape}")
        planes = np.broadcast_to(x.reshape(len(n), -1).T, (track.channels, len(n)))
        layout = "mono" if track.channels == 1 else "stereo"
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = track.rate_hz, first, Fraction(1, track.rate_hz)
        yield at_s, index, _moved(stream.encode(frame), track.start_s)
    yield at_s, index, _moved(stream.encode(None), track.start_s)


def _moved(packets: list[Any], start_s: Fraction) -> list[Any]:
    """The packets, later by `start_s`: moved after encoding, as codecs cannot count in arbitrary units of time."""
    for packet in packets if start_s else ():
        old = packet.time_base
        for name in ("pts", "dts"):
            if getattr(packet, name) is not None:
                setattr(packet, name, round((getattr(packet, name) * old + start_s) / _FINE))
        packet.duration = round(packet.duration * old / _FINE)
        packet.time_base = _FINE
    return packets


def _write_rotation(path: Path, degrees: int, width: int, height: int) -> None:
    """Patch the matrix of the first video track's ``tkhd`` box; PyAV can set one only since its version 18."""
    a, b, x, y = {90: (0, 1, height, 0), 180: (-1, 0, width, height), 270: (0, -1, 0, width)}[degrees]
    matrix = struct.pack(">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, x << 16, y << 16, 1 << 30)
    with path.open("r+b") as file:
        moov = next(_boxes(file, 0, path.stat().st_size, b"moov"))
        for trak in _boxes(file, *moov, b"trak"):
            _, stop = next(_boxes(file, *trak, b"tkhd"))
            file.seek(stop - 8)
            if any(file.read(8)):  # its width and height; a sound track has none
                file.seek(stop - 44)
                file.write(matrix)
                return


def _boxes(file: Any, start: int, stop: int, kind: bytes) -> Iterator[tuple[int, int]]:
    while start < stop:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            size, header = struct.unpack(">Q", file.read(8))[0], 16
        if name == kind:
            yield start + header, start + size
        start += size
