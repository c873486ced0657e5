"""CLIP's image tower (Radford et al. 2021) up to the space that images and texts share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

ROW_BLOCK = 8


class ImageTower(nn.Module):
    """One frame per window to an embedding: ``(n, 1, 3, 224, 224) -> (n, dims)``.

    Parameters
    ----------
    net
        vision transformer that ends in the normalised class token, ``(n, 3, 224, 224) -> (n, width)``
    width, dims
        values of that token and of the embedding; the projection between them has no bias
    unit
        divide every embedding by its Euclidean norm
    """

    def __init__(self, net: nn.Module, width: int, dims: int, unit: bool) -> None:
        super().__init__()
        self.net = net
        self.projection = nn.Linear(width, dims, bias=False)
        self.unit = unit

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        tokens = self.net(frames.squeeze(1))
        # MKL multiplies the rows left over from its blocks in another order: fill up, or a row's bits depend on its place
        rows = len(tokens)
        embedding: torch.Tensor = self.projection(functional.pad(tokens, (0, 0, 0, -rows % ROW_BLOCK)))[:rows]
        return embedding / embedding.norm(dim=-1, keepdim=True) if self.unit else embedding
