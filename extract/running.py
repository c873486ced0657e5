"""Carrying out a job: lock, chunks, engine, receipts, merging, summary."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from extract.chunk import Chunk, Receipt
from extract.engine.base import Engine, Event, Lost, make_chunks, slice_clips
from extract.engine.drive import drive
from extract.errors import NotFound
from extract.job import Job
from extract.lane import LaneSpec, key_info, open_lane
from extract.rates import Rate, remember
from extract.store.catalog import Store, create_store
from extract.store.part import drop_remarks, merge_chunk, seal_piece, sweep_tmp
from extract.store.rows import Remark
from extract.store.runs import Ledger, Lock
from extract.store.sink import unwritable


@dataclass(frozen=True, slots=True)
class Machine:
    """How to use the machine; none of it changes a stored number.

    Parameters
    ----------
    engine
        ``local`` (processes here) or ``ray``
    devices
        one per lane; lanes may share one
    address
        of a Ray cluster; empty: start one here
    batch
        rows per forward; None: each network's own
    decode_threads
        clips decoded side by side in each lane
    torch_threads
        threads of one operator on a CPU, per lane; None: the cores divided among the lanes
    chunk
        clips per part
    seal_s
        seconds of work that a kill may cost
    """

    engine: Literal["local", "ray"] = "local"
    devices: tuple[str, ...] = ("cpu",)
    address: str = ""
    batch: int | None = None
    decode_threads: int = 2
    torch_threads: int | None = None
    chunk: int = 64
    seal_s: float = 30.0


@dataclass(slots=True)
class Summary:
    """What a run did, and how its manifest stands now.

    Parameters
    ----------
    asked
        clips of the manifest that the run was about
    computed
        clips that left a lane in this run
    complete, masked, failed
        clips with every key; with rows a policy filled; with a key that failed. By clip, and now, not in this run alone
    reasons
        clips that failed, by reason; `masked_reasons` likewise
    seconds
        by stage, summed over lanes; ``wall`` of the run
    size_bytes
        of the store
    notes
        such as the cosine of a reduced precision to float32
    deaths
        worker processes lost
    interrupted
        the run was asked to stop before its end
    """

    asked: int
    computed: int = 0
    complete: int = 0
    masked: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    masked_reasons: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    size_bytes: int = 0
    notes: dict[str, float] = field(default_factory=dict)
    deaths: int = 0
    interrupted: bool = False


def run(
    job: Job,
    machine: Machine,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    on_start: Callable[[int, int], None] = lambda todo, asked: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Summary:
    """Compute what the store lacks of a job.

    Parameters
    ----------
    job
        what
    machine
        how
    on_event
        told everything the engine says
    on_start
        told how many clips are to be computed, of how many
    stopping
        once true, lanes seal what they have and the run ends

    Raises
    ------
    StoreBusy, StoreUnwritable
        another run holds the store; it cannot be written to
    ExtractError
        a lane cannot be opened, or the machine is unwell; what is sealed stays
    """
    create_store(job.store)
    with Lock(job.store):
        parts = job.store / "parts"
        sweep_tmp(parts)
        merge_leftovers(job, machine)
        _forget_found(job)
        store = Store(job.store)
        done = settled(store)
        chunks = make_chunks(
            job.clips, job.paths, job.plan.keys, lambda clip_id: done.get(clip_id, frozenset()), machine.chunk
        )
        todo = sum(len(chunk.todos) for chunk in chunks)
        on_start(todo, len(job.clips))
        summary = Summary(asked=len(job.clips))
        if chunks:
            _compute(job, machine, chunks, summary, on_event, stopping)
        store.refresh()
        _take_stock(job, store, summary)
        return summary


def settled(store: Store) -> dict[str, frozenset[str]]:
    """Keys that need nothing any more, by clip id: there are rows, or a remark says why there are none."""
    keys: dict[str, set[str]] = {clip_id: set(found) for clip_id, found in store.have().items()}
    for remark in (*store.failed(), *store.masked()):
        keys.setdefault(remark.clip_id, set()).add(remark.key)
    return {clip_id: frozenset(found) for clip_id, found in keys.items()}


def merge_leftovers(job: Job, machine: Machine) -> None:
    """Merge the pieces that an interrupted run left of chunks that were complete."""
    parts = job.store / "parts"
    if not any(parts.glob("*.piece.h5")):
        return
    done = settled(Store(job.store))
    keys = set(job.plan.keys)
    for name, clips in slice_clips(job.clips, job.plan.keys, machine.chunk).items():
        if all(keys <= done.get(clip.clip_id, frozenset()) for clip in clips):
            merge_chunk(parts, name, [clip.clip_id for clip in clips])


def _forget_found(job: Job) -> None:
    """Failures of files that were not there and now are: they are to be computed."""
    store = Store(job.store)
    here = {
        remark.clip_id
        for remark in store.failed()
        if remark.reason == NotFound.reason and Path(job.paths.get(remark.clip_id, "")).is_file()
    }
    if here:
        drop_remarks(job.store / "parts", lambda r: r.reason == NotFound.reason and r.clip_id in here)


def _compute(
    job: Job,
    machine: Machine,
    chunks: list[Chunk],
    summary: Summary,
    on_event: Callable[[Event], None],
    stopping: Callable[[], bool],
) -> None:
    parts = job.store / "parts"
    orders = {
        name: [clip.clip_id for clip in clips]
        for name, clips in slice_clips(job.clips, job.plan.keys, machine.chunk).items()
    }
    started = time.monotonic()
    _keep_manifest(job)
    ledger = Ledger.start(job.store, header(job, machine))

    def follow(event: Event) -> None:
        if isinstance(event, Receipt):
            ledger.receipt(event)
            summary.computed += len(event.clip_ids)
            summary.notes |= event.notes
            for stage, seconds in event.seconds.items():
                summary.seconds[stage] = summary.seconds.get(stage, 0.0) + seconds
        elif isinstance(event, Lost):
            summary.deaths += 1
            ledger.note({"lost": event.how, "lane": event.lane})
        on_event(event)

    def sealed(chunk: Chunk) -> set[str]:
        have = settled(Store(job.store))
        return {todo.clip.clip_id for todo in chunk.todos if set(todo.keys) <= have.get(todo.clip.clip_id, frozenset())}

    def record_crash(name: str, remarks: tuple[Remark, ...]) -> None:
        infos = [key_info(feature) for feature in job.plan.features]
        seal_piece(parts, name, orders[name], infos, (), remarks, (), {"recorded by": "the run, after a worker died"})

    def merge(name: str) -> None:
        merge_chunk(parts, name, orders[name])

    try:
        with contextlib.closing(_engine(job, machine)) as engine:
            drive(
                engine,
                chunks,
                sealed=sealed,
                on_event=follow,
                on_chunk_done=merge,
                record_crash=record_crash,
                stopping=stopping,
            )
        summary.interrupted = stopping()
        summary.seconds["wall"] = time.monotonic() - started
        ledger.finish(
            {key: value for key, value in asdict(summary).items() if key in ("computed", "seconds", "deaths")}
        )
    finally:
        ledger.close()


def _engine(job: Job, machine: Machine) -> Engine:
    from extract.engine.cores import threads_per_lane

    threads = machine.torch_threads or threads_per_lane(machine.devices)
    spec = LaneSpec(
        plan=job.plan,
        parts=str((job.store / "parts").absolute()),
        weights=job.choices.weights,
        allow_unverified=job.choices.allow_unverified,
        batch=machine.batch,
        decode_threads=machine.decode_threads,
        torch_threads=threads,
        seal_s=machine.seal_s,
    )
    if machine.engine == "ray":
        from extract.engine.ray import RayEngine

        gpus = [device for device in machine.devices if device.startswith("cuda")]
        lanes = len(machine.devices)
        return RayEngine(
            open_lane,
            spec,
            lanes,
            device="cuda:0" if gpus else machine.devices[0],
            num_cpus=threads,
            num_gpus=len(set(gpus)) / lanes if gpus else 0.0,
            threads_per_lane=threads,
            address=machine.address or None,
        )
    from extract.engine.local import LocalEngine

    return LocalEngine(open_lane, spec, machine.devices, threads_per_lane=threads)


def header(job: Job, machine: Machine) -> dict[str, Any]:
    """What a ledger says of its run before anything is computed: enough to do it again."""
    libraries = ("extract-av", "torch", "torchvision", "torchaudio", "av", "numpy", "h5py", "ray")
    return {
        "manifest": str(job.manifest.absolute()),
        "manifest_sha256": job.manifest_sha256,
        "clips": len(job.clips),
        "recipe": job.plan.recipe,
        "keys": list(job.plan.keys),
        "choices": asdict(job.choices),
        "machine": asdict(machine),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
        "host": platform.node(),
    }


def _remember_rate(job: Job, summary: Summary) -> None:
    """Runs of some length tell how fast this machine is; start-up would drown in shorter ones."""
    gmac = sum(feature.backbone.gmacs * (feature.grid.count or 10) for feature in job.plan.features) * summary.computed
    if summary.seconds["wall"] > 20.0 and summary.computed and gmac:
        remember(Rate(gmac / summary.seconds["wall"]))


def _keep_manifest(job: Job) -> None:
    try:
        shutil.copyfile(job.manifest, job.store / "manifest.csv.tmp")
        (job.store / "manifest.csv.tmp").replace(job.store / "manifest.csv")
    except OSError as error:
        raise unwritable(job.store / "manifest.csv", job.manifest.stat().st_size, error) from error


def _take_stock(job: Job, store: Store, summary: Summary) -> None:
    keys = set(job.plan.keys)
    wanted = {clip.clip_id for clip in job.clips}
    done = settled(store)
    failed = _concerning(store.failed(), wanted, keys)
    masked = _concerning(store.masked(), wanted, keys)
    failed_clips, masked_clips = {r.clip_id for r in failed}, {r.clip_id for r in masked}
    summary.failed = len(failed_clips)
    summary.masked = len(masked_clips - failed_clips)
    summary.complete = sum(
        keys <= done.get(clip_id, frozenset()) and clip_id not in failed_clips | masked_clips for clip_id in wanted
    )
    summary.reasons = by_reason(failed)
    summary.masked_reasons = by_reason(masked)
    summary.size_bytes = sum(path.stat().st_size for path in (job.store / "parts").glob("*.h5"))


def _concerning(remarks: Iterable[Remark], clips: set[str], keys: set[str]) -> list[Remark]:
    return [remark for remark in remarks if remark.clip_id in clips and remark.key in keys]


def by_reason(remarks: Iterable[Remark]) -> dict[str, int]:
    """Clips by reason, the most frequent first."""
    clips = {(remark.reason, remark.clip_id) for remark in remarks}
    return dict(Counter(reason for reason, _ in sorted(clips)).most_common())
