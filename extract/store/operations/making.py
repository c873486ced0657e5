"""Stores made from other stores: whose the folder is, whether it is complete, and what comes along besides the rows.

``runs/made.json`` of such a store says what it was made from; a store that was half made is finished by the same command.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extract.errors import ManifestError, StoreBusy, StoreError
from extract.store.catalog import create_store, save_index
from extract.store.merge import sweep_tmp
from extract.store.runs import Lock, holder
from extract.store.sink import sealed, unwritable
from manifests.clip import Clip, write_manifest
from manifests.dense import Event, dense_path, write_dense

_MADE = Path("runs") / "made.json"
_EMPTY = {"parts", "runs", "lock"}
_HALF = re.compile(rf"\.{_MADE.name}\.[0-9]+\.tmp")  # of a command that was killed before it had said what it makes
_COPY_BYTES = 2**20


def quiet(store_path: Path) -> None:
    """Refuse to read a whole store while a run changes it. Nothing is written: the store may be a read-only copy.

    Raises
    ------
    StoreBusy
        somebody holds it; the message says who
    """
    who = holder(store_path)
    if who is not None:
        raise StoreBusy(
            f"{store_path} is held by process {who.get('pid')} on {who.get('host')} since {who.get('started')}: wait for "
            "it to end, then give the command again"
        )


def made(out: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the making of a store came to, where it is complete; None: it is still to be made, or to be finished.

    Parameters
    ----------
    out
        folder of the store
    asked
        JSON-able, equal for the same command on the same content

    Raises
    ------
    StoreError
        the folder holds something else
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise StoreError(f"{out} is a file; choose another -o")
    try:
        told = json.loads((out / _MADE).read_bytes())
    except FileNotFoundError:
        there = [path for path in (*out.iterdir(), *out.glob("*/*")) if not _HALF.fullmatch(path.name)]
        if all(path.parent == out and path.name in _EMPTY for path in there):
            return None
        raise StoreError(f"{out} holds something else; choose another -o") from None
    except ValueError as error:
        raise StoreError(f"{out / _MADE} is no JSON ({error}); choose another -o") from error
    if told.get("asked") != asked:
        raise StoreError(
            f"{out} was made by another command or of other content ({out / _MADE} says of what); choose another -o"
        )
    result: dict[str, Any] | None = told.get("result")
    return result


@contextmanager
def making(out: Path, asked: Mapping[str, Any]) -> Iterator[None]:
    """Hold a store that is made inside the block, or finished. See :func:`made`.

    Raises
    ------
    StoreError, StoreBusy, StoreUnwritable
        the folder holds something else, somebody holds it, it cannot be written
    """
    made(out, asked)
    create_store(out)
    with Lock(out):
        for folder in (out, out / "parts", out / "runs"):
            sweep_tmp(folder)
        if not (out / _MADE).exists():
            _tell(out, {"asked": asked})
        yield


def finish(out: Path, asked: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write the store's index and say that it is complete; call it as the last thing inside :func:`making`."""
    save_index(out)
    _tell(out, {"asked": asked, "result": result})


def _tell(out: Path, what: Mapping[str, Any]) -> None:
    text = json.dumps(what, indent=1).encode() + b"\n"
    with sealed(out / _MADE, len(text)) as sink:
        sink.write(memoryview(text))


def put_manifest(out: Path, clips: Sequence[Clip], events: Sequence[Event]) -> None:
    """Write the store's copy of a manifest; nothing where there is none.

    Raises
    ------
    StoreUnwritable
        no space, no permission, ...
    """
    path = out / "manifest.csv"
    try:
        if clips:
            write_manifest(path, clips)
        if events:
            write_dense(dense_path(path), events)
    except ManifestError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise unwritable(path, 100 * (len(clips) + len(events)), error.__cause__) from error


def copy_ledgers(stores: Iterable[Path], out: Path) -> int:
    """Copy the ledgers of runs; how many there are. Equal ones are kept once, a second one of the same name gets a number."""
    taken: dict[str, Path] = {}
    for store in stores:
        for path in sorted((store / "runs").glob("*.jsonl")):
            name, number = path.name, 1
            while name in taken and not filecmp.cmp(taken[name], path, shallow=False):
                number += 1
                name = f"{path.stem}-{number}.jsonl"
            if name not in taken:
                taken[name] = path
                _copy(path, out / "runs" / name)
    return len(taken)


def _copy(source: Path, target: Path) -> None:
    stat = source.stat()
    if not target.exists():
        with sealed(target, stat.st_size) as sink, open(source, "rb") as file:
            while piece := file.read(_COPY_BYTES):
                sink.write(memoryview(piece))
    os.utime(target, ns=(stat.st_mtime_ns, stat.st_mtime_ns))  # ledgers of one second are told apart by it
