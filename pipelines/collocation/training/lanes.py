"""Runs a list of tasks in parallel lanes: processes of this machine, or actors of a Ray cluster.

The processes, the cluster and what happens when this process ends are those of extract.engine: here a task is a chunk
without clips, named by its number. ADR 3 tells why lanes are not made with multiprocessing.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from extract.chunk import Answer, Chunk
from extract.engine.base import Engine, Failed, Finished, Lost
from extract.engine.cores import usable_cores
from extract.engine.drive import POLL_S
from extract.errors import ExtractError, PlanError, nearest

TaskT = TypeVar("TaskT")
TaskT_contra = TypeVar("TaskT_contra", contravariant=True)
ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)

ENGINES = ("local", "ray")
SHOWN = 120  # characters of a task in an error
log = logging.getLogger(__name__)


class Work(Protocol[TaskT_contra, ResultT_co]):
    """Does one task on one device: a function of a module that can be imported, for it travels by name."""

    def __call__(self, task: TaskT_contra, device: str, stopping: Callable[[], bool], /) -> ResultT_co:
        """Returns the result; early, with its progress saved, once `stopping()` is true."""
        ...


def run_tasks(
    work: Work[TaskT, ResultT],
    tasks: Sequence[TaskT],
    *,
    lanes: int = 1,
    devices: Sequence[str] = ("cpu",),
    engine: str = "local",
    address: str | None = None,
    threads: int | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[tuple[int, ResultT], None, None]:
    """Run tasks that do not depend on each other, each in the next lane that is free, in the order given.

    One local lane is this process. Otherwise a lane is a process of its own, which starts at its first task and lives
    until the last task is done, so that imports and maps of files are paid once. Lanes do not hear Ctrl-C and end when
    this process ends in whatever way.

    A lane that dies has its task given once more to a new process: a task saves its progress and goes on from there.

    Parameters
    ----------
    work
        does one task
    tasks
        each pickles, and so does its result; what they write to disk they write where every lane sees it
    lanes
        how many tasks run at a time, >= 1; never more processes than tasks
    devices
        lane ``i`` gets ``devices[i % len(devices)]``. With Ray all lanes have a GPU of their own (``cuda``), or none:
        the cluster chooses which
    engine
        ``local``: this machine; ``ray``: a cluster
    address
        of a running Ray cluster, ``host:port`` or ``auto``; None: the one this process is connected to, or else one
        started here that ends with the last task
    threads
        of one torch operator in each lane, >= 1; None: the cores of this machine divided among `lanes`, and in one
        local lane as they are
    stopping
        asked several times a second between results; once true, no task begins, and `work` is told by its own
        ``stopping``

    Yields
    ------
    (int, result)
        number of the task from 0, and what `work` returned, in the order in which they finish. After `stopping` the
        results are those that `work` returned early. A loop that may be left before its end closes the generator
        (``contextlib.closing``): that ends the lanes, after a grace of five seconds by force

    Raises
    ------
    PlanError
        no device, fewer than one lane or thread, CPUs and GPUs mixed for Ray, or Ray is not installed
    UnknownName
        no such engine
    ExtractError
        one that `work` raised, with its class and message; any other error raised in a lane other than this process,
        with its traceback; a task during which two lanes died; a cluster that cannot be reached or is too small.
        Results that were there before have been yielded; tasks that still run are told to stop
    """
    if lanes < 1:
        raise PlanError(f"tasks need at least one lane; got lanes={lanes}")
    if not devices:
        raise PlanError("a lane needs a device such as cpu or cuda:0; got an empty list of devices")
    if threads is not None and threads < 1:
        raise PlanError(f"a lane needs at least one thread; got threads={threads}")
    if engine not in ENGINES:
        raise nearest(engine, list(ENGINES), "engine")
    if engine == "local" and lanes == 1:
        return _here(work, tasks, devices[0], threads, stopping)
    share = threads or max(1, usable_cores() // lanes)
    placed = [devices[lane % len(devices)] for lane in range(min(lanes, len(tasks)))]
    job = _Job(work, tuple(tasks), share)
    return _apart(_opener(job, engine, placed, address), tasks, stopping)


# ---- in this process -------------------------------------------------------------------------------------------------


def _here(
    work: Work[TaskT, ResultT], tasks: Sequence[TaskT], device: str, threads: int | None, stopping: Callable[[], bool]
) -> Generator[tuple[int, ResultT], None, None]:
    for number, task in enumerate(tasks):
        if stopping():
            return
        # set around each task, so that whoever takes the results has the threads it had
        before = _set_threads(threads)
        try:
            result = work(task, device, stopping)
        finally:
            _set_threads(before)
        yield number, result


def _set_threads(threads: int | None) -> int | None:
    """Sets torch's threads, if any are given; returns how many there were."""
    if threads is None:
        return None
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    return before


