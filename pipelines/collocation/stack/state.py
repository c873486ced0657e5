"""What a stack is made of, parser by parser: to begin it, to give one parser away, to save it and to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from extract.errors import PlanError
from pipelines.collocation.stack.layers import turned
from pipelines.collocation.stack.members import FIRST, Member, Reading

STEP = "step"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One of HAN's parameters, for the members, by number, that are the rows of one tensor."""

    name: str
    members: tuple[int, ...]

    @property
    def first(self) -> bool:
        """Whether it is of a first layer, which lies as in nn.Linear."""
        return self.name.partition(".")[0] in FIRST.values()

    def laid(self, weight: Tensor) -> Tensor:
        """One member's parameter as it lies in the stack, out of HAN's, and back."""
        return weight if self.first else turned(weight)

    def rows(self, kept: Sequence[int]) -> list[int]:
        """Which rows are of these members."""
        return [row for row, number in enumerate(self.members) if number in kept]


def leaves_of(readings: Sequence[Reading], names: Sequence[str], count: int) -> list[Leaf]:
    """All of a stack of `count` members: weight and bias of each reading, then what all members have.

    Parameters
    ----------
    readings
        of the members
    names
        of HAN's parameters
    count
        of members
    """
    first = [Leaf(f"{FIRST[each.slot]}.{kind}", each.members) for each in readings for kind in ("weight", "bias")]
    every = [Leaf(name, tuple(range(count))) for name in names]
    return first + [leaf for leaf in every if not leaf.first]


def saved(
    held: Mapping[str, Sequence[Tensor]], step: Tensor, leaves: Sequence[Leaf], members: Sequence[Member]
) -> dict[str, Tensor]:
    """A stack as tensors of its members: copies on the CPU, named ``weight.MEMBER.PARAMETER``, and ``step``.

    Parameters
    ----------
    held
        weights and moments, each a tensor for each of `leaves`
    step
        how many were made
    leaves
        whose rows are whose
    members
        of the stack
    """
    return {name: row.to("cpu", copy=True) for name, row in (_by_name(held, leaves, members) | {STEP: step}).items()}


def restored(
    tensors: Mapping[str, Tensor],
    held: Mapping[str, Sequence[Tensor]],
    step: Tensor,
    leaves: Sequence[Leaf],
    members: Sequence[Member],
) -> tuple[dict[str, list[Tensor]], Tensor]:
    """The reverse of :func:`saved`: what a stack that now holds `held` is to hold, and the step.

    Raises
    ------
    PlanError
        `tensors` are not of these members, or of other shapes or precision
    """
    wanted = _by_name(held, leaves, members) | {STEP: step}
    lacks, more = list(wanted.keys() - tensors.keys()), list(tensors.keys() - wanted.keys())
    if lacks or more:
        raise PlanError(
            f"what was saved is of another stack: it lacks {_some(lacks)} and has {_some(more)} besides; train it again "
            "from the start"
        )
    for name, own in wanted.items():
        there = tensors[name]
        if (there.shape, there.dtype) != (own.shape, own.dtype):
            raise PlanError(
                f"what was saved is of another stack: {name} is {there.dtype} of the shape {tuple(there.shape)} there and "
                f"{own.dtype} of {tuple(own.shape)} here; train it again from the start"
            )
    told = {
        kind: [torch.stack([tensors[_name(kind, members[number], leaf)] for number in leaf.members]) for leaf in leaves]
        for kind in held
    }
    return told, tensors[STEP]


def _by_name(
    held: Mapping[str, Sequence[Tensor]], leaves: Sequence[Leaf], members: Sequence[Member]
) -> dict[str, Tensor]:
    return {
        _name(kind, members[number], leaf): row.detach()
        for kind, stacked in held.items()
        for leaf, rows in zip(leaves, stacked, strict=True)
        for number, row in zip(leaf.members, rows, strict=True)
    }


def _name(kind: str, member: Member, leaf: Leaf) -> str:
    return f"{kind}.{member.name}.{leaf.name}"


def _some(names: Sequence[str]) -> str:
    first = sorted(names, reverse=True)  # weights before moments
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(first[:2]) + more if names else "nothing"
