"""From a store to a page: look at everything once, draw it, and put the file there whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extract.errors import StoreError
from extract.report import maps
from extract.report.corpus import count_labels, lengths_s
from extract.report.coverage import Coverage, cover
from extract.report.histogram import Histogram, histogram
from extract.report.origin import KeyOrigin, origins
from extract.report.page import MARK, Page, render
from extract.report.reasons import by_reason
from extract.report.runs import read_runs
from extract.report.sample import Looked, choose, look
from extract.report.sheet import chosen_clips, make_sheet
from extract.report.similarity import similar
from extract.report.storage import Storage, store_bytes
from extract.report.subject import Subject, name_of, open_subject
from extract.report.words import in_bytes
from extract.store.sink import sealed, unwritable

if TYPE_CHECKING:
    from extract.store.verify import Finding

PROBLEMS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Reported:
    """A page that was written: where, how large, and what it says in one line."""

    path: Path
    size_bytes: int
    verdict: str


def report(
    store: Path, out: Path, *, clips: Sequence[str] = (), method: str = "pca", videos: str = "", verify: bool = False
) -> Reported:
    """Write the page about a store.

    Parameters
    ----------
    store
        its folder; nothing is written there, and a run may be writing to it
    out
        the page; one that is there and is a report is replaced, anything else is not touched
    clips
        ids for the contact sheets, at most twelve; empty: a few are chosen
    method
        of the maps: ``pca`` or ``umap``
    videos
        folder that the manifest's paths count from; empty: the one of the last run
    verify
        read and check all of the store as well

    Raises
    ------
    StoreError
        there is no store, or `out` is a file that is no report
    StoreUnwritable
        `out` cannot be written
    UnknownName, PlanError
        no such clip or method; UMAP is not installed; too many clips
    """
    _check(out)
    maps.check_method(method)
    runs, run_count = read_runs(store)
    subject = open_subject(store, runs)
    chosen = chosen_clips(subject, clips)
    coverage, storage, kinds = cover(subject), store_bytes(subject), origins(subject)
    sampled = choose(subject.store, len(subject.keys))
    looked = [look(subject.store, info, sampled) for info in subject.store.keys()]  # noqa: SIM118
    findings = _findings(store) if verify else None
    lengths, lengths_from = _lengths(subject, looked)
    page = Page(
        name=store.resolve().name,
        path=str(store),
        verdict=verdict(subject, coverage, storage, kinds),
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        subject=subject,
        coverage=coverage,
        failed=by_reason(subject.failed),
        masked=by_reason(subject.masked),
        lengths=lengths,
        lengths_from=lengths_from,
        rows=tuple(_rows_of(subject, each) for each in looked),
        labels=count_labels(subject),
        maps=tuple((each, maps.draw(each, subject.clips, method)) for each in looked),
        method=method,
        sampled=len(sampled),
        clips=len(subject.store.clip_ids()),
        similarities=tuple((each.key, similar(each)) for each in looked),
        sheets=tuple(make_sheet(subject, clip_id, videos) for clip_id in chosen),
        runs=runs,
        run_count=run_count,
        storage=storage,
        origins=kinds,
        findings=findings,
        problems=_problems(subject, looked),
    )
    raw = render(page).encode()
    _put(out, raw)
    return Reported(out, len(raw), page.verdict)


def verdict(subject: Subject, coverage: Coverage, storage: Storage, kinds: Sequence[KeyOrigin]) -> str:
    """How the store stands, in one line."""
    clips = coverage.clips
    if not clips.total and not storage.parts:
        return "no clips and no rows yet"
    backbones = len(subject.wanted)
    said = [f"{clips.rows:,} of {clips.total:,} clips complete" if coverage.listed else f"{clips.total:,} clips"]
    said += [f"{count:,} {name}" for name, count in (("masked", clips.masked), ("failed", clips.failed)) if count]
    said += [f"{clips.left:,} left to do"] if clips.left and coverage.listed else []
    said += [f"{backbones} backbone{'' if backbones == 1 else 's'}", in_bytes(storage.size_bytes)]
    wanted = [kind for kind in kinds if kind.key in subject.wanted]
    for kind, text in (("random", "weights RANDOM"), ("unverified", "weights UNVERIFIED"), ("imported", "IMPORTED")):
        number = sum(each.kind == kind for each in wanted)
        if number:
            said.append(text if number == len(wanted) else f"{text} in {number} of {len(wanted)}")
    damaged = len(subject.store.damaged())
    said += [f"{damaged} DAMAGED file{'' if damaged == 1 else 's'}"] if damaged else []
    return ", ".join(said)


def _lengths(subject: Subject, looked: Sequence[Looked]) -> tuple[Histogram | None, str]:
    """Lengths of clips, and where they are from."""
    lengths = lengths_s(subject)
    if len(lengths):
        return histogram(lengths), "the manifest"
    ends: dict[str, float] = {}
    for each in looked:
        for clip_id, end_s in each.ends_s.items():
            ends[clip_id] = max(end_s, ends.get(clip_id, 0.0))
    return histogram(
        np.array(list(ends.values()))
    ), "the windows of the sampled clips: the manifest leaves their ends open"


def _rows_of(subject: Subject, looked: Looked) -> tuple[str, Histogram | None, float, float]:
    """Key, rows per clip, rows per second, and percent of valid rows in the sample."""
    valid = 100 * looked.valid_rows / looked.rows if looked.rows else 0.0
    rate = 1 / looked.hop_s if looked.hop_s else 0.0
    return looked.key, histogram(subject.store.counts(looked.key)), rate, valid


def _findings(store: Path) -> Sequence[Finding]:
    from extract.store.verify import verify

    return verify(store)


def _problems(subject: Subject, looked: Sequence[Looked]) -> tuple[str, ...]:
    found = [*subject.problems]
    for each in looked:
        found += each.unread
        if each.bad_rows:
            name = name_of(each.key)
            found.append(f"{name}: {each.bad_rows:,} of {each.rows:,} rows that were read hold NaN or infinite values")
    told = list(dict.fromkeys(found))
    more = len(told) - PROBLEMS_SHOWN
    return (*told[:PROBLEMS_SHOWN], *((f"and {more:,} more",) if more > 0 else ()))


def _check(out: Path) -> None:
    """Refuse to replace what is not ours, before anything is computed."""
    if out.is_dir():
        raise StoreError(f"{out} is a folder; name the file to write, such as -o {out / 'report.html'}")
    if out.exists():
        with out.open("rb") as file:
            if MARK.encode() not in file.read(2048):
                raise StoreError(f"{out} is there and is no report; move it away or choose another -o")


def _put(out: Path, raw: bytes) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, len(raw), error) from error
    with sealed(out, len(raw)) as sink:
        sink.write(memoryview(raw))
