"""What `extract verify` has to say of one place in a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["damage", "index", "suspect", "leftover", "old", "note"]
BAD: tuple[Level, ...] = ("damage", "index")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, or that one should know.

    Parameters
    ----------
    part
        file name, in ``parts/`` or in the store's own folder
    key, clip
        where in it; empty where that cannot be said
    problem
        for a person
    level
        ``damage``: something is wrong or lost; ``index``: the index file is, which is only a cache; ``suspect``: nothing
        contradicts itself, but it looks wrong; ``leftover``: of a command that was killed, the next one tidies it up;
        ``old``: written by an older version; ``note``: good to know
    """

    part: str
    key: str
    clip: str
    problem: str
    level: Level = "damage"

    @property
    def bad(self) -> bool:
        """Whether the store cannot be trusted as it is."""
        return self.level in BAD
