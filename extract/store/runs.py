"""Who holds a store, and the ledger of what was run on it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from extract.chunk import Receipt
from extract.errors import StoreBusy, StoreError
from extract.store.sink import fsync_folder, unwritable

# The lock belongs to the open file, which forked workers share: theirs are closed, or they would outlive a killed run
# holding its store.
_held: set[int] = set()


def _let_go() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


class Lock:
    """``with Lock(store_path):`` holds a store alone; the kernel lets go when the holder dies, however it dies.

    Parameters
    ----------
    store_path
        folder of the store

    Raises
    ------
    StoreBusy
        another run holds it; the message says which, where and since when
    StoreUnwritable
        the lock cannot be written
    StoreError
        the file system has no locks
    """

    def __init__(self, store_path: Path) -> None:
        self._path = store_path / "lock"
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise unwritable(self._path, 0, error) from error
        try:
            self._take(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        _held.add(fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd in _held:  # not in a forked child, where it is closed already
            _held.discard(self._fd)
            os.close(self._fd)
        self._fd = -1

    def _take(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(_busy(self._path.parent, _read_holder(fd))) from None
        except OSError as error:
            raise StoreError(
                f"cannot lock {self._path}: {error.strerror}; put the store on a file system that has locks"
            ) from error
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": _utc("%Y-%m-%dT%H:%M:%SZ")}
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(holder).encode(), 0)
        except OSError as error:
            raise unwritable(self._path, 256, error) from error


def holder(store_path: Path) -> dict[str, Any] | None:
    """Who holds the store now: ``pid``, ``host``, ``started`` (empty where it is not known), or None."""
    try:
        fd = os.open(store_path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"cannot read {store_path / 'lock'}, which says who holds the store: {error.strerror}"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(fd)
    finally:
        os.close(fd)
    return None


def _read_holder(fd: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(fd, 4096, 0))
    except ValueError:  # it took the lock and has not written its name yet
        return {}
    return found if isinstance(found, dict) else {}


def _busy(store: Path, who: Mapping[str, Any]) -> str:
    if not who:
        return f"another run has just taken {store}; wait for it to end"
    return (
        f"{store} is held by process {who.get('pid')} on {who.get('host')} since {who.get('started')}: "
        f"wait for it to end, or stop it there (kill {who.get('pid')}); what it has sealed is kept"
    )


@dataclass(frozen=True, slots=True)
class Run:
    """One ledger, read.

    Parameters
    ----------
    path
        of the ledger
    header
        command, manifest and its sha256, recipe, keys, flags, versions, host; ``started`` in UTC
    receipts
        one per sealed piece
    summary
        None: the run did not get to its end
    torn
        the last line was cut off by the death of the run
    """

    path: Path
    header: dict[str, Any]
    receipts: tuple[dict[str, Any], ...]
    summary: dict[str, Any] | None
    torn: bool


class Ledger:
    """What a run did, one JSON line each: a header, the receipts, a summary. Made by :meth:`start`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def start(cls, store: Path, header: Mapping[str, Any]) -> Ledger:
        """Begin a ledger in ``runs/`` of `store`.

        Raises
        ------
        StoreUnwritable
            it cannot be written
        """
        path = store / "runs" / f"{_utc('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(2)}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise unwritable(path, 4096, error) from error
        ledger = cls(path, fd)
        ledger._write("header", {"started": _utc("%Y-%m-%dT%H:%M:%SZ"), **header}, durable=True)
        fsync_folder(path.parent)
        return ledger

    def receipt(self, receipt: Receipt) -> None:
        """Note a sealed piece; durable when this returns."""
        self._write("receipt", asdict(receipt), durable=True)

    def note(self, what: Mapping[str, Any]) -> None:
        """Note anything else, such as a lost worker."""
        self._write("note", what, durable=False)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary and close."""
        self._write("summary", {"ended": _utc("%Y-%m-%dT%H:%M:%SZ"), **summary}, durable=True)
        self.close()

    def close(self) -> None:
        """Close without a summary: the run was stopped."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _write(self, kind: str, what: Mapping[str, Any], *, durable: bool) -> None:
        line = json.dumps({"line": kind, **what}, ensure_ascii=True).encode() + b"\n"
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if durable:
                os.fsync(self._fd)
        except OSError as error:
            raise unwritable(self.path, len(line), error) from error


def read_run(path: Path) -> Run:
    """Read a ledger; a last line cut off by the death of the run is left out and said so in `torn`.

    Raises
    ------
    StoreError
        it has no header, or a line before the last is no JSON
    """
    raw = path.read_bytes().split(b"\n")
    torn = bool(raw.pop())
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(raw, 1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise StoreError(
                f"{path}:{number} is no ledger line: {error}; the store itself does not need it"
            ) from error
    kinds = [line.pop("line", "") for line in lines]
    if not kinds or kinds[0] != "header":
        raise StoreError(f"{path} has no header: the run died at its very start; the file may be deleted")
    summary = next((line for kind, line in zip(kinds, lines, strict=True) if kind == "summary"), None)
    receipts = tuple(line for kind, line in zip(kinds, lines, strict=True) if kind == "receipt")
    return Run(path, lines[0], receipts, summary, torn)


def last_run(store: Path) -> Path | None:
    """The ledger begun last, or None."""
    # Two runs within one second have names of random order.
    runs = sorted((store / "runs").glob("*.jsonl"), key=lambda path: (path.name[:16], path.stat().st_mtime_ns))
    return runs[-1] if runs else None


def _utc(form: str) -> str:
    return time.strftime(form, time.gmtime())
