"""The folder of an export: whose it is, whether it is complete, and that one process at a time writes into it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extract.errors import StoreBusy, StoreError
from extract.store.export.whole import TEMPORARY, sweep, whole
from extract.store.sink import unwritable

TOLD = "export.json"
LOCK = ".extract-lock"
COMPARED = ("layout", "keys", "ids", "options", "store")


def completed(out: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``export.json`` says where the same export is complete; None: there is none, or it is not complete.

    Raises
    ------
    StoreError
        the folder holds something else
    """
    told = _told(out, asked)
    if told is None or not told.get("complete"):
        return None
    if (out / LOCK).exists():  # it was killed after its last word
        (out / LOCK).unlink(missing_ok=True)
    return told


@contextmanager
def begun(out: Path, asked: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder of an export, which is begun or goes on in the block; what killed exports left is swept away.

    If the block fails before it has written anything, the folder is as it was before.

    Parameters
    ----------
    out
        of the export
    asked
        what is to be exported; the values of `COMPARED` and whatever else ``export.json`` shall say

    Raises
    ------
    StoreError
        the folder holds something else, or `out` is no folder
    StoreBusy
        another process holds it
    StoreUnwritable
        it cannot be written
    """
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise StoreError(f"{out} is a file or lies in one; an export is a folder: choose another with -o") from None
    except OSError as error:
        raise unwritable(out, 0, error) from error
    try:
        with _held(out):
            new = _told(out, asked) is None
            if new:
                _write(out, {**asked, "complete": False})
            sweep(out)
            try:
                yield
            except BaseException:
                if new and set(os.listdir(out)) <= {TOLD, LOCK}:
                    (out / TOLD).unlink()
                raise
    finally:
        if made and not os.listdir(out):
            out.rmdir()


def finish(out: Path, asked: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Say that the export is complete. Its files are brought to the disk first, so that a power cut takes none of them."""
    os.sync()
    _write(out, {**asked, **result, "complete": True})


@contextmanager
def _held(out: Path) -> Iterator[None]:
    path = out / LOCK
    while True:
        try:
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise unwritable(path, 0, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise StoreBusy(f"another process is writing {out}; wait for it to end") from None
        except OSError as error:
            os.close(fd)
            raise StoreError(f"cannot lock {path}: {error.strerror}; export to a file system that has locks") from error
        if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
            break
        os.close(fd)  # its holder ended between our opening and our locking it
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _told(out: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``export.json`` says; None: the folder is new or empty."""
    path = out / TOLD
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if out.is_dir() and any(name != LOCK and not TEMPORARY.fullmatch(name) for name in os.listdir(out)):
            raise StoreError(
                f"{out} is not empty, and no export began there (it has no {TOLD}); nothing is overwritten: choose "
                "another folder with -o, or empty this one"
            ) from None
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    try:
        told = json.loads(text)
        there = {name: told[name] for name in COMPARED}
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{path} is not of an export of ours; choose another folder with -o") from None
    if differing := [name for name in COMPARED if there[name] != asked[name]]:
        raise StoreError(_difference(out, differing, there, asked))
    assert isinstance(told, dict)
    return told


def _difference(out: Path, differing: list[str], there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    what = {
        "layout": f"the layout {there['layout']}, not {asked['layout']}",
        "keys": f"the features {', '.join(there['keys'])}, not {', '.join(asked['keys'])}",
        "ids": "other clips",
        "options": f"the options {there['options']}, not {asked['options']}",
        "store": "what the store held then; it has changed since",
    }
    return (
        f"{out} holds an export of {'; of '.join(what[name] for name in differing)}. Nothing is overwritten: delete "
        "that folder to export anew, or choose another with -o"
    )


def _write(out: Path, told: Mapping[str, Any]) -> None:
    text = json.dumps(told, indent=1, ensure_ascii=False).encode()
    with whole(out / TOLD, len(text)) as file:
        file.write(text)
