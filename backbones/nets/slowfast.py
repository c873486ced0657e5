"""SlowFast 4x16 with ResNet-50 pathways (Feichtenhofer et al. 2019, "SlowFast Networks for Video Recognition").

The layers are those of PySlowFast (configs/Kinetics/c2/SLOWFAST_4x16_R50.yaml) and of pytorchvideo's ``create_slowfast``
with a lateral kernel of 5 and stride of 8. AVSlowFast is built from the same pathways (backbones/nets/avslowfast.py).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

# the fast frames that the slow pathway sees: PySlowFast cuts linspace(0, 31, 4) to whole numbers, which is no fixed stride
SLOW_FRAMES = (0, 10, 20, 31)
BLOCKS = {"2": 3, "3": 4, "4": 6, "5": 3}
EXPANSION = 4


class Block(nn.Module):
    """A residual bottleneck: time x 1 x 1, then 1 x 3 x 3, then 1 x 1 x 1.

    Parameters
    ----------
    channels, inner
        of the input and between the convolutions; the output has four times `inner`
    frames
        length of the first kernel in time
    stride
        of the second convolution and of the shortcut, in space
    """

    def __init__(self, channels: int, inner: int, frames: int, stride: int) -> None:
        super().__init__()
        out = inner * EXPANSION
        self.a = nn.Conv3d(channels, inner, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = nn.Conv3d(inner, inner, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)
        self.b_bn = nn.BatchNorm3d(inner)
        self.c = nn.Conv3d(inner, out, 1, bias=False)
        self.c_bn = nn.BatchNorm3d(out)
        self.downsample: nn.Module | None = None
        if channels != out or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, out, 1, stride=(1, stride, stride), bias=False), nn.BatchNorm3d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.a_bn(self.a(x)).relu_()
        branch = self.b_bn(self.b(branch)).relu_()
        branch = self.c_bn(self.c(branch))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: torch.Tensor = branch.add_(shortcut).relu_()
        return out


class Pathway(nn.Module):
    """The slow or the fast ResNet-50.

    Parameters
    ----------
    width
        channels of the stem
    stem_frames
        length of the stem's kernel in time
    frames
        the same for the blocks of each stage, 2 to 5
    lateral
        channels that another pathway adds in front of a stage
    last
        the last stage that is built
    """

    def __init__(
        self, width: int, stem_frames: int, frames: dict[str, int], lateral: dict[str, int], last: str = "5"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            3, width, (stem_frames, 7, 7), stride=(1, 2, 2), padding=(stem_frames // 2, 3, 3), bias=False
        )
        self.bn = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.res = nn.ModuleDict()
        channels, inner = width, width
        for stage, count in BLOCKS.items():
            if stage > last:
                break
            first = Block(channels + lateral.get(stage, 0), inner, frames[stage], 1 if stage == "2" else 2)
            channels = inner * EXPANSION
            self.res[stage] = nn.Sequential(
                first, *(Block(channels, inner, frames[stage], 1) for _ in range(count - 1))
            )
            inner *= 2

    def stem(self, clip: torch.Tensor) -> torch.Tensor:
        """``(n, 3, t, h, w) -> (n, width, t, h / 4, w / 4)``."""
        out: torch.Tensor = self.pool(self.bn(self.conv(clip)).relu_())
        return out


def slow_pathway(lateral: dict[str, int]) -> Pathway:
    """The slow one: 64 channels wide, looks along time from stage 4 on."""
    return Pathway(64, 1, {"2": 1, "3": 1, "4": 3, "5": 3}, lateral)


def fast_pathway(last: str = "5") -> Pathway:
    """The fast one: 8 channels wide, looks along time everywhere."""
    return Pathway(8, 5, {"2": 3, "3": 3, "4": 3, "5": 3}, {}, last)


class FastToSlow(nn.Module):
    """What the fast pathway tells the slow one: twice its channels, at an eighth of its frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 2 * channels, (5, 1, 1), stride=(8, 1, 1), padding=(2, 0, 0), bias=False)
        self.bn = nn.BatchNorm3d(2 * channels)

    def forward(self, fast: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.bn(self.conv(fast)).relu_()
        return out


def split(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``(n, 32, 3, h, w)`` to the clips of both pathways, slow ``(n, 3, 4, h, w)`` and fast ``(n, 3, 32, h, w)``."""
    if frames.shape[1] != SLOW_FRAMES[-1] + 1:
        raise ValueError(f"SlowFast 4x16 sees {SLOW_FRAMES[-1] + 1} frames at a time, got {frames.shape[1]}")
    fast = frames.transpose(1, 2)
    return fast[:, :, SLOW_FRAMES], fast


def pooled(maps: torch.Tensor) -> torch.Tensor:
    """Mean over time and space."""
    return maps.mean((2, 3, 4))


class SlowFast(nn.Module):
    """Clips to pooled features, ``(n, 32, 3, h, w) -> (n, 2304)``.

    Parameters
    ----------
    output
        ``both``: slow then fast, 2048 + 256; ``slow`` or ``fast``: that pathway alone, built from what it depends on (the
        fast one hears nothing from the slow one)
    """

    def __init__(self, output: Literal["both", "slow", "fast"] = "both") -> None:
        super().__init__()
        self.output = output
        self.fast = fast_pathway("4" if output == "slow" else "5")
        if output != "fast":
            self.slow = slow_pathway({"2": 16, "3": 64, "4": 128, "5": 256})
            self.fuse = nn.ModuleDict(
                {"1": FastToSlow(8), "2": FastToSlow(32), "3": FastToSlow(64), "4": FastToSlow(128)}
            )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        slow, fast = split(frames)
        fast = self.fast.stem(fast)
        if self.output == "fast":
            for blocks in self.fast.res.values():
                fast = blocks(fast)
            return pooled(fast)
        slow = self.slow.stem(slow)
        for stage, fuse in zip(self.slow.res, self.fuse.values(), strict=True):
            slow = self.slow.res[stage](torch.cat([slow, fuse(fast)], dim=1))
            if stage in self.fast.res:
                fast = self.fast.res[stage](fast)
        return pooled(slow) if self.output == "slow" else torch.cat([pooled(slow), pooled(fast)], dim=1)
