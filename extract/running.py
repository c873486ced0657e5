"""Carrying out a job: lock, chunks, engine, receipts, merging, summary."""

from __future__ import annotations

import contextlib
import filecmp
import importlib.metadata
import itertools
import logging
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from extract.chunk import Chunk, Progress, Receipt
from extract.engine.base import Engine, Event, Lost
from extract.engine.drive import drive
from extract.errors import StoreUnwritable
from extract.job import Job
from extract.lane import LaneSpec, key_info, open_lane
from extract.plan import Plan
from extract.rates import Rate, remember, remembered_rate
from extract.store.catalog import Catalog, create_store, save_index
from extract.store.part import merge_chunk, seal_piece, sweep_tmp
from extract.store.rows import Remark
from extract.store.runs import Ledger, Lock
from extract.store.sink import unwritable
from extract.summary import Summary, take_stock
from extract.todo import forget_outdated, merge_leftovers, missing_chunks, orders
from manifests.dense import dense_path

_log = logging.getLogger(__name__)
INDEX_EVERY = 256  # parts; opening that many without an index takes about a second
COMPILE_SAVES, COMPILE_S = 0.05, 60.0  # of a forward's time; for a large network on two cores (docs/results.md)
SHORT_S = 20.0  # runs below it say nothing about a machine's speed


@dataclass(frozen=True, slots=True)
class Machine:
    """How to use the machine; none of it changes a feature's key, and of its rows at most the rounding.

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
    compression
        of the stored data, ``none`` or ``gzip:<1 to 9>``
    compile
        ``on``: compile every network first; ``auto``: where that pays for itself in this run
    """

    engine: Literal["local", "ray"] = "local"
    devices: tuple[str, ...] = ("cpu",)
    address: str = ""
    batch: int | None = None
    decode_threads: int = 2
    torch_threads: int | None = None
    chunk: int = 64
    seal_s: float = 30.0
    compile: Literal["off", "on", "auto"] = "off"
    compression: str = "none"


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
        sweep_tmp(job.store)
        _keep_manifest(job)
        store = Catalog(job.store)
        if forget_outdated(job, store):
            store.refresh()
        chunks = missing_chunks(job, machine.chunk, store)
        merge_leftovers(job, machine.chunk, chunks)
        on_start(sum(len(chunk.todos) for chunk in chunks), len(job.clips))
        summary = Summary(asked=len(job.clips))
        if chunks:
            _compute(job, machine, chunks, summary, on_event, stopping)
        summary.interrupted = stopping()
        _keep_index(job)
        store.refresh()
        take_stock(job, summary, store)
        return summary


def _compute(
    job: Job,
    machine: Machine,
    chunks: list[Chunk],
    summary: Summary,
    on_event: Callable[[Event], None],
    stopping: Callable[[], bool],
) -> None:
    parts = job.store / "parts"
    order = orders(job, machine.chunk)
    plan = _needed(job.plan, chunks)
    infos = [key_info(feature) for feature in plan.features]
    started = time.monotonic()
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
        settled = Catalog(job.store).settled(chunk.clip_ids, plan.keys)
        there = zip(chunk.todos, settled, strict=True)
        return {todo.clip.clip_id for todo, row in there if all(row[plan.keys.index(key)] for key in todo.keys)}

    def record_crash(name: str, remarks: tuple[Remark, ...]) -> None:
        # no provenance: nothing was computed, and a later retry that succeeds must leave no trace of the crash
        path = seal_piece(parts, name, order[name], infos, (), remarks, (), {})
        clip_id = remarks[0].clip_id
        on_event(Progress(name, clip_id, failed=True))
        follow(Receipt(name, path.name, (clip_id,), failed=remarks, size_bytes=path.stat().st_size))

    merged = itertools.count(1)

    def merge(name: str) -> None:
        merge_chunk(parts, name, order[name])
        if next(merged) % INDEX_EVERY == 0:
            _keep_index(job)

    try:
        _fetch_weights(job, plan)
        with contextlib.closing(_engine(job, machine, plan, worth_compiling(machine, plan, chunks))) as engine:
            drive(
                engine,
                chunks,
                sealed=sealed,
                on_event=follow,
                on_chunk_done=merge,
                record_crash=record_crash,
                stopping=stopping,
            )
        summary.seconds["wall"] = time.monotonic() - started
        _remember_rate(plan, chunks, summary)
        ledger.finish(
            {key: value for key, value in asdict(summary).items() if key in ("computed", "seconds", "deaths")}
        )
    finally:
        ledger.close()


