"""Who lies where in a store, as arrays: a million clips are a few columns, not a million objects."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.store.layout import ROW_SETS
from extract.store.reader import PartIndex, read_seal
from extract.store.rows import KeyInfo, Remark

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PartFile:
    """A part as a file. It is the same file where inode, size and time of change are the same, or, for a copy, the seal.

    Parameters
    ----------
    name
        in ``parts/``
    inode, size_bytes, mtime_ns
        as the file system has them
    seal
        sha256 in hex that the part begins with; empty: a part of schema 1
    """

    name: str
    inode: int
    size_bytes: int
    mtime_ns: int
    seal: str

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this one; FileNotFoundError where there is none."""
        return self.same(path.stat(), path)

    def same(self, stat: os.stat_result, path: Path) -> bool:
        """As :meth:`is_at`, for a file that was looked at already."""
        if (stat.st_ino, stat.st_size, stat.st_mtime_ns) == (self.inode, self.size_bytes, self.mtime_ns):
            return True
        if stat.st_size != self.size_bytes or stat.st_ino == self.inode or not self.seal:
            return False  # written in place, which nobody should: its seal may be all that is left of it
        seal = read_seal(path)
        return seal is not None and seal.sha256 == self.seal


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Who has rows under one key, and where; N entries sorted by clip, then by age of the part, oldest first.

    Parameters
    ----------
    info, sources
        of the key; source times per row
    clip
        (N,) int32, ranks in the index's ids
    part
        (N,) int32, numbers of the parts
    start, stop
        (N,) int64, rows of the part
    sha256
        (N, 32) uint8, digests of the rows
    offsets
        (parts, 4) int64, where in each part's file ``data``, ``window_ns``, ``valid``, ``source_ns`` begin; -1: data are
        compressed, or the part lacks the key
    """

    info: KeyInfo
    sources: int
    clip: Int32
    part: Int32
    start: Int64
    stop: Int64
    sha256: NDArray[np.uint8]
    offsets: Int64

    def take(self, which: NDArray[Any]) -> Column:
        """Some entries, by mask or numbers."""
        arrays = {name: getattr(self, name)[which] for name in ("clip", "part", "start", "stop", "sha256")}
        return replace(self, **arrays)


@dataclass(frozen=True, slots=True, eq=False)
class Remarks:
    """Remarks of one kind, F of them: numbers into the index's ids, parts and words, and the messages in one string of bytes.

    Parameters
    ----------
    clip, part, key, stage, reason
        (F,) int32
    edges
        (F + 1,) int64, where each message begins and ends
    text
        uint8, UTF-8 of all messages
    """

    clip: Int32
    part: Int32
    key: Int32
    stage: Int32
    reason: Int32
    edges: Int64
    text: NDArray[np.uint8]

    def take(self, which: NDArray[np.int64]) -> Remarks:
        """Some of them, by number."""
        numbers = {name: getattr(self, name)[which] for name in NUMBERS}
        lengths = np.diff(self.edges)[which]
        edges = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(self.edges[:-1][which] - edges[:-1], lengths) + np.arange(edges[-1])
        return Remarks(**numbers, edges=edges, text=self.text[places])

    def message(self, i: int) -> str:
        """One message."""
        return bytes(self.text[int(self.edges[i]) : int(self.edges[i + 1])]).decode()


NUMBERS = ("clip", "part", "key", "stage", "reason")


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Everything that the parts of a store say of themselves, except the numbers.

    Parameters
    ----------
    ids
        sorted clip ids in UTF-8, of fixed length
    parts
        the files
    columns
        by key; a clip that several parts hold is there several times
    failed, masked
        remarks
    words
        the keys, stages and reasons that remarks use
    """

    ids: NDArray[np.bytes_]
    parts: tuple[PartFile, ...]
    columns: Mapping[str, Column]
    failed: Remarks
    masked: Remarks
    words: tuple[str, ...]

    def rank(self, clip_id: str) -> int:
        """The number of an id; -1 where it is not among them."""
        raw = clip_id.encode()
        if len(raw) > self.ids.dtype.itemsize:
            return -1
        at = int(np.searchsorted(self.ids, np.array(raw, self.ids.dtype)))
        return at if at < len(self.ids) and self.ids[at] == raw else -1

    def ranks(self, clip_ids: Sequence[str]) -> Int64:
        """The numbers of ids, -1 where one is not among them."""
        if not len(self.ids) or not clip_ids:
            return np.full(len(clip_ids), -1, np.int64)
        wanted = np.array([clip_id.encode() for clip_id in clip_ids])
        order = np.argsort(wanted)  # near places one after the other: four times as fast for a million ids
        at = np.empty(len(wanted), np.int64)
        at[order] = np.minimum(np.searchsorted(self.ids, wanted[order]), len(self.ids) - 1)
        return np.where(self.ids[at] == wanted, at, -1)

    def text(self, ranks: NDArray[Any]) -> tuple[str, ...]:
        """Ids by number."""
        return tuple(raw.decode() for raw in self.ids[ranks].tolist())


