"""The engine of a cluster: each lane is a Ray actor; clips go out, receipts come back, pixels never cross a process.

The crash policy is the parent's, as with processes: Ray restarts and retries nothing.
"""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic

from backbones.registry import PLUGINS
from extract.chunk import Answer, Chunk, Progress, Receipt
from extract.engine.base import Event, Failed, Finished, Lane, Lost, OpenLane, Ready, SpecT
from extract.errors import ExtractError, PlanError

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise PlanError(
        f"the ray engine needs the package ray, which this Python cannot import ({error}): "
        f"pip install 'ray>=2.50', or use --engine local"
    ) from error

PROBE_S = 10.0
GRACE_S = 5.0  # for idle lanes to close their models before they are killed
OBJECT_STORE_BYTES = 100 * 2**20  # of a cluster started here; nothing of size travels, and Ray's least is 75 MB
log = logging.getLogger(__name__)


class RayEngine(Generic[SpecT]):
    """Lanes as Ray actors, placed wherever the cluster has room.

    Every node of a cluster given by `address` needs: this project at this version in the Python environment that Ray
    runs there (``pip install``; nothing is shipped by us), the same versions of Ray and Python, and the clips, the store
    and the folders of plug-ins under the same paths as here (a shared file system). This process must run on one of the
    nodes. A cluster that it is connected to already is used and left as it is.

    Parameters
    ----------
    open_lane, spec
        how to open a lane; pickled by reference, so defined in a module that can be imported on every node
    lanes
        how many, >= 1
    device
        of every lane; Ray shows each actor only the GPUs it was given, so ``cuda:0`` is right on every node
    num_cpus, num_gpus
        what one lane occupies; ``num_gpus=0.5`` puts two lanes on a GPU
    threads_per_lane
        sets ``OMP_NUM_THREADS`` and ``MKL_NUM_THREADS`` in the lanes; None: as Ray sets them
    address
        of a running cluster, ``host:port`` as ``ray start`` prints it, or ``auto``; None: start one on this machine,
        and end it with `close`

    Raises
    ------
    PlanError
        fewer than one lane or thread
    ExtractError
        the cluster cannot be reached, or has less than the lanes need together
    """

    def __init__(
        self,
        open_lane: OpenLane[SpecT],
        spec: SpecT,
        lanes: int,
        *,
        device: str = "cpu",
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        threads_per_lane: int | None = None,
        address: str | None = None,
    ) -> None:
        if lanes < 1:
            raise PlanError(f"the ray engine needs at least one lane; got {lanes}")
        if threads_per_lane is not None and threads_per_lane < 1:
            raise PlanError(f"a lane needs at least one thread; got threads_per_lane={threads_per_lane}")
        self._opening = (open_lane, spec, device)
        self._lanes: list[_Placed | None] = [None] * lanes
        needs = {"CPU": num_cpus * lanes, "GPU": num_gpus * lanes}
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(address, needs)
        has = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if short := [f"{need:g} {kind}" for kind, need in needs.items() if need > has.get(kind, 0.0)]:
            total = f"{has.get('CPU', 0.0):g} CPU and {has.get('GPU', 0.0):g} GPU"
            self.close()
            raise ExtractError(
                f"{lanes} lanes need {' and '.join(short)}, and the Ray cluster has {total}: "
                f"use fewer --lanes, or add nodes"
            )
        variables = _plugins()
        if threads_per_lane is not None:
            variables |= {"OMP_NUM_THREADS": str(threads_per_lane), "MKL_NUM_THREADS": str(threads_per_lane)}
        self._options: dict[str, Any] = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        } | ({"runtime_env": {"env_vars": variables}} if variables else {})

    @property
    def lanes(self) -> int:
        """How many lanes there are."""
        return len(self._lanes)

    def submit(self, chunk: Chunk, lane: int) -> None:
        """Give a chunk to a lane; places its actor if it has none."""
        placed = self._lanes[lane]
        if placed is None:
            # One thread for the work, so that chunks run in order, and one that hears `stop` meanwhile.
            groups: dict[str, Any] = {"concurrency_groups": {"work": 1, "control": 1}}
            actor_class: Any = ray.remote(**groups)(_Actor)
            actor = actor_class.options(**self._options).remote(lane)
            opening = actor.open.options(concurrency_group="work").remote(*self._opening)
            placed = self._lanes[lane] = _Placed(actor, opening)
        run = placed.actor.run.options(concurrency_group="work", num_returns="streaming")
        placed.streams.append(run.remote(chunk))

    def wait(self, timeout_s: float) -> list[Event]:
        """What happened since the last call; returns at the first event, or with none after `timeout_s` seconds."""
        end_s = time.monotonic() + timeout_s
        while True:
            sources = [placed.source for placed in self._lanes if placed and placed.source is not None]
            left_s = max(0.0, end_s - time.monotonic())
            if sources:
                ray.wait(sources, timeout=left_s, fetch_local=False)
            else:
                time.sleep(left_s)
            events = [event for lane in range(len(self._lanes)) for event in self._news(lane)]
            if events or time.monotonic() >= end_s:
                return events

    def stop(self) -> None:
        """Ask every lane to seal what it has and to finish its chunks early."""
        for placed in filter(None, self._lanes):
            placed.actor.stop.options(concurrency_group="control").remote()

    def close(self) -> None:
        """End all lanes: idle ones close their models, the others are killed after a grace of five seconds."""
        placed = [each for each in self._lanes if each]
        self._lanes = [None] * len(self._lanes)
        if ray.is_initialized():
            for each in placed:
                each.actor.stop.options(concurrency_group="control").remote()
            closing = [each.actor.close.options(concurrency_group="work").remote() for each in placed]
            if closing:
                ray.wait(closing, num_returns=len(closing), timeout=GRACE_S, fetch_local=False)
            for each in placed:
                ray.kill(each.actor, no_restart=True)
            if self._ours:
                ray.shutdown()

    def _news(self, lane: int) -> Iterator[Event]:
        while (placed := self._lanes[lane]) and placed.source is not None:
            ready, _ = ray.wait([placed.source], timeout=0, fetch_local=False)
            if not ready:
                return
            event = _next(placed, lane)
            if isinstance(event, Lost | Failed):
                # A lane that is only out of reach must not go on sealing beside its successor.
                ray.kill(placed.actor, no_restart=True)
                self._lanes[lane] = None
            yield event


