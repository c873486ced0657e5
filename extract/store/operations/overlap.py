"""Where several stores hold the same clips: whose rows, failures and masks are taken, and which rows contradict each other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from extract.errors import StoreError
from extract.store.index import Index, Int32, Remarks, age_ranks
from extract.store.operations.contents import Kind, Mask, Numbers, first_of, standing
from extract.store.rows import KeyInfo
from extract.store.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What of one store goes into the merged one: masks over its index's columns and remarks."""

    rows: Mapping[str, Mask]
    failed: Mask
    masked: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Clash:
    """Entries of one key that hold different rows of one clip: store and number of the one, and of the other, (N,) each."""

    key: str
    store: Numbers
    entry: Numbers
    other_store: Numbers
    other_entry: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """How stores overlap.

    Parameters
    ----------
    taken
        by store
    infos
        by key, as the first store has it
    equal
        entries that another store has as well
    open, settled
        rows that contradict each other: those that nobody decided, and those where the preferred store's are taken
    """

    taken: tuple[Taken, ...]
    infos: Mapping[str, KeyInfo]
    equal: int
    open: tuple[Clash, ...]
    settled: tuple[Clash, ...]

    @property
    def conflicts(self) -> int:
        """Pairs of rows that contradict each other and that nobody decided."""
        return sum(len(clash.entry) for clash in self.open)

    @property
    def preferred(self) -> int:
        """Clips, by key, whose rows were taken from the preferred store although another has different ones."""
        return sum(len(np.unique(clash.entry)) for clash in self.settled)


def compare_stores(stores: Sequence[Store], indices: Sequence[Index], prefer: int | None = None) -> Overlap:
    """Decide what of each store is taken; nothing but the indices is read.

    Equal rows are taken from the first store that has them. Rows win over failures; of several failures, or remarks on
    masked rows, the newest holds; a remark on masked rows is only taken from a store that has the very rows that are taken.

    Parameters
    ----------
    stores, indices
        in the order in which they count, and their indices
    prefer
        number of the store whose rows are taken where rows differ

    Raises
    ------
    StoreError
        two stores hold rows of different shape under one key
    """
    infos = _infos(stores, indices)
    ids, ranks = _united([index.ids for index in indices])
    order = np.arange(len(stores))
    if prefer is not None:
        order[prefer] = -1
    rows: list[dict[str, Mask]] = [{} for _ in stores]
    has: dict[str, Mask] = {}
    agrees: dict[tuple[int, str], Mask] = {}
    clashes: dict[bool, list[Clash]] = {True: [], False: []}
    equal = 0
    for key in sorted(infos):
        found = _Entries.of(key, indices, ranks, order)
        first = found.first()
        differ = (found.sha256 != found.sha256[first]).any(axis=1)
        own = first == np.arange(len(first))
        equal += int((~own & ~differ).sum())
        has[key] = np.zeros(len(ids), bool)
        has[key][found.clip] = True
        for number in range(len(stores)):
            here = found.store == number
            if key in indices[number].columns:
                rows[number][key] = np.zeros(len(indices[number].columns[key].clip), bool)
                rows[number][key][found.entry[here & own]] = True
                agrees[number, key] = np.zeros(len(ids), bool)
                agrees[number, key][found.clip[here & ~differ]] = True
        decided = found.store[first] == (-1 if prefer is None else prefer)
        for settled in (True, False):
            which = np.flatnonzero(differ & (decided == settled))
            if len(which):
                a = first[which]
                clash = Clash(key, found.store[a], found.entry[a], found.store[which], found.entry[which])
                clashes[settled].append(clash)
    failed, masked = _remarks(stores, indices, ranks, order, has, agrees)
    taken = tuple(Taken(*each) for each in zip(rows, failed, masked, strict=True))
    return Overlap(taken, infos, equal, tuple(clashes[False]), tuple(clashes[True]))


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """All rows of one key, each clip once per store, sorted by clip, then by the order of the stores."""

    clip: Numbers
    store: Numbers
    entry: Numbers
    sha256: np.ndarray[tuple[int, int], np.dtype[np.uint8]]

    @classmethod
    def of(cls, key: str, indices: Sequence[Index], ranks: Sequence[Numbers], order: Numbers) -> _Entries:
        clip, store, entry, sha256 = [], [], [], []
        for number, index in enumerate(indices):
            if key in index.columns:
                column = index.columns[key]
                those = np.flatnonzero(first_of(column, -age_ranks(index.parts)))
                clip.append(ranks[number][column.clip[those]])
                store.append(np.full(len(those), number))
                entry.append(those)
                sha256.append(column.sha256[those])
        clips, stores, entries = map(np.concatenate, (clip, store, entry))
        by_clip = np.lexsort((order[stores], clips))
        return cls(clips[by_clip], stores[by_clip], entries[by_clip], np.concatenate(sha256)[by_clip])

    def first(self) -> Numbers:
        """(N,) the number of the first entry of each entry's clip."""
        begins = np.append(True, self.clip[1:] != self.clip[:-1])
        return np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))


