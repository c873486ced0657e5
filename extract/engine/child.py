"""Inside a lane's process, which extract.engine.local starts."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Literal, NoReturn

from extract.chunk import Chunk
from extract.engine.base import Failed, Finished, Lane, Ready

Order = Chunk | Literal["stop", "close"]
ORPHANED = 70  # exit status of a lane whose parent is gone; nobody is left to read it
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Opening:
    """The first thing a lane's process is sent: how to open its lane."""

    open_lane: Callable[[Any, str], Lane]
    spec: Any
    device: str


def main() -> NoReturn:
    """Open the lane, run chunks as they come, leave when told to or when the parent is gone.

    Arguments of the command line: file descriptor of the link, number of the lane, process id of the parent.
    """
    fd, lane, parent_pid = map(int, sys.argv[1:])
    die_with_parent(parent_pid)
    # A terminal's Ctrl-C and a scheduler's warning go to every process; it is for the parent to say what comes of them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
    os.set_inheritable(fd, False)
    link: Connection[Any, Order | Opening] = Connection(fd)
    try:
        status = _serve(link, lane)
    except BrokenPipeError:
        status = ORPHANED
    sys.stderr.flush()
    # Not sys.exit: a decoder's thread that hangs must not keep the process alive.
    os._exit(status)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends in whatever way (elsewhere than on Linux the link does)."""
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os._exit(ORPHANED)


def _serve(link: Connection[Any, Order | Opening], lane: int) -> int:
    try:
        opening = link.recv()
        assert isinstance(opening, Opening)
        inbox: SimpleQueue[Chunk | None] = SimpleQueue()
        stop = threading.Event()
        # Listens while models load and chunks run: a stop is seen at once, and so is the parent's end.
        threading.Thread(target=_listen, args=(link, inbox, stop), name="orders", daemon=True).start()
        worker = opening.open_lane(opening.spec, opening.device)
        link.send(Ready(lane))
        while (chunk := inbox.get()) is not None:
            if not stop.is_set():
                for word in worker.run(chunk, stop.is_set):
                    link.send(word)
            link.send(Finished(lane))
        worker.close()
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the process boundary: the error goes to the parent, whole
        link.send(Failed.of(lane, error))
        return 1
    return 0


def _listen(link: Connection[Any, Order | Opening], inbox: SimpleQueue[Chunk | None], stop: threading.Event) -> None:
    try:
        while True:
            match link.recv():
                case "stop":
                    stop.set()
                case "close":
                    inbox.put(None)
                case Chunk() as chunk:
                    inbox.put(chunk)
                case other:
                    raise TypeError(f"no order for a lane: {other!r}")
    except (EOFError, ConnectionResetError):
        os._exit(ORPHANED)
    except BaseException:  # noqa: BLE001 - without its orders the lane would wait for ever: out, and loudly
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
