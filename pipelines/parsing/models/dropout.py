"""Dropout that is quick on a CPU."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 2**16


def drop(values: Tensor, share: float, training: bool) -> Tensor:
    """``F.dropout``: in training, a random `share` of the numbers become 0 and the others grow by 1 / (1 - share).

    On the CPU 16 random bits decide on each number, so `share` is taken to the nearest 1/65536 (0.1 as 0.100006) and the
    growth is of that. torch draws a double for each number there, one after another on one core: four times as long.

    Parameters
    ----------
    values
        of any shape
    share
        0 <= share < 1
    training
        False: `values` as they are
    """
    dropped = round(share * _STEPS)
    if not training or values.device.type != "cpu" or not 0 < dropped < _STEPS:
        return F.dropout(values, share, training)
    count = values.numel()
    drawn = torch.empty(math.ceil(count / 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    kept = (drawn >= dropped - _STEPS // 2).view(values.shape)
    return values * kept.to(values.dtype).mul_(_STEPS / (_STEPS - dropped))
