"""Is the index file of a store what its parts say? It is only a cache, but a wrong one would give the wrong rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.store.finding import Finding
from extract.store.hdf5 import SEAL_BYTES, parse_seal
from extract.store.index import NUMBERS, Index, PartFile, Remarks, without
from extract.store.index_file import NAME, SCHEMA, read_index

_ADVICE = "it is only a cache: delete it, the next run writes it anew"
_COLUMN = ("clip", "place", "start", "stop", "sha256", "offsets")


def check_index(store_path: Path, index: Index) -> Iterator[Finding]:
    """Compare the index file of a store with its parts.

    Parts that changed since it was written are nobody's fault: readers look at those again.

    Parameters
    ----------
    store_path
        folder of the store
    index
        of its parts, each of which was opened
    """
    path = store_path / NAME
    try:
        problem, schema = _damage(path)
    except FileNotFoundError:
        return
    except OSError as error:
        problem, schema = f"cannot be read: {error.strerror}", 0
    if problem:
        yield Finding(NAME, "", "", f"{problem}; {_ADVICE}", "index")
        return
    saved = read_index(store_path) if schema == SCHEMA else None
    if saved is None:  # of another version, or written anew just now
        return
    there = {part.name: part for part in index.parts}
    same = {part.name for part in saved.parts if part.name in there and _same(part, there[part.name])}
    theirs, ours = (
        without(each, {part.name for part in each.parts if part.name not in same}) for each in (saved, index)
    )
    for part, key, clip in _differences(theirs, ours):
        where = " ".join(each for each in (part, key, clip) if each)
        yield Finding(NAME, key, clip, f"says of {where} something else than the part itself; {_ADVICE}", "index")


def _damage(path: Path) -> tuple[str, int]:
    """What is wrong with the bytes of an index file, and its schema."""
    with path.open("rb") as file:
        size_bytes, head = os.fstat(file.fileno()).st_size, file.read(SEAL_BYTES)
        seal = parse_seal(head, "index")
        if seal is None:
            return "does not begin with the seal of an index", 0
        if seal != (hashlib.file_digest(file, "sha256").hexdigest(), size_bytes):
            return "its bytes are not those that its seal speaks of", 0
    return "", int(head.split(b"\n")[1].split()[1])


def _same(saved: PartFile, part: PartFile) -> bool:
    """Whether a reader would believe that the file is the one that was indexed."""
    stamp = (part.inode, part.size_bytes, part.mtime_ns)
    if (saved.inode, saved.size_bytes, saved.mtime_ns) == stamp:
        return True
    return bool(saved.seal) and (saved.seal, saved.size_bytes) == (part.seal, part.size_bytes)


def _differences(a: Index, b: Index) -> Iterator[tuple[str, str, str]]:
    """Part, key and clip of the first difference under each key, and among the remarks of each kind."""
    for key in sorted({*a.columns, *b.columns}):
        if key not in a.columns or key not in b.columns:
            there = a if key in a.columns else b
            yield there.parts[int(there.columns[key].part[0])].name, key, ""
            continue
        ours, theirs = a.columns[key], b.columns[key]
        if (ours.info, ours.sources) != (theirs.info, theirs.sources):
            yield a.parts[int(ours.part[0])].name, key, ""
            continue
        tables = _column(a, key), _column(b, key)
        at = _first_difference(*tables)
        if at >= 0:
            table, index = (tables[0], a) if at < len(tables[0]["clip"]) else (tables[1], b)
            name = sorted(part.name for part in index.parts)[int(table["place"][at])]
            yield name, key, table["clip"][at].decode()
    for kind in ("failed", "masked"):
        if _remarks(a, kind) != _remarks(b, kind):
            yield "", f"/{kind}", ""


def _column(index: Index, key: str) -> dict[str, NDArray[Any]]:
    """Entries by clip and part, without numbers that depend on the order in which parts were added."""
    column, place = index.columns[key], _places(index)
    table = {
        "clip": index.ids[column.clip],
        "place": place[column.part],
        "start": column.start,
        "stop": column.stop,
        "sha256": column.sha256,
        "offsets": column.offsets[column.part],
    }
    order = np.lexsort((table["place"], column.clip))
    return {name: array[order] for name, array in table.items()}


def _places(index: Index) -> NDArray[np.int64]:
    """(parts,) the place of each part among all, by name."""
    places = np.empty(len(index.parts), np.int64)
    places[np.argsort(np.array([part.name for part in index.parts], str))] = np.arange(len(index.parts))
    return places


def _first_difference(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> int:
    shared = min(len(a["clip"]), len(b["clip"]))
    differ = np.zeros(shared, bool)
    for name in _COLUMN:
        unequal = np.asarray(a[name][:shared] != b[name][:shared])
        differ |= unequal.reshape(shared, -1).any(axis=1) if shared else differ
    if differ.any():
        return int(np.argmax(differ))
    return -1 if len(a["clip"]) == len(b["clip"]) else shared


def _remarks(index: Index, kind: str) -> list[tuple[Any, ...]]:
    said: Remarks = getattr(index, kind)
    names, clips = [part.name for part in index.parts], index.text(said.clip)
    words = [[index.words[i] for i in getattr(said, name).tolist()] for name in NUMBERS[2:]]
    rows = zip(clips, (names[i] for i in said.part.tolist()), *words, strict=True)
    return sorted((*row, said.message(i)) for i, row in enumerate(rows))
