"""Adam over stacked weights: a rate for each parser, and parsers that leave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")


class StackedAdam:
    """torch's Adam on tensors whose first axis is the parser.

    Adam works number by number, so rows of one rate are one tensor to it, and each row gets what it would get alone.

    Parameters
    ----------
    leaves
        weights, (G, ...) each
    rates
        of each leaf's rows, G numbers
    """

    def __init__(self, leaves: Sequence[Tensor], rates: Sequence[Sequence[float]]) -> None:
        self.leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        self._rates = [tuple(each) for each in rates]
        # views of the leaves, which share their memory: torch's optimizer takes one rate for a whole tensor
        self._runs = [
            [(run, leaf.detach()[run]) for run in _runs(each)] for leaf, each in zip(leaves, rates, strict=True)
        ]
        groups: dict[float, list[Tensor]] = {}
        for runs, each in zip(self._runs, self._rates, strict=True):
            for run, part in runs:
                groups.setdefault(each[run.start], []).append(part)
        self._adam = torch.optim.Adam(
            [{"params": parts, "lr": rate, "full_rate": rate} for rate, parts in groups.items()], fused=True
        )

    def step(self, factor: float) -> None:
        """Move the leaves by their gradients, at `factor` times their rates, and clear the gradients."""
        for leaf, runs in zip(self.leaves, self._runs, strict=True):
            assert leaf.grad is not None
            for run, part in runs:
                part.grad = leaf.grad[run]
        for group in self._adam.param_groups:
            group["lr"] = group["full_rate"] * factor
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        for leaf in self.leaves:
            leaf.grad = None

    def kept(self, rows: Sequence[Sequence[int]]) -> StackedAdam:
        """The same for some rows of each leaf, with their moments; a leaf of which none is kept is left out."""
        left = [i for i, each in enumerate(rows) if each]
        at = [list(rows[i]) for i in left]
        some = StackedAdam(
            [self.leaves[i].detach()[each] for i, each in zip(left, at, strict=True)],
            [[self._rates[i][row] for row in each] for i, each in zip(left, at, strict=True)],
        )
        state = self._adam.state
        for i, each, runs in zip(left, at, some._runs, strict=True):
            before = [state[part] for _, part in self._runs[i]]
            if not all(before):  # no step was made yet
                continue
            moments = {name: torch.cat([held[name] for held in before])[each] for name in MOMENTS}
            for run, part in runs:
                some._adam.state[part] = {name: moments[name][run] for name in MOMENTS} | {
                    "step": before[0]["step"].clone()
                }
        return some


def _runs(rates: Sequence[float]) -> list[slice]:
    """Stretches of equal rates."""
    runs, start = [], 0
    for _, same in groupby(rates):
        stop = start + len(list(same))
        runs.append(slice(start, stop))
        start = stop
    return runs
