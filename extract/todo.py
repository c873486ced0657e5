"""What a store lacks of a job, what it has for reasons that no longer hold, and what interrupted runs left to be merged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from extract.chunk import Chunk
from extract.engine.base import make_chunks, slice_clips
from extract.errors import NoAudio, NotFound, TooLarge
from extract.job import Choices, Job, limits_of
from extract.store.catalog import Store
from extract.store.part import drop_remarks, index_part, merge_chunk
from extract.store.rows import Remark
from extract.store.runs import read_run


def settled(store: Store) -> dict[str, frozenset[str]]:
    """Keys that need nothing any more, by clip id: there are rows, or a remark says why there are none."""
    keys: dict[str, set[str]] = {clip_id: set(found) for clip_id, found in store.have().items()}
    for remark in (*store.failed(), *store.masked()):
        keys.setdefault(remark.clip_id, set()).add(remark.key)
    return {clip_id: frozenset(found) for clip_id, found in keys.items()}


def missing_chunks(job: Job, size: int) -> list[Chunk]:
    """What the job's store lacks of the chosen clips.

    The whole manifest is sliced, whatever was chosen of it, so that runs of a few clips and of all of them fill the same
    parts.
    """
    done, chosen, everything = settled(Store(job.store)), job.paths.keys(), frozenset(job.plan.keys)
    nothing: frozenset[str] = frozenset()

    def settled_or_unwanted(clip_id: str) -> frozenset[str]:
        return done.get(clip_id, nothing) if clip_id in chosen else everything

    return make_chunks(job.listed, job.paths, job.plan.keys, settled_or_unwanted, size)


def orders(job: Job, size: int) -> dict[str, list[str]]:
    """Every clip id of each slice of the manifest, in its order, by the slice's name."""
    slices = slice_clips(job.listed, job.plan.keys, size)
    return {name: [clip.clip_id for clip in clips] for name, clips in slices.items()}


def merge_leftovers(job: Job, size: int, chunks: Iterable[Chunk]) -> None:
    """Merge the pieces of every chunk that is not among `chunks`, which are to be computed: of runs that were killed just before.

    A chunk of another plan or of another chunk size, which no run of this job would complete, is merged as far as it got.
    """
    parts = job.store / "parts"
    names = {path.name.split(".")[0] for path in parts.glob("*.piece.h5")} - {chunk.name for chunk in chunks}
    known = orders(job, size) if names else {}
    for name in sorted(names):
        merge_chunk(parts, name, known.get(name) or _order_of(parts, name, job))


def _order_of(parts: Path, name: str, job: Job) -> list[str]:
    """The clips of a chunk as its files tell them, in the manifest's order as far as it lists them."""
    found: set[str] = set()
    for path in parts.glob(f"{name}.*h5"):
        index = index_part(path)
        found |= {clip_id for entry in index.keys.values() for clip_id in entry.clips}
        found |= {remark.clip_id for remark in (*index.failed, *index.masked)}
    place = {clip.clip_id: i for i, clip in enumerate(job.listed)}
    return sorted(found, key=lambda clip_id: (place.get(clip_id, len(place)), clip_id))


def forget_outdated(job: Job) -> int:
    """Drop what the store says of the job's clips for a reason that no longer holds, so that they are computed.

    That is: files that were not found and now are there; files that were too large for limits that have been raised since
    the last run; clips without sound that were treated by another policy than the one asked for now.

    Returns
    -------
    int
        remarks dropped
    """
    store = Store(job.store)
    failed = frozenset(store.failed())
    raised = _limits_raised(job)

    def outdated(remark: Remark) -> bool:
        if remark.clip_id not in job.paths or remark.key not in job.plan.keys:
            return False
        if remark.reason == NotFound.reason:
            return readable(job.paths[remark.clip_id])
        if remark.reason == NoAudio.reason:
            there = (remark.clip_id, remark.key) in store
            policy = "error" if remark in failed else "mask" if there else "skip"
            return policy != job.plan.missing_audio
        return remark.reason == TooLarge.reason and raised

    gone = {remark for remark in (*failed, *store.masked()) if outdated(remark)}
    return drop_remarks(job.store / "parts", gone.__contains__) if gone else 0


def readable(path: str) -> bool:
    """Whether a decode of that file would at least open it."""
    return Path(path).is_file() and os.access(path, os.R_OK)


def headers(store: Path) -> Iterator[dict[str, Any]]:
    """What the runs of a store said of themselves before they began, the last one first."""
    ledgers = sorted((store / "runs").glob("*.jsonl"), key=lambda path: (path.name[:16], path.stat().st_mtime_ns))
    for path in reversed(ledgers):
        # a run that was killed while it wrote its first line leaves a ledger that says nothing
        if path.read_bytes().count(b"\n"):
            yield read_run(path).header


def remembered_choices(header: Mapping[str, Any]) -> Choices:
    """The choices that a run was made with."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in header["choices"].items()
    }
    return Choices(**given)


def _limits_raised(job: Job) -> bool:
    last = next(headers(job.store), None)
    if last is None:
        return False
    then = limits_of(remembered_choices(last))
    return any(now > before for now, before in zip(astuple(job.plan.limits), astuple(then), strict=True))
