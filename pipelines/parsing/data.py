"""Features and labels of a split, resident in memory: one row per second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.errors import PlanError, StoreError, UnknownName
from extract.store import Store
from extract.store.export.report import Missing
from extract.store.training.aligned import AlignedRows
from manifests.dense import Event
from pipelines.parsing.batch import Batch
from pipelines.parsing.metrics import Parse, truth_of
from pipelines.parsing.scoring.interference import Subsets, subsets
from pipelines.parsing.task import Task

READ_AT_ONCE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """N clips with rows in every slot and T seconds each.

    Parameters
    ----------
    name
        ``train``, ``val``, ``test``
    ids
        N of them, in the manifest's order
    asked
        how many clips the manifest has in this split
    missing
        what the others lack, and why
    features
        by slot, (N, T, *dims) float32; rows that a policy filled count as zeros
    weak
        (N, C) float32, multi-hot: the labels of each clip
    truth
        what is heard and seen in each second, for AVVP; None where the store has no labels with times for this split
    event
        (N, T) int64, the class of each second, for AVE; None where the store has no labels with times
    differing
        in which clips what is heard differs from what is seen; with `truth`
    """

    name: str
    ids: tuple[str, ...]
    asked: int
    missing: tuple[Missing, ...]
    features: Mapping[str, Tensor]
    weak: Tensor
    truth: Parse | None = None
    event: Tensor | None = None
    differing: Subsets | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.ids)

    @property
    def seconds(self) -> int:
        """T."""
        return int(next(iter(self.features.values())).shape[1])

    @property
    def dims(self) -> dict[str, int]:
        """The last dimension by slot: what a network's first layer takes."""
        return {slot: int(rows.shape[-1]) for slot, rows in self.features.items()}

    @property
    def over(self) -> str:
        """``1108 of 1200 clips``."""
        return f"{len(self):,} of {self.asked:,} clips"

    def batch(self, rows: Tensor) -> Batch:
        """Some of the clips, by number."""
        features = {slot: data[rows] for slot, data in self.features.items()}
        return Batch(rows, features, self.weak[rows], None if self.event is None else self.event[rows])

    def part(self, rows: NDArray[np.int64]) -> Split:
        """A split of some of the clips, by number."""
        at = torch.from_numpy(rows).to(self.weak.device)
        batch = self.batch(at)
        truth = None if self.truth is None else Parse(self.truth.audio[rows], self.truth.visual[rows])
        return replace(
            self, ids=tuple(self.ids[i] for i in rows.tolist()), features=batch.features, weak=batch.weak,
            event=batch.event, truth=truth,
            differing=None if self.differing is None else Subsets(*(each[rows] for each in self.differing)),
        )  # fmt: skip

    def to(self, device: str) -> Split:
        """The same on another device."""
        features = {slot: data.to(device) for slot, data in self.features.items()}
        event = None if self.event is None else self.event.to(device)
        return replace(self, features=features, weak=self.weak.to(device), event=event)


def resolve_keys(store: Store, names: Mapping[str, str]) -> dict[str, str]:
    """The full key of each slot.

    Raises
    ------
    UnknownName
        the store has no such feature
    """
    try:
        return {slot: store.resolve(name) for slot, name in names.items() if name}
    except UnknownName as error:
        raise UnknownName(f"{error}; `extract run MANIFEST --backbones NAME --out {store.path}` adds one") from None


def load_split(store: Store, task: Task, keys: Mapping[str, str], name: str, *, seconds: int | None = None) -> Split:
    """Read a split of a store.

    Parameters
    ----------
    store, task
        what is there, and what is to be found in it
    keys
        full key by slot; of several rows in a second, the mean of the valid ones is taken (networks whose first layer is
        linear, HAN's among them, give the same for it as for the rows)
    name
        of the split
    seconds
        that every clip must have; None: those of the first

    Raises
    ------
    UnknownName
        the manifest has no such split
    ManifestError
        a label is not in the task's vocabulary
    StoreError
        no clip has rows in every slot, a clip has no label or not-finite features, or clips differ in length
    """
    if not store.manifest:
        raise StoreError(f"{store.path} holds no manifest, so nothing is known of splits and labels; run or import one")
    ids = store.split_ids(name)
    rows = AlignedRows(store, list(keys.values()), ids, pool="mean")
    kept = tuple(raw.decode() for raw in rows.ids.tolist())
    check_spans(rows, kept, seconds)
    found = labelled(store, task, kept, rows_seconds(rows))
    features = dict(zip(keys, map(torch.from_numpy, _read(rows, kept)), strict=True))
    return replace(found, name=name, asked=len(ids), missing=rows.missing(), features=features)


