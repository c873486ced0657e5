"""Rows of two stores that contradict each other: which they are, and how far they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.store.index import Index
from extract.store.layout import ROW_SETS
from extract.store.operations.overlap import Clash
from extract.store.store import Store


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two stores hold different rows of one clip.

    Parameters
    ----------
    clip_id, key
        whose rows
    parts
        where they lie
    rows
        how many each has
    most, least
        largest absolute difference of two numbers, and least cosine of two rows; None where they have different shapes, or
        no row has a direction
    differs
        what is not the same: ``data``, ``window_ns``, ``valid``, ``source_ns``
    """

    clip_id: str
    key: str
    parts: tuple[Path, Path]
    rows: tuple[int, int]
    most: float | None
    least: float | None
    differs: tuple[str, ...]


def conflicts(stores: Sequence[Store], indices: Sequence[Index], clashes: Sequence[Clash]) -> Iterator[Conflict]:
    """Read the rows that contradict each other, one pair at a time, and say how far they differ."""
    for clash in clashes:
        pairs = zip(clash.store, clash.entry, clash.other_store, clash.other_entry, strict=True)
        for a, i, b, j in (map(int, pair) for pair in pairs):
            columns = indices[a].columns[clash.key], indices[b].columns[clash.key]
            clip_id = indices[a].ids[columns[0].clip[i]].decode()
            one, other = stores[a].rows(clip_id, clash.key), stores[b].rows(clip_id, clash.key)
            most = least = None
            if one.data.shape == other.data.shape:
                x, y = (each.data.reshape(len(each.data), -1).astype(np.float64) for each in (one, other))
                most = float(np.abs(x - y).max(initial=0.0))
                norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
                cosines = np.einsum("ij,ij->i", x, y)[norms > 0] / norms[norms > 0]
                least = float(cosines.min()) if len(cosines) else None
            yield Conflict(
                clip_id,
                clash.key,
                (_path(stores[a], indices[a], columns[0].part[i]), _path(stores[b], indices[b], columns[1].part[j])),
                (len(one.data), len(other.data)),
                most,
                least,
                tuple(name for name in ROW_SETS if not np.array_equal(getattr(one, name), getattr(other, name))),
            )


def _path(store: Store, index: Index, part: int) -> Path:
    return store.path / "parts" / index.parts[part].name
