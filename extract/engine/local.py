"""The engine of one machine: each lane is a process of its own, so that a decoder's crash costs one clip."""

from __future__ import annotations

import logging
import multiprocessing.connection
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Generic

from extract.chunk import Chunk
from extract.engine.base import Event, Failed, Lost, OpenLane, SpecT
from extract.engine.child import Opening
from extract.errors import PlanError

GRACE_S = 5.0  # for a lane to close its models before it is killed
TAIL_LINES = 40  # of stderr kept for the report of a death: faulthandler prints every thread's stack
ENTRY = "from extract.engine.child import main; main()"
log = logging.getLogger(__name__)


class LocalEngine(Generic[SpecT]):
    """Lanes as processes on this machine.

    They start at their first chunk, ignore Ctrl-C and SIGTERM, and end when this process ends in whatever way. What they
    write to stdout or stderr goes to the log of this module, at level INFO.

    Parameters
    ----------
    open_lane, spec
        how to open a lane; pickled by reference, so defined in a module that can be imported (not in ``__main__``)
    devices
        one per lane; several lanes may share one
    threads_per_lane
        sets ``OMP_NUM_THREADS`` and ``MKL_NUM_THREADS`` in the lanes; None: as they are here

    Raises
    ------
    PlanError
        no devices, or fewer than one thread per lane
    """

    def __init__(
        self, open_lane: OpenLane[SpecT], spec: SpecT, devices: Sequence[str], *, threads_per_lane: int | None = None
    ) -> None:
        if not devices:
            raise PlanError("the local engine needs at least one lane; got an empty list of devices")
        if threads_per_lane is not None and threads_per_lane < 1:
            raise PlanError(f"a lane needs at least one thread; got threads_per_lane={threads_per_lane}")
        self._openings = [Opening(open_lane, spec, device) for device in devices]
        pickle.dumps(self._openings)  # what cannot be pickled is better refused here than in the middle of a run
        self._environment = _environment(threads_per_lane)
        self._workers: list[_Worker | None] = [None] * len(devices)

    @property
    def lanes(self) -> int:
        """How many lanes there are."""
        return len(self._openings)

    def submit(self, chunk: Chunk, lane: int) -> None:
        """Give a chunk to a lane; starts its process if it has none."""
        worker = self._workers[lane]
        if worker is None:
            worker = self._workers[lane] = _Worker(lane, self._openings[lane], self._environment)
        worker.send(chunk)

    def wait(self, timeout_s: float) -> list[Event]:
        """What happened since the last call; returns at the first event, or with none after `timeout_s` seconds."""
        end_s = time.monotonic() + timeout_s
        while True:
            alive = [worker for worker in self._workers if worker]
            left_s = max(0.0, end_s - time.monotonic())
            multiprocessing.connection.wait([source for worker in alive for source in worker.sources], left_s)
            events = [event for worker in alive for event in self._news(worker)]
            if events or time.monotonic() >= end_s:
                return events

    def stop(self) -> None:
        """Ask every lane to seal what it has and to finish its chunks early."""
        for worker in filter(None, self._workers):
            worker.send("stop")

    def close(self) -> None:
        """End all lanes: idle ones close their models, the others are killed after a grace of five seconds."""
        workers = [worker for worker in self._workers if worker]
        self._workers = [None] * len(self._workers)
        for worker in workers:
            worker.send("stop")
            worker.send("close")
        end_s = time.monotonic() + GRACE_S
        for worker in workers:
            worker.end(end_s)

    def _news(self, worker: _Worker) -> Iterator[Event]:
        # Asked before reading: what a process wrote before it died is all in the pipe once it is dead.
        dead = worker.dead
        failed = False
        for event in worker.read():
            failed = failed or isinstance(event, Failed)
            yield event
        if failed or dead or worker.ended:
            self._workers[worker.lane] = None
            status = worker.end(time.monotonic() + GRACE_S)
            if not failed:
                yield Lost(worker.lane, describe_exit(status), worker.last_words)


class _Worker:
    """One lane's process, the link to it, and the end of what it said."""

    def __init__(self, lane: int, opening: Opening, environment: dict[str, str]) -> None:
        self.lane = lane
        self.ended = False
        self._said: deque[str] = deque(maxlen=TAIL_LINES)
        self._half_line = b""
        self._link: Connection[Any, Any]
        self._link, theirs = multiprocessing.connection.Pipe(duplex=True)
        with theirs:
            # Not multiprocessing's spawn (docs/adr/0003): no importable __main__ is needed, threads are set before any
            # import, its stderr is ours from the first byte on, and its own group keeps the terminal's Ctrl-C from it.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", ENTRY, str(theirs.fileno()), str(lane), str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        assert self._process.stdout
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._silent = False
        self.send(opening)

    @property
    def sources(self) -> list[Any]:
        """What to wait on."""
        return [self._link] if self._silent else [self._link, self._output]

    @property
    def dead(self) -> bool:
        return self._process.poll() is not None

    @property
    def last_words(self) -> str:
        return "\n".join([*self._said, self._half_line.decode(errors="replace")]).strip()

    def send(self, order: Any) -> None:
        # A process that is just dying is reported by the next wait, with the chunk that could not be sent.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._link.send(order)

    def read(self) -> Iterator[Event]:
        """Everything it has sent; its output goes to the log."""
        self._listen()
        try:
            while not self.ended and self._link.poll():
                yield self._link.recv()
        except (EOFError, OSError):
            self.ended = True

    def _listen(self) -> None:
        while not self._silent:
            try:
                text = os.read(self._output.fileno(), 1 << 16)
            except BlockingIOError:
                return
            self._silent = not text
            *lines, self._half_line = (self._half_line + text).split(b"\n")
            for line in lines:
                self._said.append(line.decode(errors="replace"))
                log.info("lane %d: %s", self.lane, self._said[-1])

    def end(self, end_s: float) -> int:
        """Wait for its end until that time, then kill it; returns its exit status as subprocess has it."""
        try:
            while self._process.poll() is None and time.monotonic() < end_s:
                # Reading on, or it might wait for ever for room in a pipe.
                multiprocessing.connection.wait(self.sources, 0.05)
                for _ in self.read():
                    pass
                if self.ended:
                    self._process.wait(max(0.0, end_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        self._process.kill()
        status = self._process.wait()
        self._listen()
        self._link.close()
        self._output.close()
        return status


def describe_exit(status: int) -> str:
    """An exit status of subprocess, for a person: ``signal 11 (SIGSEGV)``, ``exit status 3``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:
        name = ""
    return f"signal {-status}{name}" + (", often out of memory" if -status == signal.SIGKILL else "")


def _environment(threads: int | None) -> dict[str, str]:
    # Whatever this process can import, its lanes can.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return environment
