"""The only door: what the command line does, as functions. Nothing heavy is imported until it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import PlanError, StoreError, clip_reasons, nearest
from extract.job import Choices, Job, make_job

if TYPE_CHECKING:
    from backbones.spec import Backbone, View
    from extract.engine.base import Event
    from extract.report.write import Reported
    from extract.running import Machine
    from extract.status import Status
    from extract.store.compare import Comparison
    from extract.store.export import Exported
    from extract.store.importing.bring import Imported
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


def status(store: Path | str) -> Status:
    """How a store stands; works on any store, also while a run writes to it; see extract.status.

    Raises
    ------
    StoreError
        there is none at that path
    """
    from extract import status as standing

    return standing.status(Path(store))


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


def verify(
    store: Path | str, *, deep: bool = False, on_part: Callable[[int, int], None] = lambda done, parts: None
) -> list[Finding]:
    """Everything that is wrong with a store: seals, checksums, spans, identities, leftovers; see extract.store.verify.

    Parameters
    ----------
    store
        its folder
    deep
        also whether it is plausible: grids, constant rows, what the zoo and the recipes here know of its keys
    on_part
        told how many parts are done, of how many

    Raises
    ------
    StoreError
        there is none at that path
    """
    from extract import recipes
    from extract.store.verify import verify as look

    def fed(backbone: Backbone) -> Iterator[tuple[View, ...]]:
        for recipe in recipes.recipes():
            with contextlib.suppress(PlanError, ValueError):  # no recipe need be able to feed every network
                yield recipe.column(backbone)[0]

    return look(Path(store), deep=deep, fed=fed if deep else None, on_part=on_part)


def export(
    store: Path | str,
    layout: str,
    out: Path | str,
    *,
    keys: Sequence[str] = (),
    split: str = "",
    only: Sequence[str] = (),
    **options: Any,
) -> Exported:
    """Write a store as the files that other code reads; see extract.store.export.export.

    Parameters
    ----------
    store
        its folder
    layout
        see extract.store.export.layouts
    out
        folder to write: new, empty, or of this very export, which then goes on
    keys
        backbones or full keys; none: all that the layout can use
    split, only
        clips of that split of the store's manifest, clips of these ids; empty: all
    **options
        of the layout

    Raises
    ------
    UnknownName
        no such layout, feature, split or clip
    StoreError
        see extract.store.export.export

    Examples
    --------
    >>> export("features/llp", "llp", "exports/llp", annotations=Path("AVVP-ECCV20/data"))   # doctest: +SKIP
    """
    from extract.store import Store
    from extract.store.export import export as write

    opened = Store(store)
    ids = tuple(only)
    if split:
        of_split = opened.split_ids(split)
        known = frozenset(of_split)
        if outside := [clip for clip in ids if clip not in known]:
            raise nearest(outside[0], list(of_split), f"clip of the split {split}")
        ids = ids or of_split
    return write(opened, layout, Path(out), keys, ids, **options)


def import_features(
    folder: Path | str,
    layout: str,
    store: Path | str | None = None,
    *,
    name: str = "official",
    manifest: Path | str | None = None,
    on_clip: Callable[[int, int], None] = lambda done, clips: None,
) -> Imported:
    """Bring features that others released into a store; see extract.store.importing.bring.import_features.

    Parameters
    ----------
    folder, layout
        of the release: ``llp`` or ``ave``
    store
        its folder; None: ``features/<layout>-<name>``
    name
        of the release, part of the keys
    manifest
        its clips, under its ids; None: all that is found
    on_clip
        told how many clips are done, of how many

    Examples
    --------
    >>> import_features("AVVP-ECCV20/feats", "llp", manifest="manifests/llp.csv")   # doctest: +SKIP
    """
    from extract.store.importing import bring

    out = Path("features") / f"{layout}-{name}" if store is None else Path(store)
    listed = None if manifest is None else Path(manifest)
    return bring.import_features(Path(folder), out, layout, name=name, manifest=listed, on_clip=on_clip)


def compare(a: Path | str, b: Path | str, *, keys: Mapping[str, str] | None = None, worst: int = 10) -> Comparison:
    """How far the features of two stores agree; see extract.store.compare.compare.

    Examples
    --------
    >>> compare("features/llp", "features/llp-official").pairs[0].cosine_min   # doctest: +SKIP
    """
    from extract.store.compare import compare as look

    return look(Path(a), Path(b), keys=keys, worst=worst)


def report(
    store: Path | str,
    out: Path | str | None = None,
    *,
    clips: Sequence[str] = (),
    method: str = "pca",
    videos: str = "",
    verify: bool = False,
) -> Reported:
    """Write one self-contained page about a store; see extract.report.write.report.

    Parameters
    ----------
    out
        the page; None: ``<store>-report.html`` in the working directory
    """
    from extract.report.write import report as write

    path = Path(store)
    target = Path(f"{path.resolve().name}-report.html") if out is None else Path(out)
    return write(path, target, clips=clips, method=method, videos=videos, verify=verify)
