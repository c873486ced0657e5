"""The recipe of the goldens in tests/golden: weights that any machine can make again, from the keys and shapes alone.

Tests get this module by the fixture `golden_weights`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch


def unit(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 in [-1, 1): PCG64 seeded with the text's CRC, 53 bits of each word."""
    raw = np.random.PCG64(zlib.crc32(text.encode())).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0).reshape(shape)


def torch_state(
    namespace: str, shapes: Mapping[str, tuple[int, ...]], scales: Mapping[str, float] | None = None
) -> dict[str, torch.Tensor]:
    """A state dict of a network in torch's layout (kernels are out, in, height, width); counters are left out.

    `scales` names the keys whose values are multiplied: 0.25 for the normalisations that close residual branches.
    """
    state = {}
    for key, shape in shapes.items():
        leaf = key.rpartition(".")[2]
        if leaf == "num_batches_tracked":
            continue
        drawn = unit(f"{namespace}/{key}", shape)
        if leaf == "weight" and len(shape) > 1:
            drawn *= np.sqrt(3.0 * 2.0 / np.prod(shape[1:]))
        elif leaf in ("weight", "running_var"):
            drawn = 1 + 0.2 * drawn
        else:
            drawn *= 0.1
        state[key] = torch.from_numpy((drawn * (scales or {}).get(key, 1.0)).astype(np.float32))
    return state
