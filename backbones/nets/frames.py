"""The two ways in which networks published for images and for clips eat the frames of a window."""

from __future__ import annotations

import torch
from torch import nn


class OneFrame(nn.Module):
    """An image network on the single frame of a window: ``(n, 1, 3, h, w) -> net((n, 3, h, w))``."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(frames.squeeze(1))
        return out


class Clip(nn.Module):
    """A clip network on all frames of a window: ``(n, t, 3, h, w) -> net((n, 3, t, h, w))``."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(frames.transpose(1, 2))
        return out
