"""What rewriting stores needs: which entries go into which part, what holds where parts overlap, rows as entries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.errors import DamagedPart
from extract.plan import canonical_json
from extract.store.index import Column, Index, Remarks
from extract.store.index import standing as numbers_standing
from extract.store.layout import Entry, row_digest, write_part
from extract.store.reader import index_part
from extract.store.rows import KeyInfo, Remark, Rows
from extract.store.store import Store

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Kind = Literal["failed", "masked"]


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What goes into one part: numbers into an index's columns, by key, and into its remarks, in the order of writing."""

    rows: Mapping[str, Numbers]
    failed: Numbers
    masked: Numbers

    @property
    def count(self) -> int:
        """Of rows, each clip and key once, and of remarks."""
        return sum(len(numbers) for numbers in self.rows.values()) + len(self.failed) + len(self.masked)


def entry(store: Store, index: Index, key: str, number: int) -> Entry:
    """One entry of a store's index as something to be written; the rows' checksum is compared when they are read.

    `index` is the store's as it was when the numbers were chosen: the store looks again where files have moved.
    """
    column = index.columns[key]
    clip_id, digest = index.ids[column.clip[number]].decode(), column.sha256[number].tobytes()
    name = index.parts[column.part[number]].name

    def load() -> Rows:
        rows = store.rows(clip_id, key)
        if row_digest(rows) != digest:  # or the damage would be sealed again under a fresh checksum
            raise DamagedPart(
                f"{store.path / 'parts' / name}: the rows of clip {clip_id!r}, {key}, do not match their checksum; delete "
                "the part and run again, its clips are computed anew"
            )
        return rows

    count, info = int(column.stop[number] - column.start[number]), column.info
    return Entry(clip_id, key, info.dims, count, column.sources, load, info.storage)


def remarks(index: Index, kind: Kind, numbers: Numbers) -> list[Remark]:
    """Remarks by number, in that order."""
    said: Remarks = getattr(index, kind)
    return [
        Remark(
            index.ids[said.clip[i]].decode(),
            index.words[said.key[i]],
            index.words[said.stage[i]],
            index.words[said.reason[i]],
            said.message(i),
        )
        for i in numbers.tolist()
    ]


def first_of(column: Column, rank: Numbers) -> Mask:
    """(N,) bool: of the entries of one clip, the one whose part has the lowest `rank` (parts,)."""
    order = np.lexsort((rank[column.part], column.clip))
    clip = column.clip[order]
    first = np.ones(len(order), bool)
    first[1:] = clip[1:] != clip[:-1]
    found = np.zeros(len(order), bool)
    found[order[first]] = True
    return found


def standing(store: Store) -> tuple[Mask, Mask]:
    """Which remarks of ``failed`` and ``masked`` hold: the newest of several, and no failure where there are rows.

    Only they are written to a new part: it would be the newest itself, and bring back what was said before.
    """
    masks = []
    kinds: tuple[Kind, ...] = ("failed", "masked")
    for kind in kinds:
        mask = np.zeros(len(getattr(store.index, kind).clip), bool)
        mask[numbers_standing(store.index, kind, store.columns)] = True
        masks.append(mask)
    return masks[0], masks[1]


def by_part(index: Index, rows: Mapping[str, Mask], failed: Mask, masked: Mask) -> list[Chosen]:
    """What was chosen, part by part, rows in the order in which they lie there."""
    count = len(index.parts)
    columns = {
        key: _grouped(index.columns[key].part, np.flatnonzero(mask), count, index.columns[key].start)
        for key, mask in sorted(rows.items())
    }
    said = [
        _grouped(each.part, np.flatnonzero(mask), count)
        for each, mask in ((index.failed, failed), (index.masked, masked))
    ]
    return [
        Chosen({key: found[i] for key, found in columns.items() if len(found[i])}, said[0][i], said[1][i])
        for i in range(count)
    ]


def _grouped(part: NDArray[np.int32], numbers: Numbers, count: int, then: Numbers | None = None) -> list[Numbers]:
    order = numbers[np.lexsort((*(() if then is None else (then[numbers],)), part[numbers]))]
    return np.split(order, np.searchsorted(part[order], np.arange(1, count)))


