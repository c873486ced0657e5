"""How each class of the demo set sounds: a timbre and a rhythm that nothing else in the set has.

Every sound is a function of time alone, so it can be made in pieces of any length. All are heard within each second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float64]
_NOISE_HZ = 44_100


@cache
def _noise_loop(low_hz: float, high_hz: float) -> Wave:
    """Two seconds of noise between two frequencies, as a loop; peaks beyond 2.5 sigma are cut to 1 to make it louder."""
    n = 2 * _NOISE_HZ
    spectrum = np.fft.rfft(np.random.default_rng(12).standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / _NOISE_HZ)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    wave = np.fft.irfft(spectrum, n)
    return np.asarray(np.clip(wave / (2.5 * wave.std()), -1, 1))


def _noise(t: Wave, low_hz: float, high_hz: float) -> Wave:
    loop = _noise_loop(low_hz, high_hz)
    return np.asarray(loop[np.rint(t * _NOISE_HZ).astype(np.int64) % len(loop)])


def _tone(t: Wave, hz: float | Wave, weights: tuple[float, ...] = (1.0,)) -> Wave:
    """Harmonics of a constant frequency, or of a phase in cycles if `hz` is an array."""
    cycles = hz * t if isinstance(hz, (int, float)) else hz
    wave = np.zeros_like(t)
    for k, weight in enumerate(weights, 1):
        wave += weight * np.sin(2 * np.pi * k * cycles)
    return wave / sum(weights)


def _glide(x: Wave, length_s: float, from_hz: float, to_hz: float) -> Wave:
    """Phase in cycles of a tone that glides from one frequency to the other within `length_s`."""
    return from_hz * x + (to_hz - from_hz) * x * x / (2 * length_s)


def _burst(x: Wave, length_s: float) -> Wave:
    """Loudness of a burst that swells within a tenth of its length and then fades out."""
    return np.clip(x / (0.1 * length_s), 0, 1) * np.clip(1 - x / length_s, 0, 1)


def _speech(t: Wave) -> Wave:
    x = t % 0.25
    voice = _tone(t, 125.0, (1, 0.8, 0.6, 0.9, 1, 0.5, 0.3, 0.3))
    vowel = np.where(t % 0.5 < 0.25, _tone(t, 750.0, (1, 0.6)), _tone(t, 500.0, (0.6, 0.2, 0.2, 1)))
    return np.asarray((0.6 * voice + 0.4 * vowel) * np.clip(np.sin(np.pi * x / 0.25), 0, 1) ** 0.7)


def _car(t: Wave) -> Wave:
    engine = _tone(t, 55.0, (1, 0.9, 0.7, 0.6, 0.4, 0.3))
    return 0.75 * engine * (1 + 0.2 * np.sin(2 * np.pi * 1.5 * t)) / 1.2 + 0.25 * _noise(t, 100, 700)


def _dog(t: Wave) -> Wave:
    x = t % 0.5
    bark = _tone(t, _glide(x, 0.16, 720, 330), (1, 0.8, 0.6, 0.5, 0.3))
    return (0.75 * bark + 0.25 * _noise(t, 500, 3000)) * _burst(x, 0.16)


def _cat(t: Wave) -> Wave:
    x = t % 1.0
    up = _glide(np.minimum(x, 0.3), 0.3, 480, 900)
    down = _glide(np.clip(x - 0.3, 0, 0.45), 0.45, 900, 520)
    return np.asarray(_tone(t, up + down, (0.5, 1, 0.7, 0.4)) * np.sin(np.pi * np.clip(x / 0.75, 0, 1)))


def _basketball(t: Wave) -> Wave:
    x = t % 0.5
    return 0.8 * _tone(t, 85.0) * np.exp(-x / 0.06) + 0.2 * _noise(t, 300, 2000) * np.exp(-x / 0.012)


def _fire_alarm(t: Wave) -> Wave:
    return _tone(t, 3100.0, (1, 0.0, 0.33)) * np.where(t % 0.5 < 0.25, 1.0, 0.0)


def _chainsaw(t: Wave) -> Wave:
    saw = 2 * ((112.0 * t) % 1) - 1
    return (0.55 * saw + 0.45 * _noise(t, 800, 7000)) * (0.65 + 0.35 * np.sign(np.sin(2 * np.pi * 28 * t)))


def _violin(t: Wave) -> Wave:
    notes = np.array([440.0, 493.88, 554.37, 659.26])
    vibrato = 0.12 * np.sin(2 * np.pi * 5.5 * t)
    note = notes[np.floor(t * 2).astype(np.int64) % 4]
    return _tone(t, note * (t % 0.5) + vibrato, (1, 0.7, 0.5, 0.4, 0.3, 0.2)) * np.clip((t % 0.5) / 0.04, 0, 1)


def _motorcycle(t: Wave) -> Wave:
    x = (t * 24) % 1  # pops, unlike the steady hum of the car
    return np.asarray((0.6 * _noise(t, 60, 900) + 0.4 * _tone(t, 72.0, (1, 0.5))) * np.exp(-3.5 * x))


def _helicopter(t: Wave) -> Wave:
    return np.asarray(_noise(t, 30, 400) * np.clip(np.sin(2 * np.pi * 11 * t), 0.05, 1))


def _telephone(t: Wave) -> Wave:
    bell = np.where(t % 0.05 < 0.025, _tone(t, 1500.0, (1, 0, 0.4)), _tone(t, 1875.0, (1, 0, 0.4)))
    return bell * np.where(t % 1.0 < 0.7, 1.0, 0.0)


def _clapping(t: Wave) -> Wave:
    wave = np.zeros_like(t)
    for delay, period in ((0.0, 0.25), (0.11, 0.2), (0.05, 1 / 3)):
        wave += np.exp(-((t + delay) % period) / 0.02)
    return np.asarray(_noise(t, 900, 9000) * np.minimum(wave, 1))


SOUNDS: dict[str, Callable[[Wave], Wave]] = {
    "Speech": _speech,
    "Car": _car,
    "Dog": _dog,
    "Cat": _cat,
    "Basketball_bounce": _basketball,
    "Fire_alarm": _fire_alarm,
    "Chainsaw": _chainsaw,
    "Violin_fiddle": _violin,
    "Motorcycle": _motorcycle,
    "Helicopter": _helicopter,
    "Telephone_bell_ringing": _telephone,
    "Clapping": _clapping,
}
"""Class -> its sound, (n,) in [-1, 1], at (n,) times in seconds from the start of the clip."""
