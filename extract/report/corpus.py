"""What the manifest says of the clips: labels by split, and lengths."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.grid import NS
from extract.report.subject import Subject, split_names

LABELS_SHOWN = 30


@dataclass(frozen=True, slots=True)
class LabelCount:
    """One label: clips that carry it in all, and in each split; `percent` of the most frequent one."""

    label: str
    clips: int
    splits: tuple[int, ...]
    percent: float


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a manifest.

    Parameters
    ----------
    splits
        names, in the order of the counts
    shown, more
        the most frequent ones, and how many others there are
    unlabelled
        clips without a label
    per_clip
        labels per labelled clip, on average
    events
        labels with times, and the seconds that they cover, by modality
    """

    splits: tuple[str, ...]
    shown: tuple[LabelCount, ...]
    more: int
    unlabelled: int
    per_clip: float
    events: tuple[tuple[str, int, int], ...]


def count_labels(subject: Subject) -> Labels:
    """How often each label occurs, per split."""
    names, group_of = split_names(subject.clips) if subject.clips else ((), {})
    counts: dict[str, NDArray[np.int64]] = {}
    labelled = 0
    for clip in subject.clips.values():
        labelled += bool(clip.labels)
        for label in set(clip.labels):
            if label not in counts:
                counts[label] = np.zeros(len(names), np.int64)
            counts[label][group_of[clip.split]] += 1
    ordered = sorted(counts.items(), key=lambda item: (-int(item[1].sum()), item[0]))
    most = int(ordered[0][1].sum()) if ordered else 1
    shown = tuple(
        LabelCount(label, int(found.sum()), tuple(found.tolist()), 100 * int(found.sum()) / most)
        for label, found in ordered[:LABELS_SHOWN]
    )
    total = sum(int(found.sum()) for found in counts.values())
    return Labels(
        names,
        shown,
        max(0, len(ordered) - LABELS_SHOWN),
        len(subject.clips) - labelled,
        total / labelled if labelled else 0.0,
        _events(subject),
    )


def _events(subject: Subject) -> tuple[tuple[str, int, int], ...]:
    number: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for event in subject.events:
        number[event.modality] += 1
        seconds[event.modality] += event.offset_s - event.onset_s
    return tuple(
        (modality, number[modality], seconds[modality]) for modality in ("audio", "visual", "both") if number[modality]
    )


def lengths_s(subject: Subject) -> NDArray[np.float64]:
    """Seconds of every clip whose end the manifest gives."""
    spans = [clip.stop_ns - clip.start_ns for clip in subject.clips.values() if clip.stop_ns is not None]
    return np.array(spans, np.float64) / NS