def _infos(stores: Sequence[Store], indices: Sequence[Index]) -> dict[str, KeyInfo]:
    found: dict[str, tuple[int, KeyInfo, int]] = {}
    for number, index in enumerate(indices):
        for key, column in index.columns.items():
            first, info, sources = found.setdefault(key, (number, column.info, column.sources))
            if (info.dims, info.storage, sources) != (column.info.dims, column.info.storage, column.sources):
                raise StoreError(
                    f"{stores[first].path} and {stores[number].path} hold rows of different shape under {key}: "
                    f"{info.storage} {info.dims} with {sources} source times, {column.info.storage} {column.info.dims} "
                    f"with {column.sources}; remove the wrong ones first: `extract store rm --key`"
                )
    return {key: info for key, (_, info, _) in found.items()}


def _united(
    ids: Sequence[np.ndarray[tuple[int], np.dtype[np.bytes_]]],
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bytes_]], list[Numbers]]:
    """All ids, sorted, and for each store the places of its own among them."""
    every = np.unique(np.concatenate(ids))
    return every, [np.searchsorted(every, some) for some in ids]


def _remarks(
    stores: Sequence[Store],
    indices: Sequence[Index],
    ranks: Sequence[Numbers],
    order: Numbers,
    has: Mapping[str, Mask],
    agrees: Mapping[tuple[int, str], Mask],
) -> tuple[list[Mask], list[Mask]]:
    """Which failures and which remarks on masked rows are taken of each store."""
    words = sorted({word for index in indices for word in index.words})
    result: dict[Kind, list[Mask]] = {}
    stand = [standing(store) for store in stores]
    kinds: tuple[Kind, ...] = ("failed", "masked")
    for at, kind in enumerate(kinds):
        name = ("key",) if kind == "failed" else ("key", "stage", "reason")
        tables: list[list[Numbers]] = []
        for number, index in enumerate(indices):
            said: Remarks = getattr(index, kind)
            keep = stand[number][at].copy()
            for word, key in enumerate(index.words):
                if key in has:
                    here = said.key == word
                    clip = ranks[number][said.clip[here]]
                    fits = ~has[key]
                    if kind == "masked" and (number, key) in agrees:
                        fits |= agrees[number, key]
                    keep[here] &= fits[clip]
            those = np.flatnonzero(keep)
            word_ranks = np.searchsorted(words, index.words) if index.words else np.empty(0, np.int64)
            times = np.array([part.mtime_ns for part in index.parts], np.int64)
            numbers = [word_ranks[_column(said, each)[those]] for each in name]
            where = [ranks[number][said.clip[those]], times[said.part[those]]]
            tail = [_messages(said, those), np.full(len(those), -order[number]), np.full(len(those), number), those]
            tables.append([*numbers, *where, *tail])
        result[kind] = _newest(tables, [len(getattr(index, kind).clip) for index in indices])
    return result["failed"], result["masked"]


def _column(said: Remarks, name: str) -> Int32:
    column: Int32 = getattr(said, name)
    return column


def _messages(said: Remarks, numbers: Numbers) -> Numbers:
    """A number for each message, equal for equal ones."""
    digests = b"".join(hashlib.sha256(said.message(i).encode()).digest()[:8] for i in numbers.tolist())
    return np.frombuffer(digests, np.int64)


def _newest(tables: Sequence[Sequence[Numbers]], lengths: Sequence[int]) -> list[Mask]:
    """Of the remarks with equal first columns, the newest one; where several say the same as it, that of the first store."""
    table = np.concatenate([np.stack(each) for each in tables], axis=1)
    *name, time, message, order, store, number = table
    by_name = np.lexsort((order, time, *name))
    sorted_name = np.stack(name)[:, by_name]
    begins = np.append(True, (sorted_name[:, 1:] != sorted_name[:, :-1]).any(axis=0))[: len(by_name)]
    group = np.cumsum(begins) - 1
    newest = by_name[np.append(np.flatnonzero(begins)[1:], len(by_name))[: begins.sum()] - 1]
    same = message[by_name] == message[newest][group]
    group, alike = group[same], by_name[same]
    by_store = np.lexsort((-order[alike], group))
    found = alike[by_store][np.append(True, np.diff(group[by_store]) > 0)[: len(alike)]]
    masks = [np.zeros(length, bool) for length in lengths]
    for i, mask in enumerate(masks):
        mask[number[found][store[found] == i]] = True
    return masks
