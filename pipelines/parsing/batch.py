"""What a training step is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

SLOTS = ("audio", "visual", "clip")
"""Places for features: what is heard, what is seen frame by frame, and what is seen in motion (optional)."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B clips of T seconds.

    Parameters
    ----------
    rows
        (B,) int64: their numbers in the split
    features
        by slot, (B, T, *dims): one row per second
    weak
        (B, C) float32, multi-hot: the labels of the clip
    event
        (B, T) int64: the class of each second, for AVE; None for AVVP
    """

    rows: Tensor
    features: Mapping[str, Tensor]
    weak: Tensor
    event: Tensor | None = None
