"""Decoding ahead of the models: a few clips at a time on threads, in memory bounded for all of them together."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.chunk import Todo
from extract.decode.clip import decode
from extract.decode.events import Block, Event
from extract.errors import Bug, ExtractError
from extract.plan import Limits, Plan, Tap

BYTES_AHEAD = 96 * 1024 * 1024  # some six LLP clips, or twelve blocks of a long one
SMALLEST_BYTES = 4096  # what an event without pixels counts for
_POLL_S = 0.1


class StoppedError(Exception):
    """The run was asked to stop in the middle of a clip: what came of it is dropped, the next run computes it."""


class Shelf:
    """Events on their way from the decoders to the models, of all clips together; bounded in bytes.

    The clip that is being consumed may always hand over one more, so that clips decoded ahead of it cannot block it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._events: dict[str, deque[tuple[Event | ExtractError | None, int]]] = {}
        self._served = ""
        self._closed = False
        self._changed = threading.Condition()

    def put(self, clip_id: str, item: Event | ExtractError | None) -> bool:
        """Lay an item down for whoever consumes the clip, as soon as there is room; False: nobody will take it any more."""
        size = max(SMALLEST_BYTES, item.data.nbytes if isinstance(item, Block) else 0)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._admits(clip_id, size))
            if self._closed:
                return False
            self._events.setdefault(clip_id, deque()).append((item, size))
            self._used += size
            self._changed.notify_all()
            return True

    def take(self, clip_id: str, stopping: Callable[[], bool]) -> Event | ExtractError | None:
        """The clip's next item.

        Raises
        ------
        StoppedError
            `stopping` turned true first
        """
        with self._changed:
            self._served = clip_id
            self._changed.notify_all()
            while not self._changed.wait_for(lambda: bool(self._events.get(clip_id)), timeout=_POLL_S):
                if stopping():
                    raise StoppedError
            item, size = self._events[clip_id].popleft()
            self._used -= size
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Nobody takes anything any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _admits(self, clip_id: str, size: int) -> bool:
        return self._used + size <= self._limit or (clip_id == self._served and not self._events.get(clip_id))


@dataclass(slots=True)
class Decoding:
    """One clip on its way: iterate over it for its events.

    Raises, while it is iterated over, the :class:`ClipError` for which the whole clip fails, any other ExtractError that
    concerns more than the clip, and :class:`StoppedError` once `stopping` says so, also while the decoder is silent.
    """

    todo: Todo
    taps: tuple[Tap, ...]
    stopping: Callable[[], bool]
    shelf: Shelf
    cpu_s: float = 0.0

    def __iter__(self) -> Iterator[Event]:
        while True:
            item = self.shelf.take(self.todo.clip.clip_id, self.stopping)
            if item is None:
                return
            if isinstance(item, ExtractError):
                raise item
            if self.stopping():
                raise StoppedError
            yield item


class Ahead:
    """Decodes `todos` in order on `threads` threads, as far ahead of their consumption as BYTES_AHEAD allows.

    Parameters
    ----------
    todos
        the clips of a chunk
    plan
        gives each clip's taps and the limits
    threads
        clips decoded side by side, >= 1
    stopping
        once true, nothing more is given out
    niceness
        added to that of the decoding threads: where the models run on the same cores, they should not be interrupted by what
        is needed seconds later
    """

    def __init__(
        self, todos: Sequence[Todo], plan: Plan, threads: int, stopping: Callable[[], bool], niceness: int = 0
    ) -> None:
        self._shelf = Shelf(BYTES_AHEAD)
        self._decodings = [Decoding(todo, plan.taps(todo.keys), stopping, self._shelf) for todo in todos]
        self._niceness = niceness
        self._limits = plan.limits
        self._next = 0
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        # a daemon, so that a decoder stuck in a damaged file cannot keep a finished process alive
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{i}", daemon=True)
            for i in range(min(threads, len(todos)))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Iterator[Decoding]:
        return iter(self._decodings)

    def __exit__(self, *_: object) -> None:
        self._cancelled.set()
        self._shelf.close()
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _work(self) -> None:
        if self._niceness and sys.platform == "linux":  # elsewhere it would concern the whole process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + self._niceness)
        while not self._cancelled.is_set():
            with self._lock:
                if self._next == len(self._decodings):
                    return
                decoding = self._decodings[self._next]
                self._next += 1
            self._decode(decoding, self._limits)

    def _decode(self, decoding: Decoding, limits: Limits) -> None:
        clip = decoding.todo.clip
        started = time.thread_time()
        try:
            for event in decode(decoding.todo.path, clip.start_ns, clip.stop_ns, decoding.taps, limits):
                decoding.cpu_s = time.thread_time() - started
                if not self._shelf.put(clip.clip_id, event):
                    return
            end: ExtractError | None = None
        except ExtractError as error:
            end = error
        except Exception as error:  # noqa: BLE001 - whatever a damaged file provokes is recorded as a Bug and the run goes on
            end = bug(error)
        decoding.cpu_s = time.thread_time() - started
        self._shelf.put(clip.clip_id, end)


def bug(error: BaseException) -> Bug:
    """An unforeseen error as something a person can report: its type, its words, and where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Bug(f"{type(error).__name__}: {error}{where}")
