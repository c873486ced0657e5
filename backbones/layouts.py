"""The serialisations that one network's weights are found in, told apart by a key that only one of them has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backbones.spec import State
from backbones.state import some
from extract.errors import LayoutMismatch


@dataclass(frozen=True, slots=True)
class Layout:
    """One serialisation.

    Parameters
    ----------
    name
        as its users call it
    mark
        a key that files of this layout have and files of the others do not
    convert
        gives the state dict of our module
    """

    name: str
    mark: str
    convert: Callable[[State], State]


def by_layout(state: State, layouts: tuple[Layout, ...]) -> State:
    """Convert `state` from whichever of `layouts` it is in.

    Raises
    ------
    LayoutMismatch
        it is in none of them; names them all and the first keys found instead
    """
    for layout in layouts:
        if layout.mark in state:
            return layout.convert(state)
    expected = " or ".join(f"{layout.name} (with the key {layout.mark})" for layout in layouts)
    raise LayoutMismatch(f"expected the layout of {expected}; the file's keys are {some(sorted(state)) or 'none'}")