# ---- in lanes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Job(Generic[TaskT, ResultT]):
    work: Work[TaskT, ResultT]
    tasks: tuple[TaskT, ...]
    threads: int


@dataclass(frozen=True, slots=True)
class _TaskLane(Generic[TaskT, ResultT]):
    job: _Job[TaskT, ResultT]
    device: str

    def run(self, chunk: Chunk, stopping: Callable[[], bool]) -> Iterator[Answer]:
        yield Answer(chunk.name, self.job.work(self.job.tasks[int(chunk.name)], self.device, stopping))

    def close(self) -> None:
        pass


def _open_lane(job: _Job[TaskT, ResultT], device: str) -> _TaskLane[TaskT, ResultT]:
    # OMP_NUM_THREADS is set, but MKL takes no more threads from it than there are cores. A work that does not need
    # torch is spared the seconds of importing it.
    if "torch" in sys.modules:
        _set_threads(job.threads)
    return _TaskLane(job, device)


def _opener(job: _Job[Any, Any], engine: str, devices: Sequence[str], address: str | None) -> Callable[[], Engine]:
    """Refuses at once what it can; a cluster starts when the opener is called."""
    if engine == "local":
        from extract.engine.local import LocalEngine

        return lambda: LocalEngine(_open_lane, job, devices, threads_per_lane=job.threads)
    gpus = [device for device in devices if device.startswith("cuda")]
    if gpus and len(gpus) < len(devices):
        raise PlanError(f"with Ray the lanes are all on CPUs or all on GPUs; got the devices {', '.join(devices)}")
    from extract.engine.ray import RayEngine

    return lambda: RayEngine(
        _open_lane,
        job,
        len(devices),
        device="cuda:0" if gpus else devices[0],
        num_cpus=job.threads,
        num_gpus=1.0 if gpus else 0.0,
        threads_per_lane=job.threads,
        address=address,
    )


def _apart(
    opener: Callable[[], Engine], tasks: Sequence[Any], stopping: Callable[[], bool]
) -> Generator[tuple[int, Any], None, None]:
    if not tasks or stopping():
        return
    waiting, running = deque(range(len(tasks))), dict[int, int]()
    deaths: dict[int, Lost] = {}
    answered: set[int] = set()
    stopped = False
    with closing(opener()) as engine:
        while True:
            if not stopped and stopping():
                engine.stop()
                stopped = True
            for lane in range(engine.lanes):
                if waiting and lane not in running and not stopped:
                    running[lane] = waiting.popleft()
                    engine.submit(_chunk(running[lane]), lane)
            if not running:
                return
            answers: list[tuple[int, Any]] = []
            failure: ExtractError | None = None
            for event in engine.wait(POLL_S):
                match event:
                    case Answer():
                        answers.append((int(event.chunk), event.value))
                        answered.add(int(event.chunk))
                    case Finished():
                        del running[event.lane]
                    case Failed():
                        failure = failure or event.error
                    case Lost():
                        number = running.pop(event.lane, None)
                        if number is None or number in answered or stopped:
                            continue
                        log.warning("lane %d died at task %d: %s", event.lane, number, event.how)
                        if number in deaths:
                            failure = failure or _killer(number, tasks[number], (deaths[number], event))
                            continue
                        deaths[number] = event
                        # to the lane that died: of all of them it is the one with a fresh process
                        running[event.lane] = number
                        engine.submit(_chunk(number), event.lane)
            yield from answers
            if failure:
                raise failure


def _chunk(number: int) -> Chunk:
    return Chunk(str(number), ())


def _killer(number: int, task: object, deaths: tuple[Lost, Lost]) -> ExtractError:
    shown = repr(task)
    shown = shown if len(shown) <= SHOWN else shown[: SHOWN - 2] + " …"
    said = deaths[1].last_words
    return ExtractError(
        f"two lanes died during task {number}, {shown}: {deaths[0].how}, then {deaths[1].how}. Use fewer lanes, or "
        f"smaller tasks, so that each has more memory; what was saved is safe, and the same command goes on from there."
        + (f"\nThe end of its stderr:\n{said}" if said else "")
    )
