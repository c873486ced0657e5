"""The only door: what the command line does, as functions. Nothing heavy is imported until it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import StoreError, clip_reasons, nearest
from extract.job import Choices, Job, make_job

if TYPE_CHECKING:
    from extract.engine.base import Event
    from extract.running import Machine, Summary
    from extract.store.verify import Finding


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
    from extract.running import by_reason
    from extract.store.catalog import Store
    from extract.store.runs import holder, last_run, read_run

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
    last = last_run(path)
    return Status(
        store=path,
        clips=None if last is None else read_run(last).header["clips"],
        keys=dict(sorted(keys.items())),
        reasons=by_reason(failed),
        masked_reasons=by_reason(masked),
        size_bytes=sum(part.stat().st_size for part in (path / "parts").glob("*.h5")),
        runs=len(list((path / "runs").glob("*.jsonl"))),
        running=holder(path),
        damaged=tuple(why for _, why in opened.damaged()),
    )


def remembered(store: Path | str) -> tuple[Path, Choices]:
    """Manifest and choices of a store's last run: what `retry` runs again.

    Raises
    ------
    StoreError
        no run is recorded in it
    """
    from extract.store.runs import last_run, read_run

    last = last_run(Path(store))
    if last is None:
        raise StoreError(f"no run is recorded in {store}; use `extract run MANIFEST --out {store}`")
    header = read_run(last).header
    chosen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in header["choices"].items()
    }
    return Path(header["manifest"]), Choices(**chosen)


def forget(store: Path | str, reasons: tuple[str, ...], only: tuple[str, ...] = ()) -> int:
    """Forget failures and filled rows of these reasons, so that the next run computes them again.

    Parameters
    ----------
    store
        its folder
    reasons
        see extract.errors.clip_reasons; empty: every failure, and nothing that was masked
    only
        clip ids; empty: all

    Returns
    -------
    int
        remarks forgotten

    Raises
    ------
    UnknownName
        no such reason
    StoreBusy
        a run holds the store
    """
    from extract.store.catalog import Store
    from extract.store.part import drop_remarks
    from extract.store.runs import Lock

    for reason in reasons:
        if reason not in clip_reasons():
            raise nearest(reason, list(clip_reasons()), "reason")
    path = Path(store)
    failed = {(r.clip_id, r.key, r.stage, r.reason, r.message) for r in Store(path).failed()}
    with Lock(path):
        return drop_remarks(
            path / "parts",
            lambda r: (
                (r.reason in reasons if reasons else (r.clip_id, r.key, r.stage, r.reason, r.message) in failed)
                and (not only or r.clip_id in only)
            ),
        )


def verify(store: Path | str) -> list[Finding]:
    """Everything that is wrong with a store: checksums, spans, identities, leftovers; see extract.store.verify."""
    from extract.store.verify import verify as look

    return look(Path(store))
