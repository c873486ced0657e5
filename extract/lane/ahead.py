"""Decoding ahead of the models: a few clips at a time on threads, each behind a short queue, so that memory stays bounded."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from extract.chunk import Todo
from extract.decode.clip import decode
from extract.decode.events import Event
from extract.errors import Bug, ExtractError
from extract.plan import Limits, Plan, Tap

BLOCKS_AHEAD = 3
_POLL_S = 0.1


class StoppedError(Exception):
    """The run was asked to stop in the middle of a clip: what came of it is dropped, the next run computes it."""


@dataclass(slots=True)
class Decoding:
    """One clip on its way: iterate over it for its events.

    Raises, while it is iterated over, the :class:`ClipError` for which the whole clip fails, any other ExtractError that
    concerns more than the clip, and :class:`StoppedError` once `stopping` says so, also while the decoder is silent.
    """

    todo: Todo
    taps: tuple[Tap, ...]
    stopping: Callable[[], bool]
    cpu_s: float = 0.0
    _queue: queue.Queue[Event | ExtractError | None] = field(default_factory=lambda: queue.Queue(maxsize=BLOCKS_AHEAD))

    def __iter__(self) -> Iterator[Event]:
        while True:
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                if self.stopping():
                    raise StoppedError from None
                continue
            if item is None:
                return
            if isinstance(item, ExtractError):
                raise item
            if self.stopping():
                raise StoppedError
            yield item


class Ahead:
    """Decodes `todos` in order on `threads` threads; the clip being consumed and the next ones are open, no more.

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
    """

    def __init__(self, todos: Sequence[Todo], plan: Plan, threads: int, stopping: Callable[[], bool]) -> None:
        self._decodings = [Decoding(todo, plan.taps(todo.keys), stopping) for todo in todos]
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
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _work(self) -> None:
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
                if not self._put(decoding, event):
                    return
            end: ExtractError | None = None
        except ExtractError as error:
            end = error
        except Exception as error:  # noqa: BLE001 - whatever a damaged file provokes is recorded as a Bug and the run goes on
            end = bug(error)
        decoding.cpu_s = time.thread_time() - started
        self._put(decoding, end)

    def _put(self, decoding: Decoding, item: Event | ExtractError | None) -> bool:
        while not self._cancelled.is_set():
            try:
                decoding._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def bug(error: BaseException) -> Bug:
    """An unforeseen error as something a person can report: its type, its words, and where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Bug(f"{type(error).__name__}: {error}{where}")