@dataclass(slots=True)
class _Placed:
    """One lane's actor, and what it still owes us, in the order in which it comes."""

    actor: Any
    opening: Any | None
    streams: deque[Any] = field(default_factory=deque)

    @property
    def source(self) -> Any | None:
        if self.opening is not None:
            return self.opening
        return self.streams[0] if self.streams else None


def _next(placed: _Placed, lane: int) -> Event:
    try:
        if placed.opening is not None:
            word = ray.get(placed.opening)
            placed.opening = None
        else:
            word = ray.get(next(placed.streams[0]))
    except StopIteration:
        placed.streams.popleft()
        return Finished(lane)
    except RayTaskError as error:
        story = f"Ray could not run lane {lane}; is this project installed on every node?\n{error}"
        return Failed(lane, "ExtractError", story)
    except RayError as error:
        return Lost(lane, describe_loss(error))
    assert isinstance(word, Receipt | Progress | Answer | Ready | Failed)
    return word


class _Actor:
    """A lane's worker process. Errors come back as words, for Ray would wrap them in classes of its own."""

    def __init__(self, lane: int) -> None:
        self._number = lane
        self._lane: Lane | None = None
        self._stop = threading.Event()

    def open(self, open_lane: OpenLane[Any], spec: Any, device: str) -> Ready | Failed:
        try:
            self._lane = open_lane(spec, device)
        except Exception as error:  # noqa: BLE001 - the process boundary: the error goes to the parent, whole
            return Failed.of(self._number, error)
        return Ready(self._number)

    def run(self, chunk: Chunk) -> Iterator[Receipt | Progress | Answer | Failed]:
        if self._stop.is_set() or self._lane is None:
            return
        try:
            yield from self._lane.run(chunk, self._stop.is_set)
        except Exception as error:  # noqa: BLE001 - as above
            yield Failed.of(self._number, error)

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        if self._lane is not None:
            self._lane.close()


def describe_loss(error: RayError) -> str:
    """What Ray says of a worker's death, without its advice; the exit status stays with Ray."""
    story = " ".join(str(error).split())
    detail = re.search(r"exit detail: (.*?)(?: Some common causes|$)", story)
    return f"its Ray worker died: {detail.group(1) if detail else story[:300]}"


def _plugins() -> dict[str, str]:
    """The folders of plug-ins, for lanes whose environment and working directory are not those of this process."""
    folders = [os.path.abspath(folder) for folder in os.environ.get(PLUGINS, "").split(os.pathsep) if folder]
    return {PLUGINS: os.pathsep.join(folders)} if folders else {}


def _connect(address: str | None, needs: dict[str, float]) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray installs its own handler of SIGTERM; what a signal means is for the caller to say.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cpus = max(math.ceil(needs["CPU"]), os.cpu_count() or 1)
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    elif address != "auto":
        _probe(address)
    try:
        ray.init(address=address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"connect to the Ray cluster at {address!r}" if address else "start a Ray cluster on this machine"
        raise ExtractError(f"cannot {where}: {error}") from error
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _probe(address: str) -> None:
    """Ask for the cluster's port first: where nobody listens, Ray 2.60 waits for minutes, deaf to signals."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise ExtractError(
            f"cannot use {address!r} as the address of a Ray cluster: give host:port as `ray start` prints it, or auto, "
            f"and run this on one of its nodes"
        )
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except (OSError, OverflowError) as error:
        raise ExtractError(
            f"cannot connect to the Ray cluster at {address!r}: {error}. Is it running (`ray status`), and is this one of "
            f"its nodes?"
        ) from error