def _needed(plan: Plan, chunks: list[Chunk]) -> Plan:
    """The plan without the features that every clip has already: their networks need not be loaded."""
    missing = {key for chunk in chunks for todo in chunk.todos for key in todo.keys}
    return replace(plan, features=tuple(feature for feature in plan.features if feature.key in missing))


def _fetch_weights(job: Job, plan: Plan) -> None:
    """Download what is missing before any lane starts: once, and with a progress bar that can be seen."""
    from backbones.weights import fetch, parse_source

    source = parse_source(job.choices.weights)
    for feature in plan.features:
        if source.kind == "official":
            fetch(feature.backbone, source, job.choices.allow_unverified)


def _engine(job: Job, machine: Machine, plan: Plan, compile_keys: tuple[str, ...]) -> Engine:
    from extract.engine.cores import threads_per_lane

    threads = machine.torch_threads or threads_per_lane(machine.devices)
    spec = LaneSpec(
        plan=plan,
        parts=str((job.store / "parts").absolute()),
        weights=job.choices.weights,
        allow_unverified=job.choices.allow_unverified,
        batch=machine.batch,
        decode_threads=machine.decode_threads,
        torch_threads=threads,
        seal_s=machine.seal_s,
        compile_keys=compile_keys,
        compression=machine.compression,
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
        "clips": len(job.listed),
        "asked": len(job.clips),
        "recipe": job.plan.recipe,
        "keys": list(job.plan.keys),
        "choices": asdict(job.choices),
        "machine": asdict(machine),
        "versions": {name: _version(name) for name in libraries},
        "host": platform.node(),
    }


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # such as ray, which only its own engine needs
        return "absent"


def worth_compiling(machine: Machine, plan: Plan, chunks: Sequence[Chunk]) -> tuple[str, ...]:
    """The keys whose networks are to be compiled.

    With ``auto``, those whose forwards will take so long in each lane, at the rate this machine had the last time, that the
    share compiling saves is more than compiling costs.
    """
    if machine.compile == "off":
        return ()
    if machine.compile == "on":
        return plan.keys
    rate = remembered_rate()
    if rate is None:
        return ()
    # the rate is that of all lanes together; each of them compiles for itself, and they share the cores while they do
    return tuple(
        key for key, gmac in _gmacs(plan, chunks).items() if gmac / rate.gmac_per_s * COMPILE_SAVES > COMPILE_S
    )


def _gmacs(plan: Plan, chunks: Sequence[Chunk]) -> dict[str, float]:
    """Multiply-adds that are to be done, in units of 1e9, by key; clips of unknown length count as ten rows."""
    todo = Counter(key for chunk in chunks for todo in chunk.todos for key in todo.keys)
    return {f.key: f.gmacs * (f.grid.count or 10) * todo[f.key] for f in plan.features}


def _remember_rate(plan: Plan, chunks: list[Chunk], summary: Summary) -> None:
    """Runs of some length tell how fast this machine is; start-up would drown in shorter ones."""
    gmac = sum(_gmacs(plan, chunks).values())
    share = summary.computed / sum(len(chunk.todos) for chunk in chunks)
    if summary.seconds["wall"] > SHORT_S and gmac * share:
        remember(Rate(gmac * share / summary.seconds["wall"]))


def _keep_manifest(job: Job) -> None:
    """Labels and splits travel with the store, also those that were set right after the last run."""
    kept = job.store / "manifest.csv"
    for source, copy in ((job.manifest, kept), (dense_path(job.manifest), dense_path(kept))):
        half = copy.with_name(f"{copy.name}.tmp")
        try:
            if source.is_file() and copy.is_file() and filecmp.cmp(source, copy, shallow=False):
                continue
            if source.is_file():
                shutil.copyfile(source, half)
                half.replace(copy)
            else:
                copy.unlink(missing_ok=True)  # of another manifest, whose events these clips do not have
        except OSError as error:
            half.unlink(missing_ok=True)
            raise unwritable(copy, source.stat().st_size, error) from error


def _keep_index(job: Job) -> None:
    try:
        save_index(job.store)
    except StoreUnwritable as error:
        _log.warning("the store is complete, but slow to open: %s", error)
