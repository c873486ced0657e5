"""Very Deep PolyNet (Zhang et al. 2017, "PolyNet: A Pursuit of Structural Diversity in Very Deep Networks"), pooled.

The mixed 10-20-10 form as it was published with trained weights: 40 residual modules, whose branches are inceptions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

MODULES = 40
ORDERS = 3
WIDTHS = (384, 1152, 2048)


class Conv(nn.Module):
    """Convolution, normalisation and ReLU; a branch closes without the ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = relu

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.bn(self.conv(maps))
        return out.relu_() if self.relu else out


class Paths(nn.ModuleList):
    """Every path on the same input, their channels side by side."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([path(maps) for path in self], 1)


class TwoWay(nn.Module):
    """``relu(x + scale * F(x) + scale * G(x))``."""

    def __init__(self, branch: Callable[[], nn.Sequential], scale: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList([branch(), branch()])
        self.closing = _closing(self.branches)
        self.scale = scale

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = maps
        for branch in self.branches:
            out = torch.add(out, branch(maps), alpha=self.scale)
        return out.relu_()


class Poly3(nn.Module):
    """``relu(x + scale * F(x) + scale * F(relu(F(x))) + ...)`` up to the third order.

    The orders share their inner convolutions, but neither the normalisations nor the convolution that closes the branch.
    """

    def __init__(self, branch: Callable[[], nn.Sequential], scale: float) -> None:
        super().__init__()
        branches = [branch() for _ in range(ORDERS)]
        for higher in branches[1:]:
            for own, first in zip(higher[0].modules(), branches[0][0].modules(), strict=True):
                if isinstance(own, Conv) and isinstance(first, Conv):
                    own.conv = first.conv
        self.branches = nn.ModuleList(branches)
        self.closing = _closing(self.branches)
        self.scale = scale

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = power = maps
        for branch in self.branches:
            power = branch(power)
            out = torch.add(out, power, alpha=self.scale)
            power = power.relu_()
        return out.relu_()


class PolyNet(nn.Module):
    """Frames to pooled features: ``(n, 3, 331, 331) -> (n, 2048)``, non-negative."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTHS
        self.stem = nn.Sequential(
            Conv(3, 32, 3, stride=2),
            Conv(32, 32, 3),
            Conv(32, 64, 3, padding=1),
            Paths([nn.MaxPool2d(3, 2), Conv(64, 96, 3, stride=2)]),
            Paths(
                [
                    nn.Sequential(Conv(160, 64, 1), Conv(64, 96, 3)),
                    nn.Sequential(Conv(160, 64, 1), *_cross(64, 64, 64, 7, tall_first=True), Conv(64, 96, 3)),
                ]
            ),
            Paths([nn.MaxPool2d(3, 2), Conv(192, 192, 3, stride=2)]),
        )
        self.stage_a = nn.Sequential(*(TwoWay(_branch_a, scale(i)) for i in range(10)))
        self.reduction_a = Paths(
            [
                nn.Sequential(Conv(a, 256, 1), Conv(256, 256, 3, padding=1), Conv(256, 384, 3, stride=2)),
                Conv(a, 384, 3, stride=2),
                nn.MaxPool2d(3, 2),
            ]
        )
        branch_b = partial(_branch, b, (128, 160, 192), 7)
        self.stage_b = nn.Sequential(*((TwoWay if i % 2 else Poly3)(branch_b, scale(i)) for i in range(10, 30)))
        self.reduction_b = Paths(
            [
                nn.Sequential(Conv(b, 256, 1), Conv(256, 256, 3, padding=1), Conv(256, 256, 3, stride=2)),
                nn.Sequential(Conv(b, 256, 1), Conv(256, 256, 3, stride=2)),
                nn.Sequential(Conv(b, 256, 1), Conv(256, 384, 3, stride=2)),
                nn.MaxPool2d(3, 2),
            ]
        )
        branch_c = partial(_branch, c, (192, 224, 256), 3)
        self.stage_c = nn.Sequential(*((TwoWay if i % 2 else Poly3)(branch_c, scale(i)) for i in range(30, MODULES)))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        maps = self.stage_a(self.stem(frames))
        maps = self.stage_b(self.reduction_a(maps))
        maps = self.stage_c(self.reduction_b(maps))
        pooled: torch.Tensor = maps.mean((2, 3))
        return pooled


def scale(module: int) -> float:
    """Weight of the branches of a residual module, from 1 for the first down to 0.7; six digits, as published."""
    return round(1 - 0.3 * module / (MODULES - 1), 6)


def _branch_a() -> nn.Sequential:
    width = WIDTHS[0]
    paths = Paths(
        [
            nn.Sequential(Conv(width, 32, 1), Conv(32, 48, 3, padding=1), Conv(48, 64, 3, padding=1)),
            nn.Sequential(Conv(width, 32, 1), Conv(32, 32, 3, padding=1)),
            Conv(width, 32, 1),
        ]
    )
    return nn.Sequential(paths, Conv(128, width, 1, relu=False))


def _branch(width: int, inner: tuple[int, int, int], length: int) -> nn.Sequential:
    paths = Paths([nn.Sequential(Conv(width, inner[0], 1), *_cross(*inner, length)), Conv(width, 192, 1)])
    return nn.Sequential(paths, Conv(inner[2] + 192, width, 1, relu=False))


def _cross(channels: int, between: int, width: int, length: int, tall_first: bool = False) -> tuple[Conv, Conv]:
    half = length // 2
    kernels = [((1, length), (0, half)), ((length, 1), (half, 0))]
    first, second = reversed(kernels) if tall_first else kernels
    return Conv(channels, between, first[0], padding=first[1]), Conv(between, width, second[0], padding=second[1])


def _closing(branches: nn.ModuleList) -> tuple[str, ...]:
    return tuple(f"branches.{number}.1.bn" for number in range(len(branches)))
