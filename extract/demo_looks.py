"""How each class of the demo set looks: a shape, colours and a motion that nothing else in the set has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]


class Patch:
    """A square of RGBA (the colours already times alpha) to paint on, with coordinates u (right), v (down) in -1..1.

    Parameters
    ----------
    size
        side in pixels, >= 8
    """

    def __init__(self, size: int) -> None:
        axis = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
        self.u, self.v = np.meshgrid(axis, axis)
        self._edge = size / 4  # shapes are soft over about two pixels, or they would crawl when they move
        self.rgb = np.zeros((size, size, 3), np.float32)
        self.alpha = np.zeros((size, size, 1), np.float32)

    def clear(self) -> None:
        """Make everything transparent."""
        self.rgb[:] = 0
        self.alpha[:] = 0

    def fill(self, inside: Grid, colour: tuple[int, int, int]) -> None:
        """Paint where `inside` (size, size), a signed distance in patch units, is positive."""
        a = np.clip(inside * self._edge + 0.5, 0, 1)[:, :, None]
        self.rgb += a * (np.array(colour, np.float32) - self.rgb)
        self.alpha += a * (1 - self.alpha)

    def disc(self, x: float, y: float, r: float, colour: tuple[int, int, int], stretch: float = 1.0) -> None:
        """A disc around (x, y), `stretch` times as wide as high."""
        self.fill(r - np.hypot((self.u - x) / stretch, self.v - y), colour)

    def box(self, x: float, y: float, w: float, h: float, colour: tuple[int, int, int], turn: float = 0.0) -> None:
        """A box of half sides w and h around (x, y), turned by `turn` radians."""
        c, s = np.cos(turn), np.sin(turn)
        du, dv = self.u - x, self.v - y
        self.fill(np.minimum(w - np.abs(du * c + dv * s), h - np.abs(dv * c - du * s)), colour)

    def wedge(self, x: float, top: float, base: float, half: float, colour: tuple[int, int, int]) -> None:
        """A triangle with its tip at (x, top) and its base of half width `half` at v = base."""
        down = (self.v - top) / (base - top)
        self.fill(np.minimum(half * down - np.abs(self.u - x), base - self.v), colour)


def _speech(p: Patch, t: float) -> None:
    opened = 0.04 + 0.13 * abs(np.sin(2 * np.pi * 2 * t))
    p.disc(0, 0, 0.8, (236, 188, 150), 0.8)
    p.disc(-0.25, -0.25, 0.09, (40, 40, 60))
    p.disc(0.25, -0.25, 0.09, (40, 40, 60))
    p.disc(0, 0.35, opened, (150, 30, 40), 2.2)


def _car(p: Patch, t: float) -> None:
    x = 0.3 * np.sin(2 * np.pi * 0.4 * t)
    p.box(x, -0.2, 0.35, 0.22, (130, 200, 230))
    p.box(x, 0.1, 0.65, 0.2, (210, 30, 35))
    for wheel in (-0.38, 0.38):
        p.disc(x + wheel, 0.35, 0.2, (25, 25, 25))
        p.disc(x + wheel, 0.35, 0.08, (190, 190, 190))


def _dog(p: Patch, t: float) -> None:
    y = -0.25 * abs(np.sin(2 * np.pi * 1 * t))
    p.disc(0, y + 0.15, 0.55, (140, 92, 50))
    p.disc(-0.55, y + 0.2, 0.38, (92, 58, 30), 0.5)
    p.disc(0.55, y + 0.2, 0.38, (92, 58, 30), 0.5)
    p.disc(0, y + 0.38, 0.25, (205, 170, 125), 1.2)
    p.disc(0, y + 0.3, 0.1, (20, 15, 15), 1.3)
    p.disc(-0.2, y + 0.0, 0.07, (20, 15, 15))
    p.disc(0.2, y + 0.0, 0.07, (20, 15, 15))


def _cat(p: Patch, t: float) -> None:
    x = 0.2 * np.sin(2 * np.pi * 0.5 * t)
    p.wedge(x - 0.38, -0.85, 0.0, 0.28, (150, 150, 165))
    p.wedge(x + 0.38, -0.85, 0.0, 0.28, (150, 150, 165))
    p.disc(x, 0.1, 0.55, (175, 175, 190), 1.1)
    for eye in (-0.22, 0.22):
        p.disc(x + eye, 0.0, 0.13, (90, 220, 90))
        p.disc(x + eye, 0.0, 0.1, (10, 10, 10), 0.35)
    for tilt in (-0.15, 0.0, 0.15):
        p.box(x, 0.35, 0.75, 0.012, (245, 245, 245), tilt)


def _basketball(p: Patch, t: float) -> None:
    y = 0.5 - 1.0 * abs(np.sin(2 * np.pi * t))
    p.box(0, 0.93, 0.9, 0.05, (190, 150, 100))
    p.disc(0, y, 0.36, (240, 125, 25))
    p.box(0, y, 0.34, 0.02, (60, 30, 10))
    p.box(0, y, 0.02, 0.34, (60, 30, 10))


def _fire_alarm(p: Patch, t: float) -> None:
    on = (2 * t) % 1 < 0.5
    p.box(0, 0, 0.75, 0.75, (245, 245, 240))
    p.disc(0, 0, 0.55, (255, 20, 20) if on else (90, 15, 15))
    p.disc(0, 0, 0.2, (255, 240, 180) if on else (60, 10, 10))


def _chainsaw(p: Patch, t: float) -> None:
    shake = 0.04 * np.sin(2 * np.pi * 11 * t)
    p.box(0.25, shake, 0.65, 0.16, (180, 185, 190))
    for tooth in np.arange(6):
        x = -0.35 + ((tooth / 6 + 1.5 * t) % 1) * 1.2
        p.box(x, shake - 0.2, 0.05, 0.06, (60, 60, 65))
        p.box(0.5 - x, shake + 0.2, 0.05, 0.06, (60, 60, 65))
    p.box(-0.6, shake, 0.33, 0.35, (250, 200, 20))


def _violin(p: Patch, t: float) -> None:
    p.box(0, -0.55, 0.06, 0.4, (40, 25, 15))
    p.disc(0, 0.0, 0.32, (150, 70, 25))
    p.disc(0, 0.45, 0.42, (150, 70, 25))
    p.box(0, 0.15, 0.025, 0.6, (235, 220, 190))
    p.box(0.45 * np.sin(2 * np.pi * 0.8 * t), 0.2, 0.75, 0.03, (250, 250, 245), -0.35)


def _motorcycle(p: Patch, t: float) -> None:
    for wheel in (-0.5, 0.5):
        p.disc(wheel, 0.35, 0.36, (20, 20, 20))
        p.disc(wheel, 0.35, 0.24, (150, 150, 155))
        p.box(wheel, 0.35, 0.24, 0.035, (20, 20, 20), 2 * np.pi * 1.3 * t)
        p.box(wheel, 0.35, 0.035, 0.24, (20, 20, 20), 2 * np.pi * 1.3 * t)
    p.box(0, 0.05, 0.55, 0.14, (30, 70, 200), 0.12)
    p.box(0.42, -0.3, 0.04, 0.28, (30, 30, 30), -0.4)


def _helicopter(p: Patch, t: float) -> None:
    y = 0.1 * np.sin(2 * np.pi * 0.5 * t)
    p.box(0.5, y + 0.05, 0.45, 0.06, (40, 120, 60))
    p.box(0.9, y - 0.05, 0.05, 0.2, (40, 120, 60))
    p.disc(-0.2, y + 0.15, 0.36, (50, 150, 75), 1.3)
    p.disc(-0.42, y + 0.1, 0.18, (190, 230, 240), 1.1)
    p.box(-0.2, y - 0.35, 0.03, 0.15, (30, 30, 30))
    p.box(-0.2, y - 0.5, 0.15 + 0.65 * abs(np.cos(2 * np.pi * 3.2 * t)), 0.04, (25, 25, 25))


def _telephone(p: Patch, t: float) -> None:
    x = 0.08 * np.sin(2 * np.pi * 9 * t) if t % 1 < 0.7 else 0.0
    p.wedge(x, -0.5, 0.75, 0.75, (20, 150, 160))
    p.disc(x, 0.3, 0.27, (240, 240, 230))
    p.disc(x, 0.3, 0.1, (20, 150, 160))
    p.box(x, -0.5, 0.7, 0.12, (10, 90, 100))
    for end in (-0.6, 0.6):
        p.disc(x + end, -0.42, 0.2, (10, 90, 100))


def _clapping(p: Patch, t: float) -> None:
    gap = 0.12 + 0.4 * abs(np.sin(2 * np.pi * 2 * t))
    for side in (-1, 1):
        p.disc(side * gap, 0.25, 0.42, (200, 120, 210), 0.55)
        for finger in (-0.12, 0.0, 0.12):
            p.box(side * gap + finger, -0.3, 0.05, 0.4, (175, 90, 190), side * 0.12)


LOOKS: dict[str, Callable[[Patch, float], None]] = {
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
"""Class -> what paints it on a transparent patch at time ``t`` (seconds)."""
