"""What the tests of lanes let them do. Lanes are other processes, so it is here, where they can import it."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from extract.errors import StoreError


@dataclass(frozen=True)
class Task:
    """One number, how long it takes, and what goes wrong with it."""

    number: int
    folder: str
    seconds: float = 0.0
    fate: str = ""
    padding: str = ""


@dataclass(frozen=True)
class Told:
    """What a task found, and where it ran."""

    square: int
    pid: int
    device: str
    threads: str
    stopped: bool


def work(task: Task, device: str, stopping: Callable[[], bool]) -> Told:
    begun_s = time.time()
    note = Path(task.folder) / f"begun-{task.number}-{os.getpid()}"
    again = any(note.parent.glob(f"begun-{task.number}-*"))
    note.touch()
    if not (task.fate == "kill once" and again):
        meet(task.fate, note.parent)
    stopped = False
    while time.time() < begun_s + task.seconds and not stopped:
        time.sleep(0.01)
        stopped = stopping()
    if stopped:
        (Path(task.folder) / f"saved-{task.number}").touch()
    threads = " ".join(os.environ.get(f"{library}_NUM_THREADS", "") for library in ("OMP", "MKL"))
    return Told(task.number**2, os.getpid(), device, threads, stopped)


def meet(fate: str, folder: Path) -> None:
    match fate:
        case "kill" | "kill once":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segv":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "ours":
            raise StoreError("clip c7 is not in the store")
        case "bug":
            raise ValueError("nobody foresaw this")
        case "until 6":
            while not any(folder.glob("begun-6-*")):
                time.sleep(0.01)
        case "deaf":
            time.sleep(1000)


def here(task: int, device: str, stopping: Callable[[], bool]) -> int:
    import torch

    if task < 0:
        raise ValueError("negative")
    return torch.get_num_threads()


def unpicklable(task: int, device: str, stopping: Callable[[], bool]) -> object:
    return lambda: task
