"""VGG-19 (Simonyan & Zisserman 2015) without its classifier: the second fully connected layer, or the maps of the last pooling.

The layers are torchvision's.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import VGG

ROW_BLOCK = 8


class Fc7(nn.Module):
    """Frames to the 4096 values after the ReLU of the second fully connected layer: ``(n, 1, 3, h, w) -> (n, 4096)``."""

    def __init__(self, net: VGG) -> None:
        super().__init__()
        self.features = net.features
        self.avgpool = net.avgpool
        self.classifier = net.classifier[:5]

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        flat = self.avgpool(self.features(frames.squeeze(1))).flatten(1)
        # MKL multiplies the rows left over from its blocks in another order: fill up, or a row's bits depend on its place
        rows = len(flat)
        out: torch.Tensor = self.classifier(functional.pad(flat, (0, 0, 0, -rows % ROW_BLOCK)))[:rows]
        return out


class Pool5(nn.Module):
    """Frames to the maps of the last pooling, averaged over the frames of a window: ``(n, t, 3, 224, 224) -> (n, 7, 7, 512)``.

    Parameters
    ----------
    net
        whose convolutions are used
    bgr
        whether they take blue first, as those trained with Caffe do; the frames are red first in any case
    """

    def __init__(self, net: VGG, bgr: bool = False) -> None:
        super().__init__()
        self.features = net.features
        self.bgr = bgr

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        if self.bgr:
            frames = frames.flip(2)
        maps: torch.Tensor = self.features(frames.flatten(0, 1))
        return maps.reshape(*frames.shape[:2], *maps.shape[1:]).mean(1).permute(0, 2, 3, 1)
