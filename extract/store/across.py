"""What the parts of a store say of each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from extract.errors import DamagedPart, StoreError
from extract.store.finding import Finding
from extract.store.index import Index, PartFile, empty, with_parts
from extract.store.reader import PartIndex, index_part, read_seal
from extract.store.rows import KeyInfo

_FEW = 50_000  # entries that are worth going through the whole index for


class Across:
    """Takes in the parts one by one; knows who has rows where.

    Attributes
    ----------
    index
        of all parts that were taken in, also where they contradict each other
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[KeyInfo, int, str]] = {}
        self._index = empty()
        self._waiting: list[tuple[PartFile, PartIndex]] = []
        self._entries = [0, 0]

    @property
    def index(self) -> Index:
        self._settle()
        return self._index

    def _settle(self) -> None:
        self._index = with_parts(self._index, self._waiting)
        self._entries = [sum(self._entries), 0]
        self._waiting = []

    def add(self, path: Path, *, sound: bool) -> Iterator[Finding]:
        """Take in a part; findings say where its keys are not what other parts have under these names.

        A part that no reader would index is left out. Why is said where nothing else is wrong with it (`sound`).
        """
        try:
            stat, part, seal = path.stat(), index_part(path), read_seal(path)
        except (DamagedPart, StoreError) as error:
            if sound:
                yield Finding(path.name, "", "", str(error))
            return
        name = path.name
        for key, entry in part.keys.items():
            info, sources, first = self._known.setdefault(key, (entry.info, entry.sources, name))
            if (info.dims, info.storage, sources) != (entry.info.dims, entry.info.storage, entry.sources):
                ours, theirs = _shape(entry.info, entry.sources), _shape(info, sources)
                yield Finding(name, key, "", f"its rows have {ours}, those in {first} {theirs}")
            elif info != entry.info:
                differ = [
                    each
                    for each in ("identity", "view", "weights", "licence")
                    if getattr(info, each) != getattr(entry.info, each)
                ]
                yield Finding(name, key, "", f"has another {' and '.join(differ)} than in {first}", "suspect")
        file = PartFile(name, stat.st_ino, stat.st_size, stat.st_mtime_ns, seal.sha256 if seal else "")
        self._waiting.append((file, part))
        self._entries[1] += sum(len(entry.clips) for entry in part.keys.values())
        if self._entries[1] > max(_FEW, self._entries[0]):  # twice as many each time: never quadratic
            self._settle()


def _shape(info: KeyInfo, sources: int) -> str:
    return f"shape {info.dims} of {info.storage} and {sources} source times"


def conflicts(index: Index) -> Iterator[Finding]:
    """Clips that have different rows in two parts."""
    for key, column in index.columns.items():
        again = np.flatnonzero(column.clip[1:] == column.clip[:-1])
        differ = again[(column.sha256[again] != column.sha256[again + 1]).any(axis=1)]
        for i in differ.tolist():
            clip = index.text(column.clip[i : i + 1])[0]
            old, new = (index.parts[column.part[j]].name for j in (i, i + 1))
            yield Finding(new, key, clip, f"its rows differ from those in {old}")
