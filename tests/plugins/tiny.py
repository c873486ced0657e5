"""Networks of a few hundred weights, so that whole runs take seconds: a plug-in folder, as a user would write one."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from backbones.registry import register
from backbones.spec import Backbone, Frames, LogMel, Sound

if TYPE_CHECKING:
    import torch

DIM = 8
FRAMES = Frames(count=1, resize=32, crop=32)
CLIPS = Frames(count=4, resize=(32, 32), crop=None)
MEL = LogMel(n_fft=512, win_length=400, hop_length=160, n_mels=16, f_min_hz=100.0, f_max_hz=4000.0, offset=0.01, frames=50)
SOUND = Sound(rate_hz=8000, samples=8400, spectrogram=MEL)
WAVE = Sound(rate_hz=8000, samples=800)


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
    from torch import nn

    # (n, t, 3, h, w): time is folded into the channels
    return nn.Sequential(
        nn.Flatten(1, 2), nn.Conv2d(12, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, DIM)
    )


def _sound() -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(50 * 16, DIM))


def _wave() -> torch.nn.Module:
    from torch import nn

    return nn.Linear(800, DIM)


def _is_marked(frames: torch.Tensor) -> torch.Tensor:
    """Which rows show the magenta picture of a clip that is to do harm: (n,) bool."""
    red, green, blue = frames.float().mean(dim=(1, 3, 4)).unbind(1)
    return (red > 1.0) & (blue > 1.0) & (green < -1.0)


def _harmful(kind: str) -> torch.nn.Module:
    import torch

    class Harmful(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _frames()

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.net(frames)
            marked = _is_marked(frames)
            if marked.any():
                if kind == "segv":
                    ctypes.string_at(0)
                if kind == "raises":
                    raise KeyError("a backbone's own mistake")
                if kind == "nan":
                    return torch.where(marked[:, None], torch.nan, rows)
                if kind == "shape":
                    return rows[:, :-1]
            return rows

    return Harmful()


def _add(name: str, view: Frames | Sound, build: object) -> None:
    register(Backbone(name=name, view=view, dims=(DIM,), build=build, weights=(), batch=4, params=1000, gmacs=0.001))


_add("tiny_frames", FRAMES, _frames)
_add("tiny_clips", CLIPS, _clips)
_add("tiny_sound", SOUND, _sound)
_add("tiny_wave", WAVE, _wave)
_add("tiny_segv", FRAMES, lambda: _harmful("segv"))
_add("tiny_raises", FRAMES, lambda: _harmful("raises"))
_add("tiny_nan", FRAMES, lambda: _harmful("nan"))
_add("tiny_shape", FRAMES, lambda: _harmful("shape"))
