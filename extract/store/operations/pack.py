"""Many small parts become few large ones, in place, with equal rows.

Parts are packed as wholes, so that their files can go as soon as the packed part is durable: a store never needs more
extra space than one packed part. Pieces of chunks that are under way stay for the run that finishes those chunks. A
packed part is no chunk of any run; later runs write their own parts beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.errors import PlanError, StoreError
from extract.store.catalog import save_index
from extract.store.index import Index, Int32
from extract.store.layout import parse_compression
from extract.store.merge import is_piece, sweep_tmp
from extract.store.operations.contents import (
    Chosen,
    Kind,
    Mask,
    Numbers,
    by_part,
    compressions,
    content_name,
    first_of,
    how_written,
    places,
    sizes_bytes,
    standing,
    united,
    write_chosen,
)
from extract.store.runs import Lock
from extract.store.sink import fsync_folder, unwritable
from extract.store.store import Store

PART_BYTES = 2**30
_PREFIX = "pack"


@dataclass(frozen=True, slots=True)
class Packed:
    """What packing did.

    Parameters
    ----------
    before, after
        parts
    written
        of them, packed parts that were written
    pieces
        of chunks under way, which stayed
    size_bytes
        of the parts that were written
    """

    before: int
    after: int
    written: int
    pieces: int
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Which parts are packed together, decided before anything is written.

    Parameters
    ----------
    chosen
        by part, what of it goes into a packed part
    groups
        numbers of the parts that are packed together, and how the packed part is compressed
    empty
        parts that hold nothing that others do not hold as well
    pieces
        of chunks under way
    place, name
        (ids,) in the manifest and (parts,) by name: the order of rows in a packed part
    """

    chosen: Sequence[Chosen]
    groups: Sequence[tuple[Sequence[int], str]]
    empty: Sequence[int]
    pieces: int
    place: Numbers
    name: Numbers


def pack(
    store_path: Path,
    part_bytes: int = PART_BYTES,
    compression: str | None = None,
    on_part: Callable[[int, int], None] = lambda done, of: None,
) -> Packed:
    """Rewrite small parts as few large ones; a packing that was killed is finished by the next.

    Parts that hold at least half of `part_bytes` stay as they are. The others are put together in the order of the
    manifest, and so are the clips in each packed part; clips that the manifest does not list follow, by name of their
    part. Rows that lie in several parts are kept once. The store's content digest does not change.

    Parameters
    ----------
    store_path
        folder of the store
    part_bytes
        rows per packed part, at most, uncompressed
    compression
        ``none``, ``gzip`` or ``gzip:<1 to 9>``: parts that are stored otherwise are rewritten as well; None: parts keep
        theirs, and those of one kind are packed together
    on_part
        told after each packed part how many are done, of how many

    Raises
    ------
    PlanError
        no such compression, or parts of no size
    StoreBusy
        a run holds the store
    StoreUnwritable
        no space, no permission, ...; nothing is lost, and the same command goes on
    DamagedPart
        a part cannot be read, its rows do not match their checksum, or two parts disagree
    """
    if part_bytes < 1:
        raise PlanError(f"parts of {part_bytes} bytes hold nothing; --part-bytes must be at least 1")
    compression = None if compression is None else parse_compression(compression)
    store = Store(store_path)
    with Lock(store_path):
        folder = store_path / "parts"
        for place in (store_path, folder):
            sweep_tmp(place)
        index = store.index
        plan = _plan(store, index, part_bytes, compression)
        _remove(folder, (index.parts[part].name for part in plan.empty))
        sizes = []
        for group, how in plan.groups:
            sizes.append(_write(store, index, plan, group, how))
            on_part(len(sizes), len(plan.groups))
        save_index(store_path)
    store.close()
    gone = len(plan.empty) + sum(len(group) for group, _ in plan.groups)
    before = len(index.parts)
    return Packed(before, before - gone + len(sizes), len(sizes), plan.pieces, sum(sizes))


