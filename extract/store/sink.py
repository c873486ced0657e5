"""A file that becomes whole or never appears: hidden temporary, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from extract.errors import StoreUnwritable

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space or have it raised",
    errno.EFBIG: "the file system or `ulimit -f` does not allow files that large; raise the limit or use another disk",
    errno.EROFS: "the file system is mounted read-only; mount it writable or choose another --out",
    errno.EACCES: "you may not write there; change the permissions or choose another --out",
    errno.EPERM: "you may not write there; change the permissions or choose another --out",
    errno.ENOENT: "the store's folder is gone; do not move or delete a store during a run",
    errno.EIO: "the disk reports an input/output error; check its health",
}


_PIECE_BYTES = 2**18


class Sink:
    """The file object that HDF5 writes to.

    HDF5 does not survive a failed write: the file can then be neither flushed nor closed, and the process hangs or dies
    at exit. So a failure is kept in `error`, whatever HDF5 still writes is dropped, and :func:`sealed` raises afterwards.

    Parameters
    ----------
    fd
        descriptor of an empty file, open for reading and writing

    Attributes
    ----------
    error
        the first failure, or None
    """

    def __init__(self, fd: int) -> None:
        self.error: OSError | None = None
        self._fd = fd
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; no file is touched."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._fd).st_size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where the next read or write goes, in bytes."""
        return self._at

    def write(self, data: memoryview) -> int:
        """Write all of `data`, or keep the failure."""
        rest = memoryview(data)
        at = self._at
        try:
            while rest and self.error is None:
                done = os.pwrite(self._fd, rest, at)
                rest, at = rest[done:], at + done
        except OSError as error:
            self.error = error
        self._at += len(data)
        return len(data)

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` with what was written at this place."""
        done = os.preadv(self._fd, [buffer], self._at)
        if self.error is not None:
            done = len(buffer)
        self._at += done
        return done

    def truncate(self, size: int) -> int:
        """Cut or extend the file to `size` bytes."""
        try:
            if self.error is None:
                os.ftruncate(self._fd, size)
        except OSError as error:
            self.error = error
        return size

    def digest(self, start: int) -> str:
        """sha256 in hex of what was written from byte `start` on; nothing where a write failed."""
        total, at = hashlib.sha256(), start
        while self.error is None and (piece := os.pread(self._fd, _PIECE_BYTES, at)):
            total.update(piece)
            at += len(piece)
        return total.hexdigest()

    def flush(self) -> None:
        """Nothing is buffered here; durability is the fsync in :func:`sealed`."""


@contextmanager
def sealed(path: Path, needed: int) -> Iterator[Sink]:
    """Write `path` so that it is there whole or not at all, whatever dies when.

    Parameters
    ----------
    path
        where the file shall appear; one that is there already is replaced
    needed
        bytes the file will take, for the message

    Raises
    ------
    StoreUnwritable
        no space, no permission, read-only, ...; the temporary is removed
    """
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fd = os.open(tmp, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise unwritable(path, needed, error) from error
    sink = Sink(fd)
    try:
        try:
            yield sink
        except (OSError, RuntimeError):
            if sink.error is None:
                raise
        if sink.error is not None:
            raise unwritable(path, needed, sink.error) from sink.error
        try:
            os.fsync(fd)
            os.rename(tmp, path)
            fsync_folder(path.parent)
        except OSError as error:
            raise unwritable(path, needed, error) from error
    finally:
        os.close(fd)
        tmp.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that have no fsync for folders
            raise
    finally:
        os.close(fd)


def unwritable(path: Path, needed: int, error: OSError) -> StoreUnwritable:
    """What to tell the user when `path`, of `needed` bytes, could not be written."""
    advice = _ADVICE.get(error.errno or 0, "see the system's message")
    return StoreUnwritable(
        f"cannot write {path} ({needed:,} bytes needed, {_free(path.parent)}): {error.strerror or error}: {advice}, "
        "then give the same command again; everything sealed so far is kept"
    )


def _free(folder: Path) -> str:
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return f"free space unknown: {error.strerror}"
    return f"{disk.f_bavail * disk.f_frsize:,} free"
