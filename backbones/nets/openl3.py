"""The two halves of OpenL3 (Cramer et al. 2019, "Look, Listen, and Learn More"), with their max-pooled embeddings.

Layers as in openl3 0.4.2 (marl/openl3, openl3/models.py). Eight normalisations and eight convolutions take turns in its weight
files, and have the same places in the two lists here.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
POOLED = frozenset({1, 3, 5})
EPS = 1e-3  # Keras's default


class Trunk(nn.Module):
    """Eight convolutions and the pooling at their end: ``(n, channels, h, w) -> (n, size)``.

    Parameters
    ----------
    channels
        of the input
    pool
        height and width over which the last maps are max-pooled
    relu_first
        the convolution whose ReLU comes before its normalisation; None: there is none
    """

    def __init__(self, channels: int, pool: tuple[int, int], relu_first: int | None = None) -> None:
        super().__init__()
        before = (channels, *WIDTHS[:-1])
        self.pool = pool
        self.relu_first = relu_first
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=EPS) for width in before)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(before, WIDTHS, strict=True))

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """The embedding layer before its pooling, ``(n, 512, h / 8, w / 8)``."""
        out: torch.Tensor = self.convs[0](self.norms[0](x))
        for place in range(len(WIDTHS) - 1):
            norm = self.norms[place + 1]
            out = norm(out.relu_()) if place == self.relu_first else norm(out).relu_()
            if place in POOLED:
                out = functional.max_pool2d(out, 2)
            out = self.convs[place + 1](out)
        return out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.max_pool2d(self.maps(x), self.pool)
        # Keras keeps channels last, and flattens so
        return pooled.permute(0, 2, 3, 1).flatten(1)


class Audio(Trunk):
    """Spectrograms in decibels to embeddings: ``(n, frames, bands) -> (n, size)``."""

    def __init__(self, pool: tuple[int, int]) -> None:
        super().__init__(1, pool)

    def forward(self, decibels: torch.Tensor) -> torch.Tensor:
        # trained on [frequency][time]
        return super().forward(decibels.transpose(1, 2).unsqueeze(1))


class Image(Trunk):
    """The single frame of a window to an embedding: ``(n, 1, 3, 224, 224) -> (n, size)``."""

    def __init__(self, pool: tuple[int, int]) -> None:
        # in the release's first block of the image network, and only there, the second ReLU comes before its normalisation
        super().__init__(3, pool, relu_first=1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return super().forward(frames.squeeze(1))
