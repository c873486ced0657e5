"""Weights and inputs from a formula, so that a golden of a network needs no weight file.

The protocol of ``model_forward_golden.npz`` (spec §6), stated again: the number at place i of parameter n is
``s * sin(0.7 * i + sum(ord(c) for c in n))``, with s = 1 / sqrt(last dimension) from two dimensions up and 0.1 for one;
a one-dimensional weight with "norm" in its name has 1 added. Computed in float64, then cast.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def formula_array(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """What the parameter `name` of `shape` holds."""
    place = np.arange(int(np.prod(shape)), dtype=np.float64)
    scale = 1 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1
    values = scale * np.sin(0.7 * place + sum(map(ord, name)))
    if len(shape) == 1 and fnmatchcase(name, "*norm*.weight"):
        values += 1
    return values.reshape(shape).astype(np.float32)


def fill(module: nn.Module) -> nn.Module:
    """Fill every parameter of `module` by the formula, in place, and put it into eval mode; returns it."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(formula_array(name, tuple(parameter.shape))))
    return module.eval()


def formula_input(k: int, *shape: int) -> Tensor:
    """``|sin(0.37 * i + k)|``: k is 1 for HAN's audio, 2 visual, 3 clip; 4 for AVE's audio, 5 visual."""
    place = np.arange(int(np.prod(shape)), dtype=np.float64)
    return torch.from_numpy(np.abs(np.sin(0.37 * place + k)).reshape(shape).astype(np.float32))