def empty() -> Index:
    """Of a store without parts."""
    return Index(np.empty(0, "S1"), (), {}, _no_remarks(), _no_remarks(), ())


def age_ranks(parts: Sequence[PartFile]) -> Int64:
    """(parts,) int64: the place of each part among all, the oldest first; a merged part is newer than pieces of one instant."""
    keys = [(part.mtime_ns, not part.name.endswith(".piece.h5"), part.name) for part in parts]
    ranks = np.empty(len(parts), np.int64)
    ranks[sorted(range(len(parts)), key=keys.__getitem__)] = np.arange(len(parts))
    return ranks


def without(index: Index, names: Collection[str]) -> Index:
    """The index without some parts, by name."""
    if not names:
        return index
    kept = np.array([part.name not in names for part in index.parts], bool)
    number = np.cumsum(kept) - 1
    columns = {}
    for key, column in index.columns.items():
        there = kept[column.part]
        if there.any():
            less = column.take(there)
            columns[key] = replace(less, part=number[less.part].astype(np.int32), offsets=column.offsets[kept])
    remarks = []
    for each in (index.failed, index.masked):
        less_remarks = each.take(np.flatnonzero(kept[each.part]))
        remarks.append(replace(less_remarks, part=number[less_remarks.part].astype(np.int32)))
    parts = tuple(part for part, keep in zip(index.parts, kept.tolist(), strict=True) if keep)
    return _compact(Index(index.ids, parts, columns, remarks[0], remarks[1], index.words))


def with_parts(index: Index, new: Sequence[tuple[PartFile, PartIndex]]) -> Index:
    """The index with further parts, which must not be in it yet."""
    if not new:
        return index
    index = _widen(index, {clip_id for _, part in new for clip_id in _clip_ids(part)})
    parts = (*index.parts, *(file for file, _ in new))
    first, age = len(index.parts), age_ranks(parts)
    columns: dict[str, Column] = {}
    keys = dict.fromkeys([*index.columns, *(key for _, part in new for key in part.keys)])
    for key in keys:
        pieces = [(i, part.keys[key]) for i, (_, part) in enumerate(new, first) if key in part.keys]
        old = index.columns.get(key)
        offsets = np.full((len(parts), len(ROW_SETS)), -1, np.int64)
        if old is not None:
            offsets[:first] = old.offsets
        for i, piece in pieces:
            offsets[i] = [-1 if offset is None else offset for offset in piece.offsets]
        arrays = {
            "clip": index.ranks([clip_id for _, piece in pieces for clip_id in piece.clips]).astype(np.int32),
            "part": np.repeat([i for i, _ in pieces], [len(piece.clips) for _, piece in pieces]).astype(np.int32),
            "start": np.concatenate([piece.span[:, 0] for _, piece in pieces] or [np.empty(0, np.int64)]),
            "stop": np.concatenate([piece.span[:, 1] for _, piece in pieces] or [np.empty(0, np.int64)]),
            "sha256": np.concatenate([piece.sha256 for _, piece in pieces] or [np.empty((0, 32), np.uint8)]),
        }
        if old is not None:
            arrays = {name: np.concatenate([getattr(old, name), array]) for name, array in arrays.items()}
        some = old or pieces[0][1]
        column = Column(some.info, some.sources, offsets=offsets, **arrays)
        columns[key] = column.take(np.lexsort((age[column.part], column.clip)))
    words = list(index.words)
    failed = _more(index.failed, [(i, part.failed) for i, (_, part) in enumerate(new, first)], index, words)
    masked = _more(index.masked, [(i, part.masked) for i, (_, part) in enumerate(new, first)], index, words)
    return Index(index.ids, parts, columns, failed, masked, tuple(words))


def _clip_ids(part: PartIndex) -> Iterable[str]:
    for entry in part.keys.values():
        yield from entry.clips
    for remark in (*part.failed, *part.masked):
        yield remark.clip_id


