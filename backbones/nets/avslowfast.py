"""AVSlowFast 4x16 with ResNet-50 pathways (Xiao et al. 2020, "Audiovisual SlowFast Networks for Video Recognition").

The layers are those of the author's code (facebookresearch/SlowFast, pull request 219, AVSLOWFAST_4x16_R50.yaml), whose
operations are the paper's to four digits: pathways are joined behind stages 3 and 4 only, and the first audio stage has no
stride. The heads and projections that only training uses are left out.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from backbones.nets.slowfast import BLOCKS, EXPANSION, FastToSlow, fast_pathway, pooled, slow_pathway, split

SPECTROGRAM_FRAMES = 128
MEAN, STD = -7.03, 4.66
FUSED = ("3", "4")


def resampled(log_mel: torch.Tensor) -> torch.Tensor:
    """``(n, f, 80)`` log-mel of any number of frames to the 128 that the network was trained on, standardised.

    Frames are taken as PySlowFast takes them, at linspace(0, f - 1, 128) cut to whole numbers; none is made up.
    """
    last = log_mel.shape[1] - 1
    index = [place * last // (SPECTROGRAM_FRAMES - 1) for place in range(SPECTROGRAM_FRAMES)]
    return (log_mel[:, index] - MEAN) / STD


class SplitBlock(nn.Module):
    """A residual bottleneck that looks along time and along frequency apart, then joins both."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out = inner * EXPANSION
        self.t = nn.Conv2d(channels, inner, (3, 1), stride=stride, padding=(1, 0), bias=False)
        self.t_bn = nn.BatchNorm2d(inner)
        self.f = nn.Conv2d(channels, inner, (1, 3), stride=stride, padding=(0, 1), bias=False)
        self.f_bn = nn.BatchNorm2d(inner)
        self.out = nn.Conv2d(2 * inner, out, 1, bias=False)
        self.out_bn = nn.BatchNorm2d(out)
        self.downsample = _shortcut(channels, out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        along_time = self.t_bn(self.t(x)).relu_()
        along_frequency = self.f_bn(self.f(x)).relu_()
        branch = self.out_bn(self.out(torch.cat([along_time, along_frequency], dim=1)))
        out: torch.Tensor = branch.add_(x if self.downsample is None else self.downsample(x)).relu_()
        return out


class SquareBlock(nn.Module):
    """A residual bottleneck: 1 x 1, 3 x 3, 1 x 1."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out = inner * EXPANSION
        self.a = nn.Conv2d(channels, inner, 1, bias=False)
        self.a_bn = nn.BatchNorm2d(inner)
        self.b = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.b_bn = nn.BatchNorm2d(inner)
        self.c = nn.Conv2d(inner, out, 1, bias=False)
        self.c_bn = nn.BatchNorm2d(out)
        self.downsample = _shortcut(channels, out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.a_bn(self.a(x)).relu_()
        branch = self.b_bn(self.b(branch)).relu_()
        branch = self.c_bn(self.c(branch))
        out: torch.Tensor = branch.add_(x if self.downsample is None else self.downsample(x)).relu_()
        return out


def _shortcut(channels: int, out: int, stride: int) -> nn.Module | None:
    if channels == out and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))


class AudioPathway(nn.Module):
    """The ResNet-50 on time x frequency, half as wide as the slow one, without pooling; `last` is the last stage built."""

    def __init__(self, last: str = "5") -> None:
        super().__init__()
        self.conv_t = nn.Conv2d(1, 32, (9, 1), padding=(4, 0), bias=False)
        self.conv_f = nn.Conv2d(1, 32, (1, 9), padding=(0, 4), bias=False)
        self.bn = nn.BatchNorm2d(32)
        self.res = nn.ModuleDict()
        channels, inner = 32, 32
        for stage, count in BLOCKS.items():
            if stage > last:
                break
            kind = SplitBlock if stage in {"2", "3"} else SquareBlock
            first = kind(channels, inner, 1 if stage == "2" else 2)
            channels = inner * EXPANSION
            self.res[stage] = nn.Sequential(first, *(kind(channels, inner, 1) for _ in range(count - 1)))
            inner *= 2

    def stem(self, log_mel: torch.Tensor) -> torch.Tensor:
        """``(n, f, 80) -> (n, 32, 128, 80)``."""
        x = resampled(log_mel).unsqueeze(1)
        out: torch.Tensor = self.bn(self.conv_t(x) + self.conv_f(x)).relu_()
        return out


class Listen(nn.Module):
    """What the audio pathway adds to the joined visual ones: its mean over frequency, at as many times as slow frames.

    Parameters
    ----------
    channels, out
        of the audio pathway and of the joined visual ones
    stride
        audio frames per slow frame
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv1d(channels, 64, 5, padding=2, bias=False)
        self.bn0 = nn.BatchNorm1d(64)
        self.conv1 = nn.Conv1d(64, out, 5, stride=stride, padding=2, bias=False)
        self.bn1 = nn.BatchNorm1d(out)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """``(n, channels, time, frequency) -> (n, out, slow frames, 1, 1)``."""
        x = self.bn0(self.conv0(audio.mean(3))).relu_()
        x = self.bn1(self.conv1(x)).relu_()
        out: torch.Tensor = x[..., None, None]
        return out


class AVSlowFast(nn.Module):
    """Frames and sound of one window to pooled features, ``(n, 32, 3, h, w), (n, f, 80) -> (n, 3328)``.

    Parameters
    ----------
    output
        ``all``: slow, fast and audio, 2048 + 256 + 1024; ``slow``: that pathway alone, built from what it depends on
    """

    def __init__(self, output: Literal["all", "slow"] = "all") -> None:
        super().__init__()
        self.output = output
        last = "5" if output == "all" else "4"
        self.slow = slow_pathway({"4": 128, "5": 256})
        self.fast = fast_pathway(last)
        self.audio = AudioPathway(last)
        self.fuse = nn.ModuleDict({"3": FastToSlow(64), "4": FastToSlow(128)})
        self.listen = nn.ModuleDict({"3": Listen(256, 640, 16), "4": Listen(512, 1280, 8)})

    def forward(self, frames: torch.Tensor, log_mel: torch.Tensor) -> torch.Tensor:
        slow, fast = split(frames)
        slow, fast, audio = self.slow.stem(slow), self.fast.stem(fast), self.audio.stem(log_mel)
        for stage in self.slow.res:
            slow = self.slow.res[stage](slow)
            if stage in self.fast.res:
                fast, audio = self.fast.res[stage](fast), self.audio.res[stage](audio)
            if stage in FUSED:
                slow = torch.cat([slow, self.fuse[stage](fast)], dim=1) + self.listen[stage](audio)
        if self.output == "slow":
            return pooled(slow)
        return torch.cat([pooled(slow), pooled(fast), audio.mean((2, 3))], dim=1)


class AudioOnly(nn.Module):
    """The audio pathway, which nothing else speaks to: ``(n, f, 80) -> (n, 1024)``."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = AudioPathway()

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        audio = self.audio.stem(log_mel)
        for blocks in self.audio.res.values():
            audio = blocks(audio)
        return audio.mean((2, 3))
