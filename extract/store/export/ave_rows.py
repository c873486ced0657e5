"""Which clip every row of AVE's arrays is, and its labels: from the official annotations, or from the store's manifest.

Source of the rules: data/Annotations.txt, labels_closs.h5, mil_labels.h5 and the order files of YapengTian/AVE-ECCV18,
which agree with each other in all 4,143 rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.errors import ManifestError, StoreError
from extract.store.store import Store
from manifests import ave
from manifests.clip import Clip
from manifests.dense import Event

SEGMENTS = 10
BACKGROUND = len(ave.LABELS)
CLASSES = BACKGROUND + 1
SPLITS = ("train", "val", "test")
OFFICIAL_ROWS = 4143
OFFICIAL_BATCH = 402


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The rows of AVE's arrays.

    Parameters
    ----------
    clip_ids, video_ids
        N each; a clip id is the video's id and the category
    classes
        (N,) int64, 0 to 27: place of the category in manifests.ave.LABELS
    event
        (N, 10) bool, whether the event is in that second
    orders
        by split, int64 row numbers; splits without an order are not in it
    annotations
        bytes of Annotations.txt
    notes
        sentences for the user
    """

    clip_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    classes: NDArray[np.int64]
    event: NDArray[np.bool_]
    orders: dict[str, NDArray[np.int64]]
    annotations: bytes
    notes: tuple[str, ...] = ()

    def labels(self) -> NDArray[np.float32]:
        """(N, 10, 29) float32, one class per second; where the event is not, the background."""
        classes = np.where(self.event, self.classes[:, None], BACKGROUND)
        return np.eye(CLASSES, dtype=np.float32)[classes]

    def mil_labels(self) -> NDArray[np.float32]:
        """(N, 29) float32, the class of the row, never the background."""
        return np.eye(CLASSES, dtype=np.float32)[self.classes]

    def closs_labels(self) -> NDArray[np.float32]:
        """(N, 10) float32, 1 where the event is."""
        return self.event.astype(np.float32)

    def prob_labels(self) -> NDArray[np.float32]:
        """(N, 29) float32, share of the seconds that each class has, background included."""
        share = self.event.sum(axis=1) / SEGMENTS
        table = np.zeros((len(self.classes), CLASSES), np.float32)
        table[np.arange(len(self.classes)), self.classes] = share
        table[:, BACKGROUND] = 1 - share
        return table


def from_annotations(folder: Path) -> Table:
    """Rows and orders as in the official data folder: ``Annotations.txt`` and ``{train,val,test}_order.h5``.

    Raises
    ------
    ManifestError
        a file is missing or broken, or a row cannot be used, so that the numbers of the others would be wrong
    """
    path = folder / "Annotations.txt"
    built = ave.clips(path)
    lost = [each for each in built.problems if each.file == str(path) and each.message.endswith("(left out)")]
    if lost:
        raise ManifestError(
            f"{len(lost)} row(s) of {path} cannot be used, and without them all others would have other numbers than in "
            f"the official arrays; the first: {lost[0]}"
        )
    orders = {
        split: read_order(order, len(built.clips))
        for split in SPLITS
        if (order := folder / f"{split}_order.h5").is_file()
    }
    notes = tuple(f"no {split}_order.h5 in {folder}: none is written" for split in SPLITS if split not in orders)
    return _table(built.clips, built.events, orders, path.read_bytes(), notes)


def read_order(path: Path, rows: int) -> NDArray[np.int64]:
    """The row numbers of an official order file, in its own order.

    Raises
    ------
    ManifestError
        it is no such file, or names a row that is none of `rows`
    """
    try:
        with h5py.File(path, "r") as file:
            order = file["order"][()]
    except (OSError, KeyError) as error:
        raise ManifestError(f"{path} is no HDF5 file with a dataset 'order': {error}") from error
    if getattr(order, "ndim", 0) != 1 or order.dtype.kind not in "iu":
        raise ManifestError(f"{path}: the dataset 'order' must be a list of whole numbers, the rows of the split")
    if order.size and not 0 <= order.min() <= order.max() < rows:
        raise ManifestError(f"{path} names rows from {order.min()} to {order.max()}; the annotations have {rows}")
    return np.asarray(order, dtype=np.int64)


