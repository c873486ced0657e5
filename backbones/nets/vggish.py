"""VGGish (Hershey et al. 2017, "CNN Architectures for Large-Scale Audio Classification"), with its three outputs.

The layers are those of the TF-slim release (tensorflow/models, research/audioset/vggish); the names of the parameters are
those of torchvggish.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

CONVOLUTIONS = ((64,), (128,), (256, 256), (512, 512))
FRAMES, BANDS, EMBEDDING = 96, 64, 128
CLIP, LEVELS = 2.0, 255.0
ROW_BLOCK = 8


class VGGish(nn.Module):
    """Log-mel examples to embeddings: ``(n, 96, 64) -> (n, 128)``.

    Parameters
    ----------
    output
        ``relu``: the embedding layer after its ReLU, as in the release before August 2020, torchvggish, torchaudio, and the
        LLP and AVE features; ``preact``: before it, as released since; ``pca8``: that, whitened and quantised as in AudioSet's
        released embeddings, whole numbers in [0, 255]
    rounding
        of ``pca8``: ``truncate`` (the TF release) or ``nearest`` (torchvggish)
    """

    def __init__(
        self, output: Literal["relu", "preact", "pca8"] = "relu", rounding: Literal["truncate", "nearest"] = "truncate"
    ) -> None:
        super().__init__()
        self.output = output
        self.rounding = rounding
        layers: list[nn.Module] = []
        channels = 1
        for stage in CONVOLUTIONS:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        flat = channels * (FRAMES // 16) * (BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, EMBEDDING),
        )
        if output == "pca8":
            # float64 as published: in float32 a value on the edge of a level can fall to the other side
            self.register_buffer("pca_eigen_vectors", torch.zeros(EMBEDDING, EMBEDDING, dtype=torch.float64))
            self.register_buffer("pca_means", torch.zeros(EMBEDDING, dtype=torch.float64))

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        maps = self.features(log_mel.unsqueeze(1))
        # the fully connected layers were trained on [time][band][channel]
        flat = maps.permute(0, 2, 3, 1).flatten(1)
        # MKL multiplies the rows left over from its blocks of four in another order: fill up, or a row's bits depend on its place
        rows = len(flat)
        embedding: torch.Tensor = self.embeddings(functional.pad(flat, (0, 0, 0, -rows % ROW_BLOCK)))[:rows]
        if self.output == "preact":
            return embedding
        if self.output == "relu":
            return embedding.relu()
        return quantise(self.whiten(embedding), self.rounding)

    def whiten(self, embedding: torch.Tensor) -> torch.Tensor:
        """Project embeddings onto the whitened principal components, ``(n, 128) -> (n, 128)`` float64."""
        matrix, means = self.get_buffer("pca_eigen_vectors"), self.get_buffer("pca_means")
        return (embedding.to(matrix.dtype) - means) @ matrix.T


def quantise(whitened: torch.Tensor, rounding: Literal["truncate", "nearest"]) -> torch.Tensor:
    """Clip to [-2, 2] and spread over the whole numbers 0 to 255, returned as float32."""
    levels = (whitened.clamp(-CLIP, CLIP) + CLIP) * (LEVELS / (2 * CLIP))
    return (levels.trunc() if rounding == "truncate" else levels.round()).float()
