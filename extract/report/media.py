"""A few frames and the log-mel of a clip's file, through the decoder that the runs use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backbones.views import Frames, LogMel, Sound
from extract.errors import ClipError, Undecodable
from extract.grid import NS, Grid
from extract.plan import Limits, Tap
from extract.report.pictures import heat, narrowed, photo

if TYPE_CHECKING:
    from extract.decode.events import Block

PICTURES = 10
PICTURE_HEIGHT = 90
WIDEST = 3.0  # width of a picture over its height
MEL_COLUMNS = 1200
RATE_HZ = 16_000
# a spectrogram to look at, 100 columns per second
MEL = LogMel(
    n_fft=512, win_length=400, hop_length=160, n_mels=64, f_min_hz=60.0, f_max_hz=7800.0, log="ln", offset=1e-6
)


@dataclass(frozen=True, slots=True)
class Thumb:
    """One frame: when it is shown, the slot of the time axis that it stands for, and its address."""

    at_s: float
    start_s: float
    stop_s: float
    address: str


@dataclass(frozen=True, slots=True)
class Media:
    """What could be had of a clip's file.

    Parameters
    ----------
    seconds
        of the clip, or of as much of it as was asked for; 0: unknown
    thumbs, mel
        pictures; empty where `no_frames` or `no_sound` says why
    mel_s
        seconds that the log-mel covers
    """

    seconds: float = 0.0
    thumbs: tuple[Thumb, ...] = ()
    mel: str = ""
    mel_s: float = 0.0
    no_frames: str = ""
    no_sound: str = ""


def look(path: Path, start_ns: int, stop_ns: int | None, limits: Limits, most_s: float, seconds: float) -> Media:
    """Decode what the contact sheet shows of a clip; what cannot be had is said in its place.

    Parameters
    ----------
    path
        of the file
    start_ns, stop_ns
        the clip
    limits
        as for a run
    most_s
        nothing after so many seconds is shown
    seconds
        length of the clip where it is known, else 0: frames are then two seconds apart
    """
    if not 0 < seconds <= most_s:  # an end beyond that of the file is none
        until_ns = start_ns + round(most_s * NS)
        stop_ns = until_ns if stop_ns is None else min(stop_ns, until_ns)
    hop_ns = max(1, round(min(seconds, most_s) * NS / PICTURES)) if seconds else 2 * NS
    try:
        height_width = _height_width(path)
    except ClipError as error:
        return Media(no_frames=str(error), no_sound=str(error))
    frames_grid = Grid(window_ns=hop_ns, hop_ns=hop_ns, sampling="centered", short="zeros")
    taps = [Tap(Sound(RATE_HZ, RATE_HZ), Grid(short="zeros"))]
    if height_width is not None:
        taps.append(Tap(Frames(count=1, resize=height_width, crop=None), frames_grid))
    return _decoded(path, start_ns, stop_ns, taps, limits, most_s)


def _decoded(path: Path, start_ns: int, stop_ns: int | None, taps: list[Tap], limits: Limits, most_s: float) -> Media:
    from extract.decode.clip import decode
    from extract.decode.events import Block, Broken, Opened

    windows: tuple[NDArray[np.int64], ...] = ()
    errors: dict[int, ClipError] = {}
    blocks: dict[int, list[Block]] = {}
    try:
        for event in decode(str(path), start_ns, stop_ns, taps, limits):
            if isinstance(event, Opened):
                windows, errors, blocks = event.windows_ns, dict(event.errors), {}
            elif isinstance(event, Broken):
                errors[event.tap] = event.error
            elif isinstance(event, Block):
                blocks.setdefault(event.tap, []).append(event)
    except ClipError as error:
        return Media(no_frames=str(error), no_sound=str(error))
    seconds = min(float(windows[-1][-1, 1]) / NS, most_s)
    thumbs = _thumbs(blocks.get(1, []), windows[1]) if len(taps) > 1 and 1 not in errors else ()
    no_frames = "" if thumbs else str(errors.get(1, "the file has no pictures"))
    heard = [] if 0 in errors else [block.data for block in blocks.get(0, []) if (block.source_ns >= 0).any()]
    if not heard:
        return Media(seconds, thumbs, no_frames=no_frames, no_sound=str(errors.get(0, "the file has no sound here")))
    samples = np.concatenate([block.data for block in blocks[0]])
    return Media(seconds, thumbs, _mel(samples), float(len(samples)), no_frames)


def _thumbs(blocks: Sequence[Block], windows_ns: NDArray[np.int64]) -> tuple[Thumb, ...]:
    found: list[Thumb] = []
    for block in blocks:
        for i, (pixels, source_ns) in enumerate(zip(block.data, block.source_ns, strict=True), block.first_row):
            if source_ns[0] >= 0:
                start_s, stop_s = (windows_ns[i] / NS).tolist()
                found.append(Thumb(float(source_ns[0]) / NS, start_s, stop_s, photo(pixels[0])))
    return tuple(found)


def _mel(samples: NDArray[np.float32]) -> str:
    import torch

    from extract.prepare import log_mel

    whole = torch.from_numpy(samples.reshape(1, -1))
    picture = narrowed(log_mel(whole, Sound(RATE_HZ, samples.size, MEL))[0].numpy().T[::-1], MEL_COLUMNS)
    low, high = np.percentile(picture, (5, 99.8)).tolist()
    return heat(picture, low, high)


def _height_width(path: Path) -> tuple[int, int] | None:
    """Height and width of a small picture of the file, upright, in the shape it is shown in; None: it has no pictures.

    Raises
    ------
    ClipError
        the file is not there or not media, or its first frame cannot be decoded
    """
    import av.error

    from extract.decode.media import best_stream, open_media
    from extract.decode.pictures import Upright

    with open_media(str(path)) as container:
        stream = best_stream(container, "video")
        if stream is None:
            return None
        try:
            frame = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise Undecodable(f"{path}: its first frame cannot be decoded: {error}") from error
        if frame is None:
            return None
        upright, swapped = Upright()(frame)
        aspect = float(stream.sample_aspect_ratio or 1)
        shape = upright.width * (1 / aspect if swapped else aspect) / upright.height
    if shape > WIDEST:
        return max(2, round(PICTURE_HEIGHT * WIDEST / shape)), round(PICTURE_HEIGHT * WIDEST)
    return PICTURE_HEIGHT, max(2, round(PICTURE_HEIGHT * shape))
