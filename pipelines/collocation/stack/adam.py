"""Adam over stacked weights: a rate for each parser, and parsers that leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")


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
        held = self.held()
        some.hold(
            {name: [held[name][i][each] for i, each in zip(left, at, strict=True)] for name in held}, self.steps()
        )
        return some

    def held(self) -> dict[str, list[Tensor]]:
        """Weights and moments, one tensor of each for each leaf; moments are zeros before the first step."""
        state = self._adam.state
        found: dict[str, list[Tensor]] = {WEIGHT: [leaf.detach() for leaf in self.leaves]}
        for name in MOMENTS:
            parts = [[state[part].get(name, torch.zeros_like(part)) for _, part in runs] for runs in self._runs]
            found[name] = [torch.cat(each) for each in parts]
        return found

    def steps(self) -> Tensor:
        """How many were made, a number as torch's Adam holds it."""
        _, part = self._runs[0][0]
        made: Tensor = self._adam.state[part].get("step", torch.zeros((), device=part.device))
        return made

    def hold(self, held: Mapping[str, Sequence[Tensor]], steps: Tensor) -> None:
        """Go on from what :meth:`held` and :meth:`steps` gave; the moments are taken over, not copied."""
        for i, (leaf, runs) in enumerate(zip(self.leaves, self._runs, strict=True)):
            leaf.detach().copy_(held[WEIGHT][i])
            for run, part in runs:
                moments = {name: held[name][i][run].to(part) for name in MOMENTS}
                # each part counts its own steps, in place
                self._adam.state[part] = {"step": steps.to(part.device, copy=True)} | moments


def _runs(rates: Sequence[float]) -> list[slice]:
    """Stretches of equal rates."""
    runs, start = [], 0
    for _, same in groupby(rates):
        stop = start + len(list(same))
        runs.append(slice(start, stop))
        start = stop
    return runs
