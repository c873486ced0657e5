"""The only door: what the command line does, as functions. Nothing heavy is imported until it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import PlanError, StoreError, clip_reasons, nearest
from extract.job import Choices, Job, make_job

if TYPE_CHECKING:
    from extract.engine.base import Event
    from extract.running import Machine
    from extract.store.rows import Remark
    from extract.store.verify import Finding
    from extract.summary import Summary


def plan(manifest: Path | str, choices: Choices | None = None, store: Path | None = None) -> Job:
    """What would be computed for a manifest; nothing is.

    Raises
    ------
    ExtractError
        what the user must set right first
    """
    return make_job(Path(manifest), choices or Choices(), store)


def run(
    manifest: Path | str,
    choices: Choices | None = None,
    machine: Machine | None = None,
    store: Path | None = None,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    on_start: Callable[[int, int], None] = lambda todo, asked: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Summary:
    """Compute what the store lacks of a manifest; see extract.running.run.

    Examples
    --------
    >>> run("manifests/demo.csv", Choices(weights="random:0"))   # doctest: +SKIP
    """
    from extract import running

    job = plan(manifest, choices, store)
    return running.run(job, machine or running.Machine(), on_event=on_event, on_start=on_start, stopping=stopping)


@dataclass(frozen=True, slots=True)
class Status:
    """How a store stands.

    Parameters
    ----------
    store
        its folder
    clips
        in the manifest of its last run; None: no run is recorded
    keys
        by key: clips with rows, clips masked, clips failed
    reasons, masked_reasons
        clips by reason
    size_bytes
        of all parts
    runs
        ledgers
    running
        who holds the store now: pid, host, started
    damaged
        files in ``parts/`` that cannot be read
    """

    store: Path
    clips: int | None
    keys: dict[str, dict[str, int]]
    reasons: dict[str, int]
    masked_reasons: dict[str, int]
    size_bytes: int
    runs: int
    running: dict[str, Any] | None
    damaged: tuple[str, ...]


def status(store: Path | str) -> Status:
    """How a store stands; works on any store, also while a run writes to it.

    Raises
    ------
    StoreError
        there is none at that path
    """
    from extract.store.catalog import Store
    from extract.store.runs import holder
    from extract.summary import by_reason, size_bytes
    from extract.todo import headers

    path = Path(store)
    opened = Store(path, strict=False)
    failed, masked = opened.failed(), opened.masked()
    keys: dict[str, dict[str, int]] = {
        info.key: {"rows": len(opened.clips(info.key)), "masked": 0, "failed": 0}
        for info in opened.keys()  # noqa: SIM118
    }
    for kind, remarks in (("failed", failed), ("masked", masked)):
        for key, clip_id in sorted({(remark.key, remark.clip_id) for remark in remarks}):
            del clip_id
            keys.setdefault(key, {"rows": 0, "masked": 0, "failed": 0})[kind] += 1
    last = next(headers(path), None)
    return Status(
        store=path,
        clips=None if last is None else last["clips"],
        keys=dict(sorted(keys.items())),
        reasons=by_reason(failed),
        masked_reasons=by_reason(masked),
        size_bytes=size_bytes(opened),
        runs=len(list((path / "runs").glob("*.jsonl"))),
        running=holder(path),
        damaged=tuple(why for _, why in opened.damaged()),
    )


@dataclass(frozen=True, slots=True)
class Again:
    """What `retry` runs: a job like one that ran before, for the clips that are to be computed again.

    Parameters
    ----------
    job
        with the manifest and the choices of then
    chunk
        clips per part, as then, so that the same parts are filled
    remarks
        what is to be forgotten of them first
    """

    job: Job
    chunk: int
    remarks: frozenset[Remark]


def again(
    store: Path | str, reasons: tuple[str, ...] = (), only: tuple[str, ...] = (), changes: dict[str, Any] | None = None
) -> tuple[Again, ...]:
    """The jobs that compute again what failed, or was filled by a policy. Nothing is changed yet: see :func:`forget`.

    Parameters
    ----------
    store
        its folder
    reasons
        see extract.errors.clip_reasons; empty: every failure, and nothing that was masked
    only
        clip ids; empty: all
    changes
        fields of `Choices` that shall differ from then, such as a raised limit

    Returns
    -------
    tuple of Again
        one per run that is to be repeated, the last one first: each feature as the last run did that had it

    Raises
    ------
    UnknownName
        no such reason
    StoreError
        there is no store, or no run is recorded in it
    ExtractError
        a job cannot be made again: its manifest is gone, its weights are not to be found
    """
    from extract.store.catalog import Store
    from extract.todo import headers, remembered_choices

    for reason in reasons:
        if reason not in clip_reasons():
            raise nearest(reason, list(clip_reasons()), "reason")
    opened = Store(store)
    runs = list(headers(opened.path))
    if not runs:
        raise StoreError(f"no run is recorded in {store}; use `extract run MANIFEST --out {store}`")
    open_remarks = {
        remark
        for remark in (*opened.failed(), *(opened.masked() if reasons else ()))
        if (not reasons or remark.reason in reasons) and (not only or remark.clip_id in only)
    }
    found: list[Again] = []
    for header in runs:
        concerned = {remark for remark in open_remarks if remark.key in header["keys"]}
        if not concerned:
            continue
        choices = replace(remembered_choices(header), limit=None, only=(), **(changes or {}))
        job = make_job(Path(header["manifest"]), choices, opened.path)
        # a clip that is not in the manifest any more keeps what is said of it
        listed = {clip.clip_id for clip in job.clips}
        concerned = {remark for remark in concerned if remark.clip_id in listed}
        if lost := {remark.key for remark in concerned} - set(job.plan.keys):
            raise PlanError(
                f"{', '.join(sorted(lost))} cannot be computed again: {header['manifest']} with the choices of then gives "
                f"{', '.join(job.plan.keys)}; run it as you want it with `extract run --out {store}`"
            )
        open_remarks -= concerned
        if concerned:
            ids = tuple(sorted({remark.clip_id for remark in concerned}))
            job = make_job(job.manifest, replace(choices, only=ids), opened.path)
            found.append(Again(job, header["machine"]["chunk"], frozenset(concerned)))
    return tuple(found)


def forget(what: Again) -> int:
    """Forget remarks, and rows that a policy filled, so that the next run computes them; the number of remarks.

    Raises
    ------
    StoreBusy
        a run holds the store
    """
    from extract.store.part import drop_remarks
    from extract.store.runs import Lock

    with Lock(what.job.store):
        return drop_remarks(what.job.store / "parts", what.remarks.__contains__)


def verify(store: Path | str) -> list[Finding]:
    """Everything that is wrong with a store: checksums, spans, identities, leftovers; see extract.store.verify."""
    from extract.store.verify import verify as look

    return look(Path(store))
