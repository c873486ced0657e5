"""Labels with times: the events of a clip, second by second, in a CSV beside the manifest (``<stem>.dense.csv``)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

from extract.errors import ManifestError
from manifests.clip import Clip, fault
from manifests.table import read_table, write_table

HEADER = ("clip_id", "modality", "onset", "offset", "label")
Modality = Literal["audio", "visual", "both"]


@dataclass(frozen=True, slots=True)
class Event:
    """One labelled event, ``[onset_s, offset_s)`` of its clip.

    Parameters
    ----------
    clip_id
        as in the manifest
    modality
        ``audio`` (heard), ``visual`` (seen) or ``both`` (heard and seen, as AVE annotates)
    onset_s, offset_s
        whole seconds from the clip's start, half-open, 0 <= onset_s < offset_s; LLP and AVE annotate whole seconds
    label
        one label
    """

    clip_id: str
    modality: Modality
    onset_s: int
    offset_s: int
    label: str


def dense_path(manifest_path: str | Path) -> Path:
    """Where the events of a manifest are: ``llp.csv`` -> ``llp.dense.csv``."""
    return Path(manifest_path).with_suffix(".dense.csv")


def write_dense(path: str | Path, events: Iterable[Event]) -> None:
    """Write events atomically as CSV with the header ``clip_id,modality,onset,offset,label``."""
    rows = []
    for number, event in enumerate(events, 1):
        if why := _fault(event):
            raise ManifestError(f"event {number} cannot be written to {path}: {why}")
        rows.append((event.clip_id, event.modality, str(event.onset_s), str(event.offset_s), event.label))
    write_table(Path(path), HEADER, rows)


def read_dense(path: str | Path) -> tuple[Event, ...]:
    """The events of a dense CSV, in its order.

    Raises
    ------
    ManifestError
        with the line, the value and what is allowed
    """
    path = Path(path)
    events = []
    for line, (clip_id, modality, onset, offset, label) in read_table(path, HEADER, "dense label file"):
        if not _is_modality(modality):
            raise ManifestError(f"{path}: line {line}: modality {modality!r} must be audio, visual or both")
        for name, text in (("onset", onset), ("offset", offset)):
            if not whole_seconds(text):
                raise ManifestError(f"{path}: line {line}: {name} {text!r} must be whole seconds >= 0")
        event = Event(clip_id, modality, int(onset), int(offset), label)
        if why := _fault(event):
            raise ManifestError(f"{path}: line {line}: {why}")
        events.append(event)
    return tuple(events)


def by_clip(events: Iterable[Event]) -> dict[str, dict[Modality, list[tuple[int, int, str]]]]:
    """Events as ``{clip_id: {modality: [(onset_s, offset_s, label), ...]}}``; clips without events are not in it."""
    found: dict[str, dict[Modality, list[tuple[int, int, str]]]] = {}
    for event in events:
        of_clip = found.setdefault(event.clip_id, {})
        of_clip.setdefault(event.modality, []).append((event.onset_s, event.offset_s, event.label))
    return found


def whole_seconds(text: str) -> bool:
    """Whether the text is a whole number of seconds >= 0, of at most 9 digits."""
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


def _is_modality(text: str) -> TypeGuard[Modality]:
    return text in ("audio", "visual", "both")


def _fault(event: Event) -> str | None:
    if not 0 <= event.onset_s < event.offset_s:
        return f"an event from {event.onset_s} to {event.offset_s} holds nothing; it must be 0 <= onset < offset"
    return fault(Clip(event.clip_id, path="-", labels=(event.label,)))
