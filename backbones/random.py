"""Random weights that are the same on every machine, with every torch, for ever: ``--weights random:SEED``.

For demos, tests and timing: rows made with them say nothing about a clip. They are drawn from numpy's PCG64 raw stream
(which numpy keeps stable, NEP 19), one stream per parameter, keyed by the seed and the parameter's name, so that the
variants of one network (``vggish``, ``vggish_preact``) share theirs. Scales keep activations in range through 152
layers: variance 2 / fan_in (He et al. 2015), BatchNorm near the identity, the last BatchNorm of each residual
branch at a quarter.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

RESIDUAL_SCALE = 0.25


def values(seed: int, key: str, count: int) -> NDArray[np.float32]:
    """So many float32 in [-1, 1], a pure function of `seed` and `key`: 32 bits of the stream each, low half first."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    raw = np.random.PCG64(int.from_bytes(digest, "little")).random_raw((count + 1) // 2)
    integers: NDArray[np.int32] = np.asarray(raw, dtype="<u8").view("<i4")[:count]
    return integers.astype(np.float32) * np.float32(2.0**-31)


def fill(module: torch.nn.Module, seed: int) -> None:
    """Set every floating-point parameter and buffer of `module` that its state dict names; counters stay as built."""
    import torch

    closing = _closing_norms(module)
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if not tensor.is_floating_point() or tensor.ndim == 0:
                continue
            drawn = values(seed, key, tensor.numel())
            leaf = key.rpartition(".")[2]
            if tensor.ndim >= 2:
                drawn *= np.float32(math.sqrt(3.0 * 2.0 / math.prod(tensor.shape[1:])))
            elif leaf in ("weight", "running_var"):
                drawn *= np.float32(0.2)
                drawn += np.float32(1.0)
                if key in closing:
                    drawn *= np.float32(RESIDUAL_SCALE)
            else:
                drawn *= np.float32(0.1)
            tensor.copy_(torch.from_numpy(drawn).reshape(tensor.shape))


def _closing_norms(module: torch.nn.Module) -> set[str]:
    """Keys of the weights of the BatchNorms that close the branches of residual blocks.

    A block names them in an attribute ``closing``; where a block has a ``downsample``, it is the last one of its branch.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    keys: set[str] = set()
    for name, block in module.named_modules():
        keys.update(f"{name}.{norm}.weight".removeprefix(".") for norm in getattr(block, "closing", ()))
        if not hasattr(block, "downsample"):
            continue
        norms = [
            inner
            for inner, part in block.named_modules()
            if isinstance(part, _BatchNorm) and not inner.startswith("downsample")
        ]
        if norms:
            keys.add(f"{name}.{norms[-1]}.weight".removeprefix("."))
    return keys


@contextlib.contextmanager
def skip_initialisation() -> Iterator[None]:
    """Build networks without drawing their initial values, which are overwritten anyway: seconds for large ones.

    torch's global generator is not touched either. What is filled with constants still is.
    """
    import torch
    from torch.nn import init
    from torch.overrides import TorchFunctionMode

    # some functions of torch.nn.init come here whole, the others by the in-place draw they end in
    draws = {torch.Tensor.normal_, torch.Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_uniform_}

    class SkipDraws(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in draws:
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with SkipDraws():
        yield
