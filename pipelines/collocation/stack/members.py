"""The members of a stack: what they read, what they have in common, and their first weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from extract.errors import PlanError, nearest
from pipelines.parsing.config import Config
from pipelines.parsing.models.han import HAN

FIRST = {"audio": "fc_a", "visual": "fc_v", "clip": "fc_st"}
"""HAN's first layer by slot: the only weights whose shape depends on the feature."""


@dataclass(frozen=True, slots=True)
class Member:
    """One parser of a stack.

    Parameters
    ----------
    name
        its own, in this stack
    slots
        the feature's name for ``audio``, ``visual`` and, where there is one, ``clip``
    seed
        of its first weights, its order of clips and its dropout
    lr
        Adam's rate
    """

    name: str
    slots: Mapping[str, str]
    seed: int
    lr: float


@dataclass(frozen=True, slots=True)
class Reading:
    """Members, by number, whose slot reads one feature in one order: their first layers are one product."""

    slot: str
    feature: str
    seed: int
    members: tuple[int, ...]

    def rows(self, kept: Sequence[int]) -> list[int]:
        """Which of these members are kept, as places in `members`."""
        return [i for i, number in enumerate(self.members) if number in kept]

    def among(self, kept: Sequence[int]) -> Reading:
        """The same for the members that are kept, by their new numbers."""
        return Reading(self.slot, self.feature, self.seed, tuple(kept.index(self.members[i]) for i in self.rows(kept)))


def readings(members: Sequence[Member]) -> list[Reading]:
    """All of a stack, slot by slot."""
    found: dict[tuple[str, str, int], list[int]] = {}
    for slot in FIRST:
        for number, member in enumerate(members):
            if slot in member.slots:
                found.setdefault((slot, member.slots[slot], member.seed), []).append(number)
    return [Reading(*key, tuple(numbers)) for key, numbers in found.items()]


def first_weights(member: Member, features: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Those that :func:`pipelines.parsing.networks.build` makes for the same seed; torch's own generator stays as it is.

    Parameters
    ----------
    member
        of the stack
    features
        (N, T, d) by name; weights get their precision and device
    options
        of HAN, without the sizes of the features
    """
    sizes: dict[str, Any] = {slot: features[name].shape[2] for slot, name in member.slots.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(member.seed)
        network = HAN(**{"clip": None} | sizes, **options)
    return network.to(features[member.slots["audio"]]).state_dict()


def order(seed: int, batch: int) -> Config:
    """What :func:`pipelines.parsing.train.shuffled` reads of a configuration."""
    return Config("avvp", "han", audio="", visual="", seed=seed, batch=batch)


def check_members(members: Sequence[Member], features: Mapping[str, Tensor]) -> None:
    """Whether members can be a stack.

    Raises
    ------
    PlanError
        no members, two of one name, slots that HAN does not have or that differ, or a rate that is not above 0
    UnknownName
        a member reads a feature that is not there
    """
    if not members:
        raise PlanError("a stack of no members was asked for; give at least one")
    names = [member.name for member in members]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PlanError(f"two members of a stack are called {twice[0]!r}; give each a name of its own")
    for member in members:
        if set(member.slots) not in ({"audio", "visual"}, set(FIRST)):
            raise PlanError(
                f"member {member.name!r} has the slots {', '.join(member.slots) or 'none'}; a parser has audio and visual, and "
                "clip where there is a third feature"
            )
        if set(member.slots) != set(members[0].slots):
            raise PlanError(
                f"member {member.name!r} has the slots {', '.join(member.slots)} and {members[0].name!r} has "
                f"{', '.join(members[0].slots)}; a stack holds parsers of equal slots: make two stacks"
            )
        if not member.lr > 0:
            raise PlanError(f"lr must be above 0, got {member.lr} for member {member.name!r}")
        for name in member.slots.values():
            if name not in features:
                raise nearest(name, list(features), "feature")


def check_labels(features: Mapping[str, Tensor], weak: Tensor) -> None:
    """Whether features fit each other, and labels of clips fit them; raises as :func:`check_features`."""
    check_features(features)
    clips = len(next(iter(features.values())))
    if weak.ndim != 2 or len(weak) != clips:
        raise PlanError(
            f"labels have the shape {tuple(weak.shape)}; features of {clips} clips need ({clips}, classes): one row per clip"
        )


def check_given(given: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the features `given` that a stack reads, if it can read them.

    Raises
    ------
    UnknownName
        one is missing
    PlanError
        one has another number of numbers than in training, or :func:`check_features`
    """
    for name, data in trained.items():
        if name not in given:
            raise nearest(name, list(given), "feature")
        if given[name].shape[-1] != data.shape[-1]:
            raise PlanError(
                f"feature {name!r} has {given[name].shape[-1]} numbers per second, and the stack was trained on "
                f"{data.shape[-1]}; give the feature that it was trained on"
            )
    wanted = {name: given[name] for name in trained}
    check_features(wanted)
    return wanted


def check_features(features: Mapping[str, Tensor]) -> None:
    """Whether features are of the same clips and seconds, in one precision.

    Raises
    ------
    PlanError
        they are not
    """
    first, *_ = features
    for name, data in features.items():
        if data.ndim != 3:
            raise PlanError(
                f"feature {name!r} has the shape {tuple(data.shape)}; a stack reads (clips, seconds, numbers)"
            )
        if data.dtype not in (torch.float32, torch.float64) or data.dtype != features[first].dtype:
            raise PlanError(
                f"feature {name!r} is {data.dtype} and {first!r} is {features[first].dtype}; all must be torch.float32, or all "
                "torch.float64"
            )
        if data.shape[:2] != features[first].shape[:2]:
            raise PlanError(
                f"feature {name!r} has {data.shape[0]} clips of {data.shape[1]} seconds and {first!r} has "
                f"{features[first].shape[0]} of {features[first].shape[1]}; take the clips that all features have"
            )
