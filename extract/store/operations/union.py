"""Stores of several machines become one. Equal rows are kept once; different rows of one clip are never chosen silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.errors import PlanError, nearest
from extract.store.index import Index
from extract.store.operations.conflicts import Conflict, conflicts
from extract.store.operations.contents import (
    Chosen,
    by_part,
    content_name,
    everything,
    fingerprint,
    how_written,
    standing,
    write_chosen,
)
from extract.store.operations.making import copy_ledgers, finish, made, making, put_manifest, quiet
from extract.store.operations.overlap import Overlap, compare_stores
from extract.store.store import Store
from manifests.clip import Clip
from manifests.dense import Event


@dataclass(frozen=True, slots=True, eq=False)
class Merging:
    """What a merge would do; nothing is written yet.

    Parameters
    ----------
    stores, indices
        what is merged
    prefer
        number of the store whose rows are taken where rows differ
    overlap
        what is taken of each
    listed_differently
        clips that two manifests list with different rows, or label with different events; the first is kept
    """

    stores: tuple[Store, ...]
    indices: tuple[Index, ...]
    prefer: int | None
    overlap: Overlap
    clips: tuple[Clip, ...]
    events: tuple[Event, ...]
    listed_differently: tuple[str, ...]

    def open_conflicts(self) -> Iterator[Conflict]:
        """Rows that contradict each other and that nobody decided; they are read one pair at a time."""
        return conflicts(self.stores, self.indices, self.overlap.open)

    def decided_conflicts(self) -> Iterator[Conflict]:
        """Rows that contradict each other, where those of the preferred store are taken; its part comes first."""
        return conflicts(self.stores, self.indices, self.overlap.settled)


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did.

    Parameters
    ----------
    parts
        of the new store
    equal
        rows, by clip and key, that several stores have alike
    preferred
        rows, by clip and key, that were taken from the preferred store although another has different ones
    listed_differently
        clips that two manifests list differently; the first is kept
    complete
        it was complete before, and nothing was done
    """

    parts: int
    equal: int
    preferred: int
    listed_differently: tuple[str, ...]
    complete: bool = False


def plan_merge(paths: Sequence[Path], prefer: Path | None = None) -> Merging:
    """Look at stores that shall become one; only their indices and manifests are read.

    Parameters
    ----------
    paths
        of at least two stores
    prefer
        one of them, whose rows are taken where rows differ

    Raises
    ------
    PlanError
        fewer than two stores, or one twice
    UnknownName
        `prefer` is none of them
    StoreError, StoreBusy, DamagedPart
        no store, or rows of different shape; somebody holds one; one is damaged or contradicts itself
    """
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < max(2, len(paths)):
        raise PlanError(f"a merge takes at least two different stores, got {', '.join(map(str, paths)) or 'none'}")
    if prefer is not None and prefer.resolve() not in resolved:
        raise nearest(str(prefer), [str(path) for path in paths], "store of this merge")
    for path in paths:
        quiet(path)
    stores = tuple(Store(path) for path in paths)
    indices = tuple(store.index for store in stores)
    number = None if prefer is None else resolved.index(prefer.resolve())
    clips, differing = _manifest(stores)
    events, others = _events(stores)
    listed_differently = tuple(sorted({*differing, *others}))
    return Merging(stores, indices, number, compare_stores(stores, indices, number), clips, events, listed_differently)


def merge_stores(merging: Merging, out: Path, on_part: Callable[[int, int], None] = lambda done, of: None) -> Merged:
    """Write the merged store; a merge that was killed is finished by the same command.

    Every part that holds something no other does becomes one part of the new store, with its manifest, its labels and
    all ledgers.

    Parameters
    ----------
    merging
        see :func:`plan_merge`; without undecided conflicts
    out
        folder of the new store, which does not exist yet
    on_part
        told after each part how many are done, of how many

    Raises
    ------
    PlanError
        rows contradict each other and no store is preferred
    StoreError, StoreBusy, StoreUnwritable, DamagedPart
        `out` holds something else; somebody holds it; no space; rows do not match their checksums
    """
    overlap = merging.overlap
    if overlap.conflicts:
        raise PlanError(
            f"{overlap.conflicts} times two stores hold different rows of one clip; say which store is right (--prefer), or "
            "remove the wrong rows first: `extract store rm`"
        )
    pairs = list(zip(merging.stores, merging.indices, strict=True))
    asked: dict[str, Any] = {
        "operation": "merge",
        "content": [fingerprint(index, everything(index), *standing(store)) for store, index in pairs],
        "prefer": merging.prefer,
    }
    known = made(out, asked)
    if known is not None:
        return _result(known, complete=True)
    with making(out, asked):
        chosen = [
            (store, index, part, each)
            for (store, index), taken in zip(pairs, overlap.taken, strict=True)
            for part, each in enumerate(by_part(index, taken.rows, taken.failed, taken.masked))
            if each.count
        ]
        for number, (store, index, part, each) in enumerate(chosen, 1):
            _write(store, index, part, each, overlap, out)
            on_part(number, len(chosen))
        put_manifest(out, merging.clips, merging.events)
        copy_ledgers([store.path for store in merging.stores], out)
        result = {
            "parts": len(chosen),
            "equal": overlap.equal,
            "preferred": overlap.preferred,
            "listed_differently": list(merging.listed_differently),
            "stores": [str(store.path.absolute()) for store in merging.stores],
        }
        finish(out, asked, result)
    for store in merging.stores:
        store.close()
    return _result(result)


def _result(told: dict[str, Any], *, complete: bool = False) -> Merged:
    return Merged(told["parts"], told["equal"], told["preferred"], tuple(told["listed_differently"]), complete)


def _write(store: Store, index: Index, part: int, chosen: Chosen, overlap: Overlap, out: Path) -> None:
    path = out / "parts" / content_name("merge", index, chosen)
    if not path.exists():
        provenance, compression = how_written(store.path / "parts" / index.parts[part].name)
        write_chosen(path, store, index, chosen, provenance, compression, overlap.infos)


def _manifest(stores: Sequence[Store]) -> tuple[tuple[Clip, ...], list[str]]:
    """All clips that the manifests list, the first store's first; and those that are listed differently."""
    clips: dict[str, Clip] = {}
    for store in stores:
        for clip_id, clip in store.manifest.items():
            clips.setdefault(clip_id, clip)
    return tuple(clips.values()), [
        clip_id for store in stores for clip_id, clip in store.manifest.items() if clips[clip_id] != clip
    ]


def _events(stores: Sequence[Store]) -> tuple[tuple[Event, ...], list[str]]:
    """The events of each clip from the first store that has any; and clips of which another store has others."""
    found: dict[str, list[Event]] = {}
    differing: list[str] = []
    for store in stores:
        here: dict[str, list[Event]] = {}
        for event in store.events:
            here.setdefault(event.clip_id, []).append(event)
        for clip_id, events in here.items():
            if found.setdefault(clip_id, events) != events:
                differing.append(clip_id)
    return tuple(event for events in found.values() for event in events), differing
