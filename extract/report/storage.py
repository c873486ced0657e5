"""What the rows take on disk, by backbone, and what they were computed on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import StoreError
from extract.report.subject import Subject
from extract.store.layout import ROW_SETS
from extract.store.reader import index_part, open_part, reading
from extract.store.rows import KeyInfo

PARTS_OPENED = 200
VALUES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class KeyStorage:
    """One key on disk.

    Parameters
    ----------
    key, dims, dtype
        what a row is
    clips, rows
        how many
    size_bytes
        of the numbers as they are in memory: rows x dims x item size
    percent
        of the largest key's
    stored
        bytes on disk per byte in memory, in the parts that were opened; None: none of them has the key
    """

    key: str
    dims: str
    dtype: str
    clips: int
    rows: int
    size_bytes: int
    percent: float
    stored: float | None


@dataclass(frozen=True, slots=True)
class Storage:
    """The store on disk.

    Parameters
    ----------
    size_bytes, parts, pieces
        of the files in ``parts/``; pieces are those of chunks that are not complete
    opened
        parts that were looked into: all, or some, evenly spread
    keys
        the largest first
    schemas, compressions
        of the opened parts: name and parts
    machine
        what the rows were computed on: name, and the values found
    """

    size_bytes: int
    parts: int
    pieces: int
    opened: int
    keys: tuple[KeyStorage, ...]
    schemas: tuple[tuple[str, int], ...]
    compressions: tuple[tuple[str, int], ...]
    machine: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(slots=True)
class _Found:
    """Bytes by key, in memory and on disk, and the rest that parts tell."""

    memory: dict[str, int] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    schemas: dict[str, int] = field(default_factory=dict)
    compressions: dict[str, int] = field(default_factory=dict)
    machine: dict[str, dict[str, None]] = field(default_factory=dict)
    opened: int = 0


def store_bytes(subject: Subject) -> Storage:
    """Sum what lies in ``parts/``."""
    paths = subject.store.parts()
    found = _Found()
    for i in sorted({round(i) for i in np.linspace(0, len(paths) - 1, min(len(paths), PARTS_OPENED))}):
        try:
            _look(paths[i], found)
        except FileNotFoundError:
            continue  # merged by a run since it was listed
        except StoreError as error:
            subject.problems.append(str(error))
    keys = [_key(subject, info, found) for info in subject.store.keys()]  # noqa: SIM118
    most = max((key.size_bytes for key in keys), default=0) or 1
    shown = [replace(key, percent=100 * key.size_bytes / most) for key in keys]
    sizes = [size for path in paths if (size := _size(path)) is not None]
    return Storage(
        sum(sizes),
        len(sizes),
        sum(path.name.endswith(".piece.h5") for path in paths),
        found.opened,
        tuple(sorted(shown, key=lambda key: (-key.size_bytes, key.key))),
        tuple(sorted(found.schemas.items())),
        tuple(sorted(found.compressions.items())),
        tuple((name, tuple(values)[:VALUES_SHOWN]) for name, values in found.machine.items()),
    )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # merged by a run since it was listed
        return None


def _look(path: Path, found: _Found) -> None:
    index = index_part(path)
    with open_part(path) as file, reading(path):
        for key in index.keys:
            for name in ROW_SETS:
                dataset = file[key][name]
                found.memory[key] = found.memory.get(key, 0) + dataset.nbytes
                found.disk[key] = found.disk.get(key, 0) + dataset.id.get_storage_size()
    for counts, name in ((found.schemas, str(index.schema)), (found.compressions, index.compression)):
        counts[name] = counts.get(name, 0) + 1
    for told in json.loads(index.provenance):
        for name, value in told.items():
            found.machine.setdefault(name, {})[_text(value)] = None
    found.opened += 1


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _key(subject: Subject, info: KeyInfo, found: _Found) -> KeyStorage:
    counts = subject.store.counts(info.key)
    rows = int(counts.sum())
    size = rows * int(np.prod(info.dims, dtype=np.int64)) * np.dtype(info.storage).itemsize
    memory = found.memory.get(info.key, 0)
    dims = " × ".join(map(str, info.dims))
    stored = found.disk[info.key] / memory if memory else None
    return KeyStorage(info.key, dims, info.storage, len(counts), rows, size, 0.0, stored)
