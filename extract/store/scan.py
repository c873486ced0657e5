"""Keeping an index in step with a folder of parts: only files that are new or changed are opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from extract.errors import DamagedPart, StoreError
from extract.store.index import Index, PartFile, age_ranks, with_parts, without
from extract.store.reader import PartIndex, index_part, read_seal

Broken = Mapping[str, tuple[tuple[int, int, int], str]]
"""Files that were left out, by name: inode, size and time of change when they were looked at, and why."""
_ALWAYS_AGAIN = (-1, -1, -1)  # what is wrong with a file is another file, which may go without a trace in this one


def scan(folder: Path, index: Index, broken: Broken) -> tuple[Index, Broken]:
    """Look at the folder of a store's parts.

    Parameters
    ----------
    folder
        ``parts/``
    index
        as it was found the last time
    broken
        what was left out then

    Returns
    -------
    Index, Broken
        as it is now; the very same `index` where nothing has changed
    """
    while True:
        try:
            return _scan(folder, index, broken)
        except FileNotFoundError:
            continue  # a run merged that piece after we listed it: its clips are in a file of the next listing


def _scan(folder: Path, index: Index, broken: Broken) -> tuple[Index, Broken]:
    bad: dict[str, tuple[tuple[int, int, int], str]] = {}
    stats: dict[str, os.stat_result] = {}
    for entry in _files(folder):
        try:
            stats[entry.name] = entry.stat()
        except FileNotFoundError:
            if not entry.is_symlink():
                raise
            path = folder / entry.name
            bad[entry.name] = (_ALWAYS_AGAIN, f"{path} is a link to a file that is not there; delete it")
    known = {part.name: part for part in index.parts}
    gone = {name for name in known if name not in stats}
    copied: dict[str, os.stat_result] = {}
    new: list[tuple[PartFile, PartIndex]] = []
    for name, stat in stats.items():
        part, path, signature = known.get(name), folder / name, _signature(stat)
        if part is not None and signature == (part.inode, part.size_bytes, part.mtime_ns):
            continue
        if name in broken and broken[name][0] == signature:
            bad[name] = broken[name]
            continue
        try:
            if part is not None and part.same(stat, path):
                copied[name] = stat
                continue
            gone |= {name} & known.keys()
            new.append(_index(path, stat))
        except StoreError as error:
            gone |= {name} & known.keys()
            # what the system does not let us read, it may let us read later, without a change of the file
            bad[name] = (signature if isinstance(error, DamagedPart) else _ALWAYS_AGAIN, str(error))
    index = without(index, gone)
    if copied:
        index = replace(index, parts=tuple(_restamped(part, copied.get(part.name)) for part in index.parts))
    new = list(_fitting(new, index, bad))
    index = with_parts(index, new)
    while new and (conflict := next(_conflicts(index, folder), None)):
        name, problem = conflict
        bad[name] = (_ALWAYS_AGAIN, problem)
        index = without(index, {name})
    return index, bad


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".h5") and not entry.name.startswith("."):
                yield entry


def _signature(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _restamped(part: PartFile, stat: os.stat_result | None) -> PartFile:
    if stat is None:
        return part
    return PartFile(part.name, *_signature(stat), part.seal)


def _index(path: Path, stat: os.stat_result) -> tuple[PartFile, PartIndex]:
    index, seal = index_part(path), read_seal(path)
    if _signature(path.stat()) != _signature(stat):
        raise FileNotFoundError(path)  # replaced while it was read
    return PartFile(path.name, *_signature(stat), seal.sha256 if seal else ""), index


def _by_age(new: list[tuple[PartFile, PartIndex]]) -> list[tuple[PartFile, PartIndex]]:
    return [new[i] for i in np.argsort(age_ranks([part for part, _ in new]))]


def _fitting(
    new: list[tuple[PartFile, PartIndex]], index: Index, bad: dict[str, tuple[tuple[int, int, int], str]]
) -> Iterator[tuple[PartFile, PartIndex]]:
    """Parts whose rows have the shape that their keys have elsewhere; `bad` is told of the others."""
    known = {key: (column.info.dims, column.sources) for key, column in index.columns.items()}
    for file, part in _by_age(new):
        shapes = {key: (entry.info.dims, entry.sources) for key, entry in part.keys.items()}
        misfits = [key for key, shape in shapes.items() if known.get(key, shape) != shape]
        if not misfits:
            known |= shapes
            yield file, part
            continue
        (dims, sources), (others, other_sources) = shapes[misfits[0]], known[misfits[0]]
        problem = f"rows of {misfits[0]} have shape {dims} and {sources} source times"
        problem = f"{part.path}: {problem}, in other parts {others} and {other_sources}"
        bad[file.name] = (_ALWAYS_AGAIN, problem)


def _conflicts(index: Index, folder: Path) -> Iterator[tuple[str, str]]:
    """Newer parts that hold other rows of a clip than older ones."""
    for key, column in index.columns.items():
        twice = np.flatnonzero(column.clip[1:] == column.clip[:-1])
        differ = twice[(column.sha256[twice] != column.sha256[twice + 1]).any(axis=1)]
        for i in differ[:1].tolist():
            old, new = (index.parts[column.part[j]].name for j in (i, i + 1))
            clip = index.text(column.clip[i : i + 1])[0]
            yield new, f"{folder / old} and {folder / new} hold different rows of clip {clip!r}, {key}"
