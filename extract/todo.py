"""What a store lacks of a job, what it has for reasons that no longer hold, and what interrupted runs left to be merged."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from extract.chunk import Chunk
from extract.engine.base import cut_chunks, slice_clips
from extract.errors import NoAudio, NotFound, StoreError, TooLarge
from extract.job import Choices, Job, limits_of
from extract.store.catalog import Catalog
from extract.store.part import drop_remarks, index_part, merge_chunk
from extract.store.rows import Remark
from manifests.files import absent


def missing_chunks(job: Job, size: int, store: Catalog | None = None) -> list[Chunk]:
    """What the job's store lacks of the chosen clips.

    The whole manifest is sliced, whatever was chosen of it, so that runs of a few clips and of all of them fill the same
    parts.

    Parameters
    ----------
    job
        what is wanted
    size
        clips per chunk
    store
        the job's store where it is open already
    """
    store = Catalog(job.store) if store is None else store
    chosen = np.array([clip.clip_id in job.paths for clip in job.listed], np.bool_)
    lacks = np.zeros((len(job.listed), len(job.plan.keys)), np.bool_)
    lacks[chosen] = ~store.settled([clip.clip_id for clip in job.listed if clip.clip_id in job.paths], job.plan.keys)
    return cut_chunks(job.listed, job.paths, job.plan.keys, lacks, size)


def orders(job: Job, size: int) -> dict[str, list[str]]:
    """Every clip id of each slice of the manifest, in its order, by the slice's name."""
    slices = slice_clips(job.listed, job.plan.keys, size)
    return {name: [clip.clip_id for clip in clips] for name, clips in slices.items()}


def merge_leftovers(job: Job, size: int, chunks: Iterable[Chunk]) -> None:
    """Merge the pieces of every chunk that is not among `chunks`, which are to be computed: of runs that were killed just before.

    A chunk of another plan or of another chunk size, which no run of this job would complete, is merged as far as it got.
    """
    parts = job.store / "parts"
    files: dict[str, list[Path]] = {}
    for path in parts.glob("*.h5"):
        files.setdefault(path.name.split(".")[0], []).append(path)
    names = {name for name, paths in files.items() if any(path.name.endswith(".piece.h5") for path in paths)}
    names -= {chunk.name for chunk in chunks}
    known = orders(job, size) if names else {}
    place = {clip.clip_id: i for i, clip in enumerate(job.listed)} if names - known.keys() else {}
    for name in sorted(names):
        merge_chunk(parts, name, known.get(name) or _order_of(files[name], place))


def _order_of(paths: Iterable[Path], place: Mapping[str, int]) -> list[str]:
    """The clips of a chunk as its files tell them, in the manifest's order as far as it lists them."""
    found: set[str] = set()
    for path in paths:
        index = index_part(path)
        found |= {clip_id for entry in index.keys.values() for clip_id in entry.clips}
        found |= {remark.clip_id for remark in (*index.failed, *index.masked)}
    return sorted(found, key=lambda clip_id: (place.get(clip_id, len(place)), clip_id))


def forget_outdated(job: Job, store: Catalog | None = None) -> int:
    """Drop what the store says of the job's clips for a reason that no longer holds, so that they are computed.

    That is: files that were not found and now are there; files that were too large for limits that have been raised since
    the last run; clips without sound that were treated by another policy than the one asked for now.

    Parameters
    ----------
    job
        whose clips and keys
    store
        the job's store where it is open already; it must be refreshed where something was dropped

    Returns
    -------
    int
        remarks dropped
    """
    store = Catalog(job.store) if store is None else store
    passing = {NotFound.reason, NoAudio.reason, TooLarge.reason}
    if passing.isdisjoint(store.reasons("failed").keys() | store.reasons("masked").keys()):
        return 0
    keys = frozenset(job.plan.keys)
    failed, masked = (
        [each for each in remarks if each.reason in passing and each.key in keys and each.clip_id in job.paths]
        for remarks in (store.failed(), store.masked())
    )
    found = _readable({job.paths[each.clip_id] for each in (*failed, *masked) if each.reason == NotFound.reason})
    raised = _limits_raised(job)

    def outdated(remark: Remark, policy: str) -> bool:
        if remark.reason == NotFound.reason:
            return job.paths[remark.clip_id] in found
        if remark.reason == NoAudio.reason:
            return policy != job.plan.missing_audio
        return raised

    gone = {each for each in failed if outdated(each, "error")}
    filled = _with_rows(store, masked)
    gone |= {each for each in masked if outdated(each, "mask" if each in filled else "skip")}
    return drop_remarks(job.store / "parts", gone.__contains__) if gone else 0


def _with_rows(store: Catalog, remarks: Iterable[Remark]) -> set[Remark]:
    """Those remarks on clips that have rows of the key."""
    by_key: dict[str, list[Remark]] = {}
    for each in remarks:
        by_key.setdefault(each.key, []).append(each)
    found: set[Remark] = set()
    for key in by_key.keys() & store.columns.keys():
        there = store.find_all([each.clip_id for each in by_key[key]], key) >= 0
        found.update(itertools.compress(by_key[key], there.tolist()))
    return found


def _readable(paths: set[str]) -> frozenset[str]:
    """Those files that a decode would at least open."""
    return frozenset(path for path in paths - absent(paths) if os.access(path, os.R_OK))


def headers(store: Path) -> Iterator[dict[str, Any]]:
    """What the runs of a store said of themselves before they began, the last one first.

    Raises
    ------
    StoreError
        a ledger does not begin with a header
    """
    ledgers = sorted((store / "runs").glob("*.jsonl"), key=lambda path: (path.name[:16], path.stat().st_mtime_ns))
    for path in reversed(ledgers):
        with path.open("rb") as file:
            first = file.readline()  # alone: the receipts of a large run are hundreds of megabytes
        # a run that was killed while it wrote its first line leaves a ledger that says nothing
        if first.endswith(b"\n"):
            yield _header(path, first)


def _header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError as error:
        raise StoreError(f"{path}:1 is no ledger line: {error}; the store itself does not need it") from error
    if not isinstance(header, dict) or header.pop("line", "") != "header":
        raise StoreError(f"{path} has no header: the run died at its very start; the file may be deleted")
    return header


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
