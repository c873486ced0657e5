"""AVE (Audio-Visual Event): 4,143 rows over 4,097 ten-second files, one event each, heard and seen at once.

Source of the formats: data/Annotations.txt and the order files of YapengTian/AVE-ECCV18.

The id of a clip is the video's id and its category, ``RUhOCu3LNXM_Church-bell``. 46 rows repeat a video under another
category, so the video's id alone is not unique; a row number would be, but names nothing and changes as soon as the
list is filtered or sorted. The manifest keeps the order of the rows, which is what the official arrays are indexed by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from extract.errors import ManifestError
from manifests.built import YOUTUBE_ID, Built, Problem, check_extension, look_for
from manifests.clip import Clip, fault
from manifests.dense import Event, whole_seconds
from manifests.table import read_lines

LABELS: tuple[str, ...] = (
    "Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane", "Race car, auto racing",
    "Female speech, woman speaking", "Helicopter", "Violin, fiddle", "Flute", "Ukulele",
    "Frying (food)", "Truck", "Shofar", "Motorcycle", "Acoustic guitar",
    "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry",
    "Bus", "Chainsaw", "Cat", "Horse", "Toilet flush",
    "Rodents, rats, mice", "Accordion", "Mandolin",
)  # fmt: skip
"""The official 28 in the order of their first appearance: the index of a category is its class, and background is 28."""

CLIP_S = 10
_SPLITS = {"train": "train_order.h5", "val": "val_order.h5", "test": "test_order.h5"}


def clips(
    annotations: Path,
    videos: Path | None = None,
    *,
    extension: str = ".mp4",
    train: Path | None = None,
    val: Path | None = None,
    test: Path | None = None,
) -> Built:
    """The clips of AVE, one per row of ``Annotations.txt``, in its order.

    Parameters
    ----------
    annotations
        lines ``Category&VideoID&Quality&Start&End``; the header of the version on Google Drive is passed over
    videos
        where the files are; only to say how many are missing
    extension
        of the files, which are called ``<VideoID><extension>`` and used whole
    train, val, test
        HDF5 files whose dataset ``order`` holds row numbers from 0; by default ``train_order.h5`` and so on beside the
        annotations

    Returns
    -------
    Built
        `labels` of a clip is its category; `events` holds where in the clip it is, modality ``both``. A row without a
        usable span is reported and kept, without an event: all of it is background

    Raises
    ------
    ManifestError
        a file that was named is missing or of another form, or no row could be used
    """
    check_extension(extension)
    named = {"train": train, "val": val, "test": test}
    beside = {split: annotations.parent / name for split, name in _SPLITS.items()}
    orders = {split: named[split] or path for split, path in beside.items() if named[split] or path.is_file()}
    lines = read_lines(annotations)
    if lines and lines[0][1].lower().startswith("category&videoid&"):
        lines = lines[1:]
    if not lines or "&" not in lines[0][1]:
        raise ManifestError(
            f"{annotations} holds no rows Category&VideoID&Quality&Start&End; the official Annotations.txt is in the "
            "folder data of https://github.com/YapengTian/AVE-ECCV18"
        )
    split_of, problems = _split_of(orders, len(lines))
    built: dict[str, tuple[int, Clip]] = {}
    events: list[Event] = []
    for row, (line, text) in enumerate(lines):
        clip, event, said = _clip(text, extension, split_of.get(row, ""))
        if clip is not None and clip.clip_id in built:
            said = [f"this video has this category on line {built[clip.clip_id][0]} already (left out)"]
        elif clip is not None:
            built[clip.clip_id] = (line, clip)
            events += [event] if event is not None else []
        problems += [Problem(line, text, message, str(annotations)) for message in said]
    if not built:
        raise ManifestError(f"{annotations} holds no usable row; the first problem: {problems[0]}")
    found = tuple(clip for _, clip in built.values())
    missing, note = look_for(found, videos)
    return Built(found, tuple(problems), (*_notes(found, orders), *note), tuple(events), missing)


def categories(clips: Iterable[Clip]) -> tuple[str, ...]:
    """Class names in order of first appearance: of the whole list, their official index; background is next."""
    return tuple(dict.fromkeys(label for clip in clips for label in clip.labels))


def clip_id(video_id: str, category: str) -> str:
    """``<VideoID>_<category>``; runs of anything but letters and digits in the category become ``-``."""
    return f"{video_id}_{re.sub(r'[^0-9A-Za-z]+', '-', category).strip('-')}"


def is_ave(clips: Iterable[Clip]) -> bool:
    """Whether every clip has one label, of the official 28, and the id that its video and that category make."""
    known = set(LABELS)
    empty = True
    for clip in clips:
        empty = False
        if len(clip.labels) != 1 or not known.issuperset(clip.labels):
            return False
        video_id = clip.clip_id.removesuffix(clip_id("", clip.labels[0]))
        if video_id == clip.clip_id or not YOUTUBE_ID.fullmatch(video_id):
            return False
    return not empty


def _clip(text: str, extension: str, split: str) -> tuple[Clip | None, Event | None, list[str]]:
    fields = text.split("&")
    if len(fields) != 5:
        return None, None, [f"{len(fields)} columns separated by &, must be 5 (left out)"]
    category, video_id, _, start, end = fields
    clip = Clip(clip_id(video_id, category), video_id + extension, labels=(category,), split=split)
    if not video_id or not category:
        return None, None, ["category and video id must not be empty (left out)"]
    if why := fault(clip):
        return None, None, [f"{why} (left out)"]
    said = []
    if not YOUTUBE_ID.fullmatch(video_id):
        said.append(f"{video_id!r} is not an 11-character YouTube id (kept)")
    if not (whole_seconds(start) and whole_seconds(end)):
        return clip, None, [*said, f"start {start!r} and end {end!r} must be whole seconds (kept, without its event)"]
    onset_s, offset_s = int(start), int(end)
    if onset_s >= offset_s:
        return clip, None, [*said, f"the event from {start} to {end} is empty (kept: all of it is background)"]
    if offset_s > CLIP_S:
        said.append(f"the event ends at {end}, beyond the clip's {CLIP_S} s (kept)")
    return clip, Event(clip.clip_id, "both", onset_s, offset_s, category), said


def _split_of(orders: dict[str, Path], rows: int) -> tuple[dict[int, str], list[Problem]]:
    split_of: dict[int, str] = {}
    problems = []
    for split, path in orders.items():
        for place, row in enumerate(_order(path), 1):
            if not 0 <= row < rows:
                message = f"entry {place} is no row of the annotations, which have {rows} (left out)"
                problems.append(Problem(0, str(row), message, str(path)))
            elif row in split_of:
                message = f"entry {place} names a row that is in the split {split_of[row]} already, where it stays"
                problems.append(Problem(0, str(row), message, str(path)))
            else:
                split_of[row] = split
    return split_of, problems


def _order(path: Path) -> list[int]:
    import h5py  # the rest of this package needs the standard library only

    if not path.is_file():
        raise ManifestError(f"there is no order file at {path}")
    try:
        with h5py.File(path, "r") as file:
            order = file["order"][()]
    except (OSError, KeyError) as error:
        raise ManifestError(f"{path} is no HDF5 file with a dataset 'order': {error}") from error
    if getattr(order, "ndim", 0) != 1 or order.dtype.kind not in "iu":
        raise ManifestError(f"{path}: the dataset 'order' must be a list of whole numbers, the rows of the split")
    return [int(row) for row in order]


def _notes(found: tuple[Clip, ...], orders: dict[str, Path]) -> list[str]:
    notes = [
        f"no {name} beside the annotations: no clip is in the split {split}"
        for split, name in _SPLITS.items()
        if split not in orders
    ]
    alone = sum(not clip.split for clip in found)
    if alone and orders:
        notes.append(f"{alone} clips are in no order file; their split is empty")
    splits: dict[str, set[str]] = {}
    for clip in found:
        splits.setdefault(clip.path, set()).add(clip.split)
    repeated = len(found) - len(splits)
    if repeated:
        notes.append(
            f"{len(found)} clips over {len(splits)} files: {repeated} rows name a file again, for another category"
        )
    for other in ("test", "val"):
        leaks = sorted(path for path, of in splits.items() if {"train", other} <= of)
        if leaks:
            notes.append(f"{len(leaks)} files are in both train and {other}, as published: {', '.join(leaks)}")
    return notes
