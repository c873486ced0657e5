"""Which backbones work together: one per slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from extract.errors import PlanError

SLOTS = ("audio", "visual", "clip")


@dataclass(frozen=True, slots=True, order=True)
class Collocation:
    """A backbone for each slot, by the names they have in a search.

    Parameters
    ----------
    audio, visual
        of the two slots that every parser has
    clip
        of the clip-level slot; empty where there is none
    """

    audio: str
    visual: str
    clip: str = ""

    @property
    def name(self) -> str:
        """Such as ``vggish+resnet152``."""
        return "+".join(self.slots.values())

    @property
    def slots(self) -> dict[str, str]:
        """Backbone by slot, those that are there."""
        return {slot: getattr(self, slot) for slot in SLOTS if getattr(self, slot)}


@dataclass(frozen=True, slots=True, order=True)
class Trial:
    """A collocation to be trained with a seed."""

    collocation: Collocation
    seed: int

    @property
    def name(self) -> str:
        """Such as ``vggish+resnet152 seed 0``."""
        return f"{self.collocation.name} seed {self.seed}"


def every(slots: Mapping[str, Sequence[str]]) -> tuple[Collocation, ...]:
    """All collocations of some backbones, the last slot changing first.

    Parameters
    ----------
    slots
        backbones by slot; ``clip`` may be missing or empty

    Raises
    ------
    PlanError
        a slot has no backbones, or one twice, or two collocations would have one name
    """
    for slot in SLOTS[:2]:
        if not slots.get(slot):
            raise PlanError(f"no backbone is left for the slot {slot}; give at least one with --{slot}")
    for slot, names in slots.items():
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise PlanError(f"--{slot} names {twice[0]} twice; name every backbone once")
    found = tuple(Collocation(*each) for each in product(slots["audio"], slots["visual"], slots.get("clip") or ("",)))
    if same := [name for name, count in Counter(each.name for each in found).items() if count > 1]:
        raise PlanError(f"{same[0]} is the name of two collocations, for backbones have a + in theirs; rename these")
    return found


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """What keys of a store are called in a search: their backbone, where that is enough to tell them apart.

    Returns
    -------
    dict
        key by short name, in the order given
    """
    count = Counter(key.partition("@")[0] for key in dict.fromkeys(keys))
    return {key.partition("@")[0] if count[key.partition("@")[0]] == 1 else key: key for key in dict.fromkeys(keys)}