def _plan(store: Store, index: Index, part_bytes: int, compression: str | None) -> _Plan:
    """The same groups come out when some of them are packed already, so that a killed packing ends like any other.

    That is because every packed part but the last holds more than half of `part_bytes`: it stays and owns its rows, and
    what was packed into it owns nothing any more.
    """
    names = np.array([part.name for part in index.parts], dtype=str)
    name = _ranks(names)
    place = places(index, list(store.manifest))
    first = _first(index, place)
    how = compressions(store, index)
    piece = np.array([is_piece(Path(each)) for each in names], bool)
    small = (2 * _bytes(index) < part_bytes) & ~piece
    other = np.array([each != (compression or each) for each in how], bool) & ~piece
    # What stays owns its rows before what moves; pieces come last, as the next run merges them in any case.
    owner = (name, first, small | other, piece)
    rank = np.argsort(np.lexsort(owner))
    own = {key: first_of(column, rank) for key, column in index.columns.items()}
    chosen = by_part(index, own, *standing(store))
    holds = np.array([each.count for each in chosen], np.int64)
    order = np.lexsort((name, first))
    order = order[(small | other)[order] & (holds[order] > 0)]
    groups = [([part], compression or how[part]) for part in order[~small[order]].tolist()]
    for kind in sorted(set(how)) if compression is None else [compression]:
        those = [part for part in order[small[order]].tolist() if compression or how[part] == kind]
        groups += [(group, kind) for group in _filled(those, _bytes(index, own), part_bytes)]
    whole = (holds == _held(index)) & ~other
    return _Plan(
        chosen,
        [(group, kind) for group, kind in groups if len(group) > 1 or not whole[group[0]]],
        np.flatnonzero((holds == 0) & ~piece).tolist(),
        int(piece.sum()),
        place,
        name,
    )


def _filled(parts: Sequence[int], sizes: Numbers, part_bytes: int) -> Iterator[list[int]]:
    """Parts in their order, as many together as fit; each is smaller than half, so all groups but the last are larger."""
    group: list[int] = []
    filled = 0
    for part in parts:
        if group and filled + int(sizes[part]) > part_bytes:
            yield group
            group, filled = [], 0
        group.append(part)
        filled += int(sizes[part])
    if group:
        yield group


def _write(store: Store, index: Index, plan: _Plan, group: Sequence[int], compression: str) -> int:
    """Write one packed part, then remove what it is made of; its size in bytes."""
    chosen = _together(index, plan, group)
    sources = [store.path / "parts" / index.parts[part].name for part in group]
    path = sources[0].with_name(content_name(_PREFIX, index, chosen))
    if path.exists() and path not in sources:
        raise StoreError(f"{path} is there and holds something else; move it out of parts/ and pack again")
    provenance = united(how_written(source)[0] for source in sources)
    write_chosen(path, store, index, chosen, provenance, compression)
    _remove(path.parent, (source.name for source in sources if source != path))
    return path.stat().st_size


def _together(index: Index, plan: _Plan, group: Sequence[int]) -> Chosen:
    """What a group of parts holds, in the order of a packed part."""
    rows: dict[str, Numbers] = {}
    for key in sorted({key for part in group for key in plan.chosen[part].rows}):
        numbers = np.concatenate([plan.chosen[part].rows.get(key, np.empty(0, np.int64)) for part in group])
        column = index.columns[key].take(numbers)
        rows[key] = numbers[np.lexsort((column.start, plan.name[column.part], plan.place[column.clip]))]
    word = _ranks(np.array(index.words, dtype=str))
    said: dict[Kind, Numbers] = {}
    kinds: tuple[Kind, ...] = ("failed", "masked")
    for kind in kinds:
        numbers = np.concatenate([getattr(plan.chosen[part], kind) for part in group])
        some = getattr(index, kind).take(numbers)
        keys = (word[some.reason], word[some.stage], word[some.key], some.clip, plan.place[some.clip])
        said[kind] = numbers[np.lexsort(keys)]
    return Chosen(rows, **said)


def _ranks(texts: np.ndarray[tuple[int], np.dtype[np.str_]]) -> Numbers:
    return np.argsort(np.argsort(texts))


def _first(index: Index, place: Numbers) -> Numbers:
    """(parts,) the first place of any clip that a part speaks of."""
    first = np.full(len(index.parts), np.iinfo(np.int64).max)
    for part, clip in _mentions(index):
        np.minimum.at(first, part, place[clip])
    return first


def _bytes(index: Index, own: Mapping[str, Mask] | None = None) -> Numbers:
    """(parts,) bytes of rows in each part; only of those that it owns, if that is given."""
    total = np.zeros(len(index.parts), np.int64)
    for key, column in index.columns.items():
        np.add.at(total, column.part, sizes_bytes(column) * (1 if own is None else own[key]))
    return total


def _held(index: Index) -> Numbers:
    """(parts,) how many entries and remarks each part holds."""
    total = np.zeros(len(index.parts), np.int64)
    for part, _ in _mentions(index):
        np.add.at(total, part, 1)
    return total


def _mentions(index: Index) -> list[tuple[Int32, Int32]]:
    """Part and clip of every entry and remark."""
    remarks = [(said.part, said.clip) for said in (index.failed, index.masked)]
    return [(column.part, column.clip) for column in index.columns.values()] + remarks


def _remove(folder: Path, names: Iterable[str]) -> None:
    try:
        for name in names:
            (folder / name).unlink()
        fsync_folder(folder)
    except OSError as error:
        raise unwritable(folder, 0, error) from error
