"""Batch normalisation folded into the convolution before it, where nothing else reads what the convolution gives.

In eval mode the two are one affine map: one pass over the activations less, for sums that agree to rounding. Which pairs there
are is not guessed from names: the network runs once on tensors without data, and every use of every convolution's output is
counted.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from backbones.spec import View

if TYPE_CHECKING:
    import torch
    from torch import nn

_log = logging.getLogger(__name__)


def fold(module: nn.Module, views: Sequence[View]) -> int:
    """Fold in place what can be folded; the arithmetic of folding is float64.

    Parameters
    ----------
    module
        in eval mode, with its final weights
    views
        what its forward takes

    Returns
    -------
    int
        how many normalisations are gone
    """
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    pairs = _pairs(module, views)
    for conv, norm in pairs:
        given = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        weight, bias, mean, var, scale, shift = (None if t is None else t.detach().double() for t in given)
        with torch.no_grad():
            fused = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, scale, shift)  # type: ignore[arg-type]
        conv.weight, conv.bias = (nn.Parameter(t.to(conv.weight.dtype), requires_grad=False) for t in fused)
    gone = {id(norm) for _, norm in pairs}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in gone:
                setattr(parent, name, nn.Identity())
    return len(pairs)


def _pairs(module: nn.Module, views: Sequence[View]) -> list[tuple[Any, Any]]:
    """Convolutions and normalisations that run once each, one straight after the other."""
    import torch
    from torch import nn

    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    names = {
        name: type(part) in norms
        for name, part in module.named_modules()
        if type(part) in convolutions or (type(part) in norms and part.track_running_stats)
    }
    if len(set(names.values())) < 2:
        return []
    ghost = _ghost(module)
    inputs: dict[str, list[torch.Tensor]] = {}
    outputs: dict[str, list[torch.Tensor]] = {}

    def watch(name: str) -> Any:
        def hook(part: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            inputs.setdefault(name, []).append(args[0])
            outputs.setdefault(name, []).append(out)

        return hook

    for name in names:
        ghost.get_submodule(name).register_forward_hook(watch(name))
    blank = [torch.empty((1, *view.input_shape), device="meta") for view in views]
    try:
        with torch.no_grad(), _uses() as uses:
            ghost(*blank)
    except (RuntimeError, NotImplementedError) as error:
        # a forward that looks at values (`if x.sum() > 0`) has none to look at; unfolded it gives the same rows, only slower
        _log.info("not folded: %s does not run without data (%s)", type(module).__name__, error)
        return []
    made_by = {id(out): name for name, outs in outputs.items() if not names[name] and len(outs) == 1 for out in outs}
    found = []
    for name, is_norm in names.items():
        taken = inputs.get(name, [])
        conv = made_by.get(id(taken[0])) if is_norm and len(taken) == 1 else None
        if conv is not None and uses.count[id(taken[0])] == 1:
            found.append((module.get_submodule(conv), module.get_submodule(name)))
    return found


def _ghost(module: nn.Module) -> nn.Module:
    """A copy of the network whose tensors have shapes and no data."""
    from torch import nn

    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(module, memo)


def _uses() -> Any:
    """A mode that counts, for every tensor, the functions that made another tensor of it."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._pytree import tree_leaves

    class Uses(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.count: Counter[int] = Counter()
            self._alive: list[Any] = []  # ids are only told apart while their tensors live

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(out)):
                self._alive.append(out)
                self.count.update({id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)})
            return out

    return Uses()