def _widen(index: Index, clip_ids: set[str]) -> Index:
    """The index with further ids; all numbers of clips follow."""
    wanted = np.array(sorted(clip_id.encode() for clip_id in clip_ids)) if clip_ids else np.empty(0, "S1")
    if not len(index.ids):
        return replace(index, ids=wanted)
    at = np.searchsorted(index.ids, wanted)
    fresh = index.ids[np.minimum(at, len(index.ids) - 1)] != wanted
    wanted, at = wanted[fresh], at[fresh]
    if not len(wanted):
        return index
    width = max(index.ids.dtype.itemsize, wanted.dtype.itemsize)
    ids = np.insert(index.ids.astype(f"S{width}"), at, wanted)
    number = np.arange(len(index.ids)) + np.searchsorted(at, np.arange(len(index.ids)), side="right")
    return _renumber(replace(index, ids=ids), number)


def _compact(index: Index) -> Index:
    """The index without ids that nothing mentions."""
    used = np.zeros(len(index.ids), bool)
    for clip in (*(column.clip for column in index.columns.values()), index.failed.clip, index.masked.clip):
        used[clip] = True
    if used.all():
        return index
    return _renumber(replace(index, ids=index.ids[used]), np.cumsum(used) - 1)


def _renumber(index: Index, number: Int64) -> Index:
    def renumbered(each: Any) -> Any:
        return replace(each, clip=number[each.clip].astype(np.int32))

    return replace(
        index,
        columns={key: renumbered(column) for key, column in index.columns.items()},
        failed=renumbered(index.failed),
        masked=renumbered(index.masked),
    )


def _no_remarks() -> Remarks:
    none = np.empty(0, np.int32)
    return Remarks(none, none, none, none, none, np.zeros(1, np.int64), np.empty(0, np.uint8))


def _more(old: Remarks, new: Sequence[tuple[int, Sequence[Remark]]], index: Index, words: list[str]) -> Remarks:
    """Remarks and further ones, by number of their part; `words` grows where they use new ones."""
    flat = [(part, each) for part, remarks in new for each in remarks]
    if not flat:
        return old
    number = {word: i for i, word in enumerate(words)}

    def numbers(texts: Iterable[str]) -> Int32:
        found = [number.setdefault(text, len(number)) for text in texts]
        words.extend(list(number)[len(words) :])
        return np.array(found, np.int32)

    messages = [each.message.encode() for _, each in flat]
    lengths = np.array([len(message) for message in messages], np.int64)
    fresh = {
        "clip": index.ranks([each.clip_id for _, each in flat]).astype(np.int32),
        "part": np.array([part for part, _ in flat], np.int32),
        "key": numbers(each.key for _, each in flat),
        "stage": numbers(each.stage for _, each in flat),
        "reason": numbers(each.reason for _, each in flat),
        "text": np.frombuffer(b"".join(messages), np.uint8),
    }
    arrays = {name: np.concatenate([getattr(old, name), array]) for name, array in fresh.items()}
    return Remarks(**arrays, edges=np.concatenate([old.edges, old.edges[-1] + np.cumsum(lengths)]))


def live(column: Column) -> Column:
    """One entry per clip: the one in the newest part."""
    last = np.append(column.clip[1:] != column.clip[:-1], True)
    return column if last.all() else column.take(last)


def standing(index: Index, kind: str, columns: Mapping[str, Column]) -> Int64:
    """Which remarks count: the newest where several say the same, and no failure that rows made up for; by clip and key."""
    remarks: Remarks = getattr(index, kind)
    if not len(remarks.clip):
        return np.empty(0, np.int64)
    place = np.argsort(np.argsort(np.array(index.words)))  # words by alphabet
    keys: list[NDArray[Any]] = [remarks.clip, place[remarks.key]]
    if kind == "masked":
        keys += [place[remarks.stage], place[remarks.reason]]
    order: Int64 = np.lexsort((age_ranks(index.parts)[remarks.part], *reversed(keys)))
    sorted_keys = np.stack([key[order] for key in keys])
    last = np.append((sorted_keys[:, 1:] != sorted_keys[:, :-1]).any(axis=0), True)
    order = order[last]
    if kind == "failed":
        made_up = np.zeros(len(order), bool)
        for number, word in enumerate(index.words):
            if word in columns:
                made_up |= (remarks.key[order] == number) & np.isin(remarks.clip[order], columns[word].clip)
        order = order[~made_up]
    return order
