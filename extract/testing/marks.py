"""Pictures that carry their frame number and sound that carries its time, and what reads them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = Callable[[int, float], NDArray[np.uint8]]
Shows = tuple[float, float, float, float]

FRAME_NUMBERS = 1 << 16
SOUND_PERIOD_S = 12
WHOLE: Shows = (0.0, 0.0, 1.0, 1.0)

# The mark lies in the part of a 16:9 picture that the usual 256 -> 224 centre crop keeps (25 % .. 75 % of its width).
_LEFT, _TOP, _RIGHT, _BOTTOM = 0.26, 0.10, 0.74, 0.90
_ROWS, _COLUMNS = 4, 6
_TRACK_BITS, _CHECK_BITS = 3, 5
_TINTS = (
    (70, 90, 150),
    (150, 80, 70),
    (70, 140, 80),
    (140, 130, 60),
    (120, 70, 150),
    (60, 140, 150),
    (150,) * 3,
    (90,) * 3,
)

_SLOTS, _SLOT_HZ, _LOW_HZ, _STEP_HZ = 120, 10, 400.0, 25.0
# each is coprime to the number of slots, so every track goes through all tones, and no two in the same order
_ORDERS = (1, 119, 7, 113)
_CLICK_S = 0.001


def _check(number: int, track: int) -> int:
    return (number * 5 + (number >> 5) * 11 + (number >> 10) * 23 + track * 13 + 9) & 31


def numbered_picture(width: int, height: int, track: int = 0) -> Picture:
    """Pictures that say which frame of which track they are.

    A mark of 4 x 6 black or white cells in the middle holds 16 bits of frame number, 3 of track and 5 of checksum.
    Around it lies the track's tint with a bar that moves by a fortieth of the width per frame.

    Parameters
    ----------
    width, height
        of the pictures, in pixels, >= 1; readable from about 64 x 48 on
    track
        0..7

    Returns
    -------
    callable
        ``(k, t_s) -> (height, width, 3) uint8``; ValueError for k outside 0..65535
    """
    if not 0 <= track < len(_TINTS):
        raise ValueError(f"numbered_picture: track must be 0..{len(_TINTS) - 1}, got {track}")
    y = (np.arange(height) + 0.5) / height
    x = (np.arange(width) + 0.5) / width
    row = np.floor((y - _TOP) / (_BOTTOM - _TOP) * _ROWS).astype(np.int64)
    column = np.floor((x - _LEFT) / (_RIGHT - _LEFT) * _COLUMNS).astype(np.int64)
    inside = ((row >= 0) & (row < _ROWS))[:, None] & ((column >= 0) & (column < _COLUMNS))[None, :]
    cell = (row[:, None] * _COLUMNS + column[None, :])[inside]
    shade = (0.6 + 0.4 * y)[:, None, None]
    ground = np.broadcast_to(shade * np.array(_TINTS[track], float), (height, width, 3)).astype(np.uint8)

    def picture(k: int, t_s: float) -> NDArray[np.uint8]:
        del t_s  # the number says it all
        if not 0 <= k < FRAME_NUMBERS:
            raise ValueError(f"numbered_picture: frame number must be 0..{FRAME_NUMBERS - 1}, got {k}")
        word = (k << (_TRACK_BITS + _CHECK_BITS)) | (track << _CHECK_BITS) | _check(k, track)
        bits = (word >> np.arange(_ROWS * _COLUMNS)) & 1
        out = ground.copy()
        out[:, np.abs((x - k / 40.0) % 1.0 - 0.5) < 0.04] = (230, 200, 60)
        out[inside] = np.where(bits[cell] == 1, 235, 16).astype(np.uint8)[:, None]
        return out

    return picture


def centre_crop_shows(width: int, height: int, kept: float = 224 / 256) -> Shows:
    """The part of a `width` x `height` picture that a square crop from its middle shows, as ``shows`` of the readers.

    `kept` is the side of the crop over the shorter side: 224/256 after "resize the shorter side to 256, crop 224".
    """
    if not 0 < kept <= 1:
        raise ValueError(f"centre_crop_shows: kept must be in (0, 1], got {kept}")
    side = kept * min(width, height)
    dx, dy = side / width / 2, side / height / 2
    return (0.5 - dx, 0.5 - dy, 0.5 + dx, 0.5 + dy)


def _read_mark(rgb: NDArray[np.uint8], shows: Shows) -> tuple[int, int]:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"a picture must be (height, width, 3) uint8, got {rgb.shape} {rgb.dtype}")
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = shows
    luma = rgb.astype(np.float32).mean(axis=2)
    word = 0
    for i in range(_ROWS * _COLUMNS):
        r, c = divmod(i, _COLUMNS)
        # the inner half of the cell: its rim is blurred by resizing
        ys = (_TOP + (_BOTTOM - _TOP) * (r + np.array([0.25, 0.75])) / _ROWS - y0) / (y1 - y0) * height
        xs = (_LEFT + (_RIGHT - _LEFT) * (c + np.array([0.25, 0.75])) / _COLUMNS - x0) / (x1 - x0) * width
        (ya, yb), (xa, xb) = np.floor(ys).astype(int), np.floor(xs).astype(int)
        if ya < 0 or xa < 0 or yb >= height or xb >= width:
            raise ValueError(f"the frame mark lies outside this picture of {width}x{height} showing {shows}")
        word |= int(luma[ya : yb + 1, xa : xb + 1].mean() > 128) << i
    check, track = word & ((1 << _CHECK_BITS) - 1), (word >> _CHECK_BITS) & ((1 << _TRACK_BITS) - 1)
    number = word >> (_TRACK_BITS + _CHECK_BITS)
    if check != _check(number, track):
        raise ValueError(f"no frame mark can be read in this picture of {width}x{height} (checksum of {word:#08x})")
    return number, track


def read_frame_number(rgb: NDArray[np.uint8], shows: Shows = WHOLE) -> int:
    """The number of the frame that a decoded (and perhaps resized) picture shows.

    Parameters
    ----------
    rgb
        (height, width, 3) uint8, at least about 64 px wide and high
    shows
        left, top, right, bottom of what `rgb` shows of the picture it was cut from, as fractions of that picture
        (`centre_crop_shows`); the default is all of it

    Raises
    ------
    ValueError
        there is no mark, it does not read (a checksum guards it), or it was cut off
    """
    return _read_mark(rgb, shows)[0]


def read_track(rgb: NDArray[np.uint8], shows: Shows = WHOLE) -> int:
    """The track (0: main, 1...: in the order of ``extra_video``) that a picture is from; as `read_frame_number`."""
    return _read_mark(rgb, shows)[1]


def timed_sound(t_s: NDArray[np.float64], track: int = 0) -> NDArray[np.float32]:
    """Sound that says what time it is.

    Every tenth of a second has its own tone, 400 Hz to 3375 Hz in steps of 25 Hz, so that 12 s differ throughout; each
    full second starts with a click of 1 ms.

    Parameters
    ----------
    t_s
        (n,) times in seconds, >= 0
    track
        0..3: the same tones in four orders

    Returns
    -------
    (n,) float32 in [-1, 1]
    """
    if not 0 <= track < len(_ORDERS):
        raise ValueError(f"timed_sound: track must be 0..{len(_ORDERS) - 1}, got {track}")
    slot = np.floor(t_s * _SLOT_HZ + 1e-7)
    hz = _LOW_HZ + _STEP_HZ * (slot * _ORDERS[track] % _SLOTS)
    tone = 0.25 * np.sin(2 * np.pi * hz * (t_s - slot / _SLOT_HZ))
    return (tone + 0.65 * ((t_s + 1e-7) % 1.0 < _CLICK_S)).astype(np.float32)


def read_time_s(samples: NDArray[Any], rate_hz: int, track: int = 0) -> float:
    """At what time of `timed_sound` these samples begin.

    Found as the greatest circular correlation with the true sound: right within a millisecond, also after a lossy codec
    or a bad resampler.

    Parameters
    ----------
    samples
        (n,) float or integer, one channel, at least 0.3 s of it; the first 3 s are looked at
    rate_hz
        of the samples, >= 8000
    track
        see `timed_sound`

    Returns
    -------
    float in [0, 12)
        seconds, modulo `SOUND_PERIOD_S`

    Raises
    ------
    ValueError
        too short, or nothing like that sound
    """
    x = np.asarray(samples, np.float64)
    if x.ndim != 1 or len(x) < 0.3 * rate_hz:
        raise ValueError(f"read_time_s needs (n,) samples, n >= {int(0.3 * rate_hz)} (0.3 s), got shape {x.shape}")
    x = x[: 3 * rate_hz]
    n = SOUND_PERIOD_S * rate_hz
    reference = timed_sound(np.arange(n) / rate_hz, track).astype(np.float64)
    fine = -(-44_100 // rate_hz)  # between samples too: at low rates half a sample is half a period of the high tones
    correlation = fine * np.fft.irfft(np.conj(np.fft.rfft(x, n)) * np.fft.rfft(reference), n * fine)
    peak = int(np.argmax(correlation))
    lag = peak // fine
    norm = float(np.linalg.norm(x) * np.linalg.norm(np.take(reference, np.arange(lag, lag + len(x)), mode="wrap")))
    score = float(correlation[peak]) / norm if norm > 0 else 0.0
    if score < 0.5:
        raise ValueError(f"these samples are not from timed_sound(track={track}): correlation {score:.2f} < 0.5")
    return peak / fine / rate_hz


def read_clicks_s(samples: NDArray[Any], rate_hz: int) -> NDArray[np.float64]:
    """Where the clicks of `timed_sound` start: (n,) seconds from the first sample, increasing.

    `samples` are (n,) floats in [-1, 1]. A click is where they pass 0.5, at least half a second after the one before.
    """
    loud = np.flatnonzero(np.asarray(samples, np.float64) > 0.5) / rate_hz
    return loud[np.diff(loud, prepend=-1.0) > 0.5]
