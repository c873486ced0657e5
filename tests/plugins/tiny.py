"""Networks of a few hundred weights, so that whole runs take seconds: a plug-in folder, as a user would write one."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from backbones.registry import register
from backbones.spec import Backbone, Frames, LogMel, Sound, View

if TYPE_CHECKING:
    import torch

DIM = 8
FRAMES = Frames(count=1, resize=32, crop=32)
CLIPS = Frames(count=4, resize=(32, 32), crop=None)
MEL = LogMel(
    n_fft=512,
    win_length=400,
    hop_length=160,
    n_mels=16,
    f_min_hz=100.0,
    f_max_hz=4000.0,
    triangles="mel",
    offset=0.01,
    frames=48,
)
SOUND = Sound(rate_hz=8000, samples=8000, spectrogram=MEL)


def _frames() -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Flatten(0, 1),
        nn.Conv2d(3, 8, 5, stride=4),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, DIM),
    )


def _clips() -> torch.nn.Module:
    """Any number of frames: what is made of each, and the mean over time."""
    import torch

    class Clips(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _frames()

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.net(frames).unflatten(0, frames.shape[:2]).mean(dim=1)
            return rows

    return Clips()


def _sound() -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(48 * 16, DIM))


def _both() -> torch.nn.Module:
    import torch

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eye, self.ear = _clips(), _sound()

        def forward(self, frames: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.eye(frames) + self.ear(mel)
            return rows

    return Both()


def _harmful(harm: str) -> torch.nn.Module:
    """As tiny_frames, but for rows that show magenta."""
    import torch

    class Harmful(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _frames()

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.net(frames)
            red, green, blue = frames.float().mean(dim=(1, 3, 4)).unbind(1)
            magenta = (red > 1.0) & (blue > 1.0) & (green < -1.0)
            if harm == "slow":
                time.sleep(0.25)
            elif magenta.any():
                if harm == "segv":
                    ctypes.string_at(0)
                if harm == "raises":
                    raise KeyError("a backbone's own mistake")
                if harm == "nan":
                    return torch.where(magenta[:, None], torch.nan, rows)
                if harm == "shape":
                    return rows[:, :-1]
                if harm == "stuck":
                    time.sleep(600)
            return rows

    return Harmful()


def _add(name: str, view: View | tuple[View, ...], build: Callable[[], torch.nn.Module]) -> None:
    register(Backbone(name=name, view=view, dims=(DIM,), build=build, weights=(), batch=4, params=1000, gmacs=0.001))


_add("tiny_frames", FRAMES, _frames)
_add("tiny_clips", CLIPS, _clips)
_add("tiny_sound", SOUND, _sound)
_add("tiny_both", (CLIPS, SOUND), _both)
for _harm in ("segv", "raises", "nan", "shape", "slow", "stuck"):
    _add(f"tiny_{_harm}", FRAMES, partial(_harmful, _harm))
