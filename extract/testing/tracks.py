"""What goes into one stream of a made video, checked against what its container and codec can hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.testing.marks import Picture

Sound = Callable[[NDArray[np.float64]], NDArray[Any]]

VIDEO_ENCODERS = {"h264": "libx264", "mpeg4": "mpeg4", "vp8": "libvpx", "vp9": "libvpx-vp9", "mjpeg": "mjpeg"}
AUDIO_ENCODERS = {"aac": "aac", "opus": "libopus", "mp3": "libmp3lame", "pcm": "pcm_s16le"}

# suffix -> (FFmpeg's name, video codecs, audio codecs)
CONTAINERS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "mp4": ("mp4", ("h264", "mpeg4", "vp9", "mjpeg"), ("aac", "opus", "mp3")),
    "mov": ("mov", ("h264", "mpeg4", "mjpeg"), ("aac", "mp3", "pcm")),
    "mkv": ("matroska", ("h264", "mpeg4", "vp8", "vp9", "mjpeg"), ("aac", "opus", "mp3", "pcm")),
    "webm": ("webm", ("vp8", "vp9"), ("opus",)),
    "avi": ("avi", ("h264", "mpeg4", "mjpeg"), ("mp3", "pcm")),
    "ts": ("mpegts", ("h264", "mpeg4"), ("aac", "mp3", "opus")),
}
OPUS_HZ = (8000, 12000, 16000, 24000, 48000)


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """One video stream; `pts` in units of `time_base`, then moved by `start_s`."""

    codec: str
    width: int
    height: int
    fps: Fraction
    pts: tuple[int, ...]
    time_base: Fraction
    b_frames: int
    gop: int
    pix_fmt: str
    sample_aspect_ratio: Fraction
    rotation: int
    start_s: Fraction
    picture: Picture

    def __post_init__(self) -> None:
        if self.codec not in VIDEO_ENCODERS:
            raise ValueError(
                f"make_video: video must be one of {', '.join(VIDEO_ENCODERS)} or None, got {self.codec!r}"
            )
        if self.width < 1 or self.height < 1:
            raise ValueError(f"make_video: width and height must be >= 1, got {self.width}x{self.height}")
        if self.codec == "h264" and "420" in self.pix_fmt and (self.width % 2 or self.height % 2):
            raise ValueError(f"make_video: H.264 in {self.pix_fmt} needs even sides, got {self.width}x{self.height}; "
                             "pix_fmt='yuv444p' takes odd ones")  # fmt: skip
        if self.fps <= 0:
            raise ValueError(f"make_video: fps must be > 0, got {self.fps}")
        if not self.pts or min(self.pts) < 0 or any(b <= a for a, b in zip(self.pts, self.pts[1:], strict=False)):
            raise ValueError(f"make_video: needs at least one frame, times >= 0 and increasing, got {self.pts[:8]}")
        if self.b_frames < 0 or (self.b_frames and self.codec not in ("h264", "mpeg4")):
            raise ValueError(f"make_video: b_frames must be >= 0, and 0 for {self.codec}, got {self.b_frames}")
        if self.gop < 1:
            raise ValueError(f"make_video: gop must be >= 1, got {self.gop}")
        if self.sample_aspect_ratio <= 0:
            raise ValueError(f"make_video: sample_aspect_ratio must be > 0, got {self.sample_aspect_ratio}")
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"make_video: rotation must be 0, 90, 180 or 270, got {self.rotation}")
        if self.start_s < 0:
            raise ValueError(f"make_video: video_start_s must be >= 0, got {float(self.start_s)}")


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """One audio stream of `samples` samples per channel."""

    codec: str
    rate_hz: int
    channels: int
    samples: int
    start_s: Fraction
    sound: Sound

    def __post_init__(self) -> None:
        if self.codec not in AUDIO_ENCODERS:
            raise ValueError(
                f"make_video: audio must be one of {', '.join(AUDIO_ENCODERS)} or None, got {self.codec!r}"
            )
        if self.codec == "opus" and self.rate_hz not in OPUS_HZ:
            raise ValueError(f"make_video: opus takes a rate_hz of {', '.join(map(str, OPUS_HZ))}, got {self.rate_hz}")
        if not 8000 <= self.rate_hz <= 96_000:
            raise ValueError(f"make_video: rate_hz must be 8000..96000, got {self.rate_hz}")
        if self.channels not in (1, 2):
            raise ValueError(f"make_video: channels must be 1 or 2, got {self.channels}")
        if self.samples < 1:
            raise ValueError(f"make_video: audio_duration_s leaves no sample at {self.rate_hz} Hz")
        if self.start_s < 0:
            raise ValueError(f"make_video: audio_start_s must be >= 0, got {float(self.start_s)}")


def check_container(container: str, videos: tuple[VideoTrack, ...], audios: tuple[AudioTrack, ...]) -> str:
    """FFmpeg's name of the container; ValueError if it cannot hold these tracks as they are."""
    if container not in CONTAINERS:
        raise ValueError(f"make_video: container must be one of {', '.join(CONTAINERS)}, got {container!r}")
    name, video_codecs, audio_codecs = CONTAINERS[container]
    for codecs, tracks in ((video_codecs, videos), (audio_codecs, audios)):
        for track in tracks:
            if track.codec not in codecs:
                raise ValueError(f"make_video: {container} takes {', '.join(codecs)}, got {track.codec!r}")
    if not videos and not audios:
        raise ValueError("make_video: video and audio are both None; a file needs at least one stream")
    if container == "avi":
        for video in videos:
            if video.b_frames or video.start_s or video.time_base != 1 / video.fps:
                raise ValueError("make_video: avi stores no times: no b_frames, no start offset, no pts_ms")
        if any(audio.start_s for audio in audios):
            raise ValueError("make_video: avi stores no times: no audio_start_s")
    if any(video.rotation for video in videos) and container not in ("mp4", "mov"):
        raise ValueError(f"make_video: rotation is written to mp4 and mov only, got {container!r}")
    return name
