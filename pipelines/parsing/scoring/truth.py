"""What is true: labelled events second by second, and which version of the labels they are. numpy only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

from extract.errors import ManifestError, PlanError, nearest
from manifests.dense import Event, Modality
from pipelines.parsing.scoring.counts import Parse

_LLP = {
    "01da1b3dc9ca": "official, since 2024-04-16",
    "8c63f33223de": "official, until 2024-04-16",
    "0f9bfbdc41a5": "official, since 2024-04-16, test clips",
    "1a11c64da0ff": "official, until 2024-04-16, test clips",
    "1a009bcf5cc4": "official, val clips",  # no row of a val clip changed in 2024
}
_AVE = {
    "c766e419a9ee": "official (AVE)",
    "5dcdaeae226a": "official (AVE), val clips",
    "d055209d811e": "official (AVE), test clips",
}
_VERSIONS = _LLP | _AVE

LLP_EMPTY_ROWS: tuple[tuple[str, Modality, str], ...] = (
    ("CaC2xvdLC34_250_260", "audio", "Speech"),
    ("Gg3pK71kApY_30_40", "audio", "Speech"),
    ("H5WcJwyjxIg_2_12", "audio", "Baby_cry_infant_cry"),
    ("Baue01N86wE_10_20", "audio", "Dog"),
    ("8DF2PxdT5tE_390_400", "audio", "Cheering"),
)
"""Rows of both official audio CSVs whose offset is not after their onset: they name a label, and no second of it."""


def truth_of(events: Iterable[Event], clip_ids: Sequence[str], classes: Sequence[str], seconds: int) -> Parse:
    """The events of some clips, second by second.

    Parameters
    ----------
    events
        of these clips and of any others, which are passed over; modality ``both`` is heard and seen
    clip_ids
        N ids; a clip without events is all zeros
    classes
        C labels in the order of their numbers
    seconds
        T, of each clip

    Raises
    ------
    ManifestError
        an id or a class twice, a label that is no class, or an event that does not lie within the clip
    PlanError
        fewer than one second
    """
    if seconds < 1:
        raise PlanError(f"clips of {seconds} seconds cannot be scored; it must be 1 or more")
    row_of, class_of = _numbered(clip_ids, "clip id"), _numbered(classes, "class")
    heard = np.zeros((len(row_of), seconds, len(class_of)), np.uint8)
    seen = np.zeros_like(heard)
    for event in events:
        row = row_of.get(event.clip_id)
        if row is None:
            continue
        if event.label not in class_of:
            raise ManifestError(
                f"an event of the clip {event.clip_id}: {nearest(event.label, list(class_of), 'class')}"
            )
        if not 0 <= event.onset_s < event.offset_s <= seconds:
            raise ManifestError(
                f"the event {event.label!r} of the clip {event.clip_id} goes from {event.onset_s} to {event.offset_s} s; "
                f"it must lie within 0..{seconds} s and hold at least one second"
            )
        span = slice(event.onset_s, event.offset_s)
        if event.modality != "visual":
            heard[row, span, class_of[event.label]] = 1
        if event.modality != "audio":
            seen[row, span, class_of[event.label]] = 1
    return Parse(heard, seen)


def label_digest(events: Iterable[Event]) -> str:
    """Twelve hex digits that tell one set of events from another, in whatever order they come.

    Returns
    -------
    str
        of the sha256 of the sorted rows (clip, modality, onset, offset, label) as JSON; a row that is there twice counts
        twice
    """
    rows = sorted((e.clip_id, e.modality, e.onset_s, e.offset_s, e.label) for e in events)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]


def label_version(events: Iterable[Event]) -> str:
    """One line to print beside scores: which labels those are.

    Parameters
    ----------
    events
        of all val and test clips of LLP, or of one of the two splits; of all clips of AVE

    Returns
    -------
    str
        such as ``official, since 2024-04-16 (0123456789ab)``; ``not an official set (…)`` of any others, also where some
        official clips are missing
    """
    rows = list(events)
    digest = label_digest(rows)
    if digest in _VERSIONS:
        return f"{_VERSIONS[digest]} ({digest})"
    return f"not an official set ({digest}: {len(rows)} events of {len({row.clip_id for row in rows})} clips)"


def label_sets(events: Iterable[Event], clip_ids: Sequence[str]) -> list[tuple[frozenset[str], frozenset[str]]]:
    """The labels heard and the labels seen anywhere in each clip.

    Parameters
    ----------
    events
        as `label_version` takes them
    clip_ids
        N ids; events of other clips are passed over

    Returns
    -------
    list
        N pairs. Where the events are an official version of LLP's, `LLP_EMPTY_ROWS` count as well: the papers' sets are
        those of the rows of the CSVs
    """
    rows = list(events)
    named = [(row.clip_id, row.modality, row.label) for row in rows]
    if label_digest(rows) in _LLP:
        named += LLP_EMPTY_ROWS
    heard: dict[str, set[str]] = {clip_id: set() for clip_id in clip_ids}
    seen: dict[str, set[str]] = {clip_id: set() for clip_id in clip_ids}
    for clip_id, modality, label in named:
        if clip_id in heard and modality != "visual":
            heard[clip_id].add(label)
        if clip_id in seen and modality != "audio":
            seen[clip_id].add(label)
    return [(frozenset(heard[clip_id]), frozenset(seen[clip_id])) for clip_id in clip_ids]


def _numbered(names: Sequence[str], what: str) -> dict[str, int]:
    numbers = {name: number for number, name in enumerate(names)}
    if len(numbers) < len(names):
        twice = next(name for number, name in enumerate(names) if numbers[name] != number)
        raise ManifestError(f"the {what} {twice!r} is there twice; each may be there once")
    return numbers
