"""Bringing what will be read soon from disk into the system's memory, one long stretch after the other."""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path

_BLOCK_BYTES = 2**22


class ReadAhead:
    """A thread that reads stretches of files and forgets them: the system keeps them. It ends when there is nothing left to do.

    What is in memory already is not read. `posix_fadvise` would need no thread, but brings in single pages: half as fast.
    """

    def __init__(self) -> None:
        self._todo: deque[tuple[Path, int, int]] = deque()
        self._lock = threading.Lock()
        self._running = False

    def ask(self, path: Path, start: int, stop: int) -> None:
        """Have ``[start, stop)`` of a file read; where the system does not tell what it has in memory, nothing is."""
        if not hasattr(os, "RWF_NOWAIT"):
            return
        with self._lock:
            self._todo.append((path, start, stop))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="extract read-ahead", daemon=True).start()

    def _run(self) -> None:
        buffer = memoryview(bytearray(_BLOCK_BYTES))
        while True:
            with self._lock:
                if not self._todo:
                    self._running = False
                    return
                path, start, stop = self._todo.popleft()
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # merged away, or unreadable: whoever needs the rows finds that out and says so
            try:
                for at in range(start, stop, _BLOCK_BYTES):
                    size = min(_BLOCK_BYTES, stop - at)
                    if not (_in_memory(fd, at) and _in_memory(fd, at + size - 1)):
                        os.preadv(fd, [buffer[:size]], at)
            except OSError:
                continue
            finally:
                os.close(fd)


def _in_memory(fd: int, at: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except OSError:  # not there without waiting, or a file system that cannot say
        return False