def labelled(store: Store, task: Task, ids: Sequence[str], seconds: int) -> Split:
    """A split of some clips without features: labels only.

    Raises
    ------
    ManifestError
        a label is not in the task's vocabulary
    StoreError
        a clip has no label
    """
    kept = tuple(ids)
    found = Split("", kept, len(kept), (), {}, torch.from_numpy(_weak(store, task, kept)))
    chosen = set(kept)
    events = [event for event in store.events if event.clip_id in chosen]
    if not events:
        return found
    if task.name == "avvp":
        truth = truth_of(events, kept, task.classes, seconds)
        return replace(found, truth=truth, differing=subsets(scored_events(store), kept))
    return replace(found, event=torch.from_numpy(seconds_of(events, kept, task, seconds)))


def rows_seconds(rows: AlignedRows) -> int:
    """The seconds of the first clip."""
    assert rows.seconds is not None
    return int(rows.seconds[0].spans(rows.rows[0][:1].astype(np.int64))[0])


def scored_events(store: Store) -> list[Event]:
    """The labels with times of val and test, which scores rest on."""
    listed = store.manifest
    return [
        event for event in store.events if event.clip_id in listed and listed[event.clip_id].split in ("val", "test")
    ]


def seconds_of(events: Sequence[Event], ids: Sequence[str], task: Task, seconds: int) -> NDArray[np.int64]:
    """The class of each second of AVE clips, (N, T): that of the event that covers it, else the background.

    Raises
    ------
    StoreError
        two events of different classes cover one second
    """
    at = {clip_id: i for i, clip_id in enumerate(ids)}
    background = len(task.classes) - 1
    out = np.full((len(ids), seconds), background, np.int64)
    for event in events:
        if event.modality != "both":
            continue
        number, place = task.number(event.label), slice(event.onset_s, event.offset_s)
        there = out[at[event.clip_id], place]
        if not np.isin(there, (background, number)).all():
            raise StoreError(
                f"clip {event.clip_id!r} has events of several classes in seconds {event.onset_s} to {event.offset_s}; the "
                "task ave takes one class per second, avvp any number"
            )
        there[:] = number
    return out


def _weak(store: Store, task: Task, ids: Sequence[str]) -> NDArray[np.float32]:
    out = np.zeros((len(ids), len(task.classes)), np.float32)
    known: dict[str, int] = {}
    for i, clip_id in enumerate(ids):
        labels = store.manifest[clip_id].labels
        if not labels:
            raise StoreError(
                f"clip {clip_id!r} has no labels in {store.path / 'manifest.csv'}; parsers need one per clip: add them to the "
                "manifest and run again, or take the clip out of its split"
            )
        for label in labels:
            if label not in known:
                known[label] = task.number(label)
            out[i, known[label]] = 1
    return out


def check_spans(rows: AlignedRows, ids: Sequence[str], seconds: int | None) -> None:
    """Whether all clips have as many seconds; None: as the first.

    Raises
    ------
    StoreError
        one has not
    """
    assert rows.seconds is not None
    for key, axis, counts in zip(rows.keys, rows.seconds, rows.rows, strict=True):
        spans = axis.spans(counts.astype(np.int64))
        seconds = int(spans[0]) if seconds is None else seconds
        wrong = np.flatnonzero(spans != seconds)
        if len(wrong):
            raise StoreError(
                f"clip {ids[wrong[0]]!r} has {spans[wrong[0]]} seconds of {key}, others have {seconds}; parsers need one "
                "length: cut them in the manifest, or use a recipe with a fixed number of rows, such as llp"
            )


def _read(rows: AlignedRows, ids: Sequence[str]) -> list[NDArray[np.float32]]:
    at = np.arange(len(ids))
    arrays = [np.empty(shape, np.float32) for shape in rows.shapes(at)]
    step = max(1, READ_AT_ONCE_BYTES // max(1, sum(array.nbytes for array in arrays) // len(ids)))
    for start in range(0, len(ids), step):
        outs = [array[start : start + step] for array in arrays]
        rows.read(at[start : start + step], outs)
        for key, out in zip(rows.keys, outs, strict=True):
            finite = np.isfinite(out.reshape(len(out), -1)).all(axis=1)
            if not finite.all():
                clip_id = ids[start + int(np.argmin(finite))]
                raise StoreError(
                    f"clip {clip_id!r} has NaN or infinite numbers in {key}; `extract verify` lists such clips, "
                    "`extract store rm --clip` removes them so that a run computes them again"
                )
    return arrays


def check_dims(split: Split, dims: Mapping[str, int]) -> None:
    """Whether a network made for some dims can read a split.

    Raises
    ------
    PlanError
        it cannot
    """
    for slot, wanted in dims.items():
        if slot not in split.features:
            raise PlanError(
                f"the network reads {wanted} numbers per second in the slot {slot}, and no key is given: --{slot}"
            )
        if split.dims[slot] != wanted:
            raise PlanError(
                f"the network reads {wanted} numbers per second in the slot {slot}, the store's key gives {split.dims[slot]}: "
                f"choose another --{slot}, or train anew"
            )