def places(index: Index, listed: Sequence[str]) -> Numbers:
    """(ids,) int64: where a manifest lists each clip; behind all others where it does not."""
    ranks = index.ranks(listed)
    found = np.full(len(index.ids), len(listed), np.int64)
    found[ranks[ranks >= 0]] = np.flatnonzero(ranks >= 0)
    return found


def everything(index: Index) -> dict[str, Mask]:
    """All rows of a store, also those that several parts hold."""
    return {key: np.ones(len(column.clip), bool) for key, column in index.columns.items()}


def sizes_bytes(column: Column) -> Numbers:
    """(N,) what each entry takes on disk, uncompressed; see :class:`extract.store.layout.Entry`."""
    row = np.dtype(column.info.storage).itemsize * int(np.prod(column.info.dims, dtype=np.int64))
    sizes: Numbers = (column.stop - column.start) * (row + 17 + 8 * column.sources) + 48
    return sizes


def write_chosen(
    path: Path,
    store: Store,
    index: Index,
    chosen: Chosen,
    provenance: str,
    compression: str,
    infos: Mapping[str, KeyInfo] | None = None,
) -> None:
    """Write and seal a part of what was chosen; `infos` replace those of the store. Raises what writing a part does."""
    write_part(
        path,
        {key: column.info for key, column in index.columns.items()} if infos is None else infos,
        [entry(store, index, key, number) for key, numbers in chosen.rows.items() for number in numbers.tolist()],
        remarks(index, "failed", chosen.failed),
        remarks(index, "masked", chosen.masked),
        provenance,
        compression,
    )


def content_name(operation: str, index: Index, chosen: Chosen) -> str:
    """``<operation>-<16 hex>.h5``: a part's name that says what it holds, and that no chunk of a run has."""
    total = hashlib.sha256()
    for key, numbers in chosen.rows.items():
        column = index.columns[key]
        total.update(key.encode() + b"\n")
        for clip_id, digest in zip(index.ids[column.clip[numbers]], column.sha256[numbers], strict=True):
            total.update(canonical_json([clip_id.decode(), digest.tobytes().hex()]).encode())
    said_of: tuple[tuple[Kind, Numbers], ...] = (("failed", chosen.failed), ("masked", chosen.masked))
    for kind, numbers in said_of:
        for each in remarks(index, kind, numbers):
            said = [kind, each.clip_id, each.key, each.stage, each.reason, each.message]
            total.update(canonical_json(said).encode())
    return f"{operation}-{total.hexdigest()[:16]}.h5"


def united(provenances: Iterable[str]) -> str:
    """What several parts were made with, each once."""
    every: set[str] = {canonical_json(each) for text in provenances for each in json.loads(text)}
    return f"[{','.join(sorted(every))}]"


def how_written(path: Path) -> tuple[str, str]:
    """Provenance and compression of a part."""
    part = index_part(path)
    return part.provenance, part.compression


def compressions(store: Store, index: Index) -> list[str]:
    """How each part is compressed; only those that are have to be opened for it."""
    packed = np.zeros(len(index.parts), bool)
    for column in index.columns.values():
        packed[column.part] |= column.offsets[column.part, 0] < 0
    return [
        how_written(store.path / "parts" / part.name)[1] if packed[i] else "none" for i, part in enumerate(index.parts)
    ]


def fingerprint(index: Index, rows: Mapping[str, Mask], failed: Mask, masked: Mask) -> str:
    """sha256 in hex of what was chosen of a store, however it is spread over parts."""
    total = hashlib.sha256()
    for key, mask in sorted(rows.items()):
        column = index.columns[key].take(mask)
        order = np.argsort(column.clip, kind="stable")
        total.update(canonical_json([key, column.info.identity, len(order)]).encode())
        total.update(b"\0".join(index.ids[column.clip[order]].tolist()))
        total.update(np.ascontiguousarray(column.sha256[order]).data)
    for said, mask in ((index.failed, failed), (index.masked, masked)):
        lines: list[Any] = [
            [
                index.ids[said.clip[i]].decode(),
                *(index.words[int(getattr(said, name)[i])] for name in ("key", "stage", "reason")),
                said.message(i),
            ]
            for i in np.flatnonzero(mask).tolist()
        ]
        total.update(canonical_json(sorted(lines)).encode())
    return total.hexdigest()
