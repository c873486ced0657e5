"""Labels as numbers: of clips (multi-hot) and of their seconds, for many clips at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import StoreError
from manifests import ave, llp
from manifests.clip import Clip
from manifests.dense import Event, Modality

MODALITIES: tuple[Modality, ...] = ("audio", "visual", "both")


def class_order(clips: Iterable[Clip]) -> tuple[str, ...]:
    """The classes of a manifest: in the official order where all its labels are LLP's or AVE's, else sorted.

    Where they are of both, LLP's order is taken if the ids are LLP's, else AVE's.
    """
    clips = tuple(clips)
    used = {label for labels in {clip.labels for clip in clips} for label in labels}
    official = [labels for labels in (llp.LABELS, ave.LABELS) if used and used.issubset(labels)]
    if len(official) == 2:
        return llp.LABELS if llp.is_llp(clips) else ave.LABELS
    return official[0] if official else tuple(sorted(used))


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels of N clips: each has one of S sets of classes.

    Parameters
    ----------
    classes
        names, C of them
    of
        (N,) int32, the set of each clip
    edges, members
        (S + 1,) int64 and (M,) int64: the classes of set s are ``members[edges[s] : edges[s + 1]]``
    """

    classes: tuple[str, ...]
    of: NDArray[np.int32]
    edges: NDArray[np.int64]
    members: NDArray[np.int64]

    def multi_hot(self, clips: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, C) float32 of some clips: 1 for the classes each is labelled with."""
        out = np.zeros((len(clips), len(self.classes)), np.float32)
        of = self.of[clips]
        where, which = gather(self.edges, of)
        out[where, self.members[which]] = 1
        return out


def labels_of(clip_ids: Sequence[str], manifest: Mapping[str, Clip], classes: Sequence[str]) -> Labels:
    """The labels of some clips.

    Raises
    ------
    StoreError
        the manifest does not list a clip, or a label is not among the classes
    """
    sets: dict[tuple[str, ...], int] = {}
    try:
        of = [sets.setdefault(manifest[clip_id].labels, len(sets)) for clip_id in clip_ids]
    except KeyError as error:
        raise StoreError(
            f"the store's manifest does not list clip {error.args[0]!r}, so its labels are not known; "
            "labels=() does without labels"
        ) from None
    number = {label: i for i, label in enumerate(classes)}
    unknown = sorted({label for labels in sets for label in labels} - number.keys())
    if unknown:
        raise StoreError(f"the manifest has labels that are not among the {len(number)} given: {', '.join(unknown)}")
    edges = np.cumsum([0, *map(len, sets)])
    members = np.array([number[label] for labels in sets for label in labels], np.int64)
    return Labels(tuple(classes), np.array(of, np.int32), edges, members)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Events of N clips, E of them by clip.

    Parameters
    ----------
    classes
        how many there are
    modalities
        that the store has events of
    edges
        (N + 1,) int64: the events of clip n are those in ``[edges[n], edges[n + 1])``
    modality, onset_s, offset_s, label
        (E,) int64
    """

    classes: int
    modalities: tuple[Modality, ...]
    edges: NDArray[np.int64]
    modality: NDArray[np.int64]
    onset_s: NDArray[np.int64]
    offset_s: NDArray[np.int64]
    label: NDArray[np.int64]

    def annotated(self, clips: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(B,) bool: which clips have events at all; of the others nothing is known."""
        return np.asarray(self.edges[clips + 1] > self.edges[clips])

    def dense(self, clips: NDArray[np.int64], seconds: int) -> dict[Modality, NDArray[np.float32]]:
        """By modality, (B, seconds, C) float32: 1 where a class is heard, seen, or both; later seconds have no place."""
        out = np.zeros((len(self.modalities), len(clips), seconds, self.classes), np.float32)
        for place, i in zip(*(each.tolist() for each in gather(self.edges, clips)), strict=True):
            out[self.modality[i], place, self.onset_s[i] : self.offset_s[i], self.label[i]] = 1
        return dict(zip(self.modalities, out, strict=True))


def targets_of(clip_ids: Sequence[str], events: Sequence[Event], classes: Sequence[str]) -> Targets:
    """The events of some clips.

    Raises
    ------
    StoreError
        an event's label is not among the classes
    """
    number = {label: i for i, label in enumerate(classes)}
    unknown = sorted({event.label for event in events} - number.keys())
    if unknown:
        raise StoreError(f"the store's events have labels that are not among its classes: {', '.join(unknown)}")
    modalities = tuple(each for each in MODALITIES if any(event.modality == each for event in events))
    of: dict[str, list[Event]] = {event.clip_id: [] for event in events}
    for event in events:
        of[event.clip_id].append(event)
    found = [of.get(clip_id, ()) for clip_id in clip_ids]
    table = [
        (modalities.index(event.modality), event.onset_s, event.offset_s, number[event.label])
        for each in found
        for event in each
    ]
    columns = np.array(table, np.int64).reshape(-1, 4).T
    return Targets(len(classes), modalities, np.cumsum([0, *map(len, found)]), *columns)


def gather(edges: NDArray[np.int64], which: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The members of some of the groups that `edges` cut a list into: to which of `which` each belongs, and its number."""
    counts = edges[which + 1] - edges[which]
    whose = np.repeat(np.arange(len(which)), counts)
    first = np.cumsum(counts) - counts
    return whose, np.arange(len(whose)) - np.repeat(first - edges[which], counts)