def from_store(store: Store) -> Table:
    """Rows in the order of the store's manifest, which is that of the annotations where `extract manifest ave` made it.

    Orders are by row number: the official ones are shuffled, which is known to the official order files only.

    Raises
    ------
    StoreError
        the manifest is not AVE's, or has no events
    """
    clips = tuple(store.manifest.values())
    advice = "give the official folder with --annotations DIR"
    if not ave.is_ave(clips):
        raise StoreError(
            f"the manifest of {store.path} is not AVE's ({len(clips)} clips; each must have one of the {BACKGROUND} "
            f"categories as its label and <video>_<category> as its id): {advice}"
        )
    known = {clip.clip_id for clip in clips}
    events = tuple(event for event in store.events if event.clip_id in known)
    if not events:
        raise StoreError(f"{store.path} has no manifest.dense.csv, so that no event has a time: {advice}")
    orders = {
        split: np.array([row for row, clip in enumerate(clips) if clip.split == split], np.int64) for split in SPLITS
    }
    notes = ["the order files are in the order of the manifest; the official ones, shuffled, come with --annotations"]
    alone = sum(clip.split not in SPLITS for clip in clips)
    if alone:
        notes.append(f"{alone} clips are in no split, and so in no order file")
    return _table(clips, events, orders, _written(clips, events), tuple(notes))


def _table(
    clips: Sequence[Clip],
    events: Sequence[Event],
    orders: dict[str, NDArray[np.int64]],
    annotations: bytes,
    notes: tuple[str, ...],
) -> Table:
    place = {label: i for i, label in enumerate(ave.LABELS)}
    for clip in clips:
        if clip.labels[0] not in place:
            raise ManifestError(
                f"clip {clip.clip_id!r} has the category {clip.labels[0]!r}, which is none of AVE's {BACKGROUND}"
            )
    spans = _spans(clips, events)
    event = np.zeros((len(clips), SEGMENTS), bool)
    for row, clip in enumerate(clips):
        onset_s, offset_s = spans.get(clip.clip_id, (0, 0))
        event[row, onset_s:offset_s] = True
    if len(clips) != OFFICIAL_ROWS:
        notes = (*notes, f"{len(clips)} rows; the official arrays have {OFFICIAL_ROWS}")
    return Table(
        tuple(clip.clip_id for clip in clips),
        tuple(video_id(clip) for clip in clips),
        np.array([place[clip.labels[0]] for clip in clips], np.int64),
        event,
        orders,
        annotations,
        notes,
    )


def video_id(clip: Clip) -> str:
    """The video's id in the id of an AVE clip."""
    return clip.clip_id.removesuffix(ave.clip_id("", clip.labels[0]))


def _spans(clips: Sequence[Clip], events: Sequence[Event]) -> Mapping[str, tuple[int, int]]:
    label = {clip.clip_id: clip.labels[0] for clip in clips}
    spans: dict[str, tuple[int, int]] = {}
    for event in events:
        if event.clip_id in spans or event.label != label[event.clip_id]:
            raise StoreError(
                f"clip {event.clip_id!r} has more events than one, or one of another label ({event.label!r}); a row of AVE "
                "has one event, of its own category"
            )
        spans[event.clip_id] = (event.onset_s, event.offset_s)
    return spans


def _written(clips: Sequence[Clip], events: Sequence[Event]) -> bytes:
    spans = _spans(clips, events)
    lines = []
    for clip in clips:
        onset_s, offset_s = spans.get(clip.clip_id, (0, 0))  # as the official file says of its one row without an event
        # the quality is `good` in all rows of the official file
        lines.append(f"{clip.labels[0]}&{video_id(clip)}&good&{onset_s}&{offset_s}\n")
    return "".join(lines).encode()
