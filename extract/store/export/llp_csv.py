"""The six CSVs of LLP, as copies of the official ones or from a store's manifest.

Source: data/ of YapengTian/AVVP-ECCV20. TAB-separated with a header; ``filename`` and ``event_labels``, in the two
AVVP_eval files ``filename``, ``onset``, ``offset``, ``event_labels`` with one event per row.

Copies are the official bytes, less the rows of clips that are left out: nothing is ever corrected. The official code
looks events up by the whole filename of a row of AVVP_val_pd or AVVP_test_pd, so rows of the AVVP_eval files whose
filename no such row has are never read. They stay: an export that leaves no clip out has the official files, whose
digests publications state.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from extract.errors import ManifestError, StoreError
from manifests.llp import LABELS

if TYPE_CHECKING:
    from extract.store import Store
    from manifests.clip import Clip

SPLITS = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
LABELLED = ("AVVP_dataset_full.csv", *SPLITS.values())
EVENTS = {"audio": "AVVP_eval_audio.csv", "visual": "AVVP_eval_visual.csv"}
NAME = 11
_LABELS_HEADER = "filename\tevent_labels"
_EVENTS_HEADER = "filename\tonset\toffset\tevent_labels"


@dataclass(frozen=True, slots=True)
class Tables:
    """CSVs to be written.

    Parameters
    ----------
    files
        content by name
    strangers
        filenames of the annotations that are no clip of the store
    notes
        sentences for the user
    """

    files: dict[str, bytes]
    strangers: tuple[str, ...]
    notes: tuple[str, ...]


def from_annotations(
    folder: Path, listed: Collection[str], known: Collection[str], *, keep_strangers: bool = False
) -> Tables:
    """Copies of the official CSVs with the rows of some clips.

    A row is that of a clip whose id is its filename, or its first 11 characters.

    Parameters
    ----------
    folder
        that holds all six
    listed
        ids of the clips whose rows are kept
    known
        ids of all clips of the store
    keep_strangers
        whether rows that are no clip of the store are kept too

    Raises
    ------
    ManifestError
        a file is missing or has another header
    """
    raw = {name: _read(folder / name, _LABELS_HEADER) for name in LABELLED}
    raw |= {name: _read(folder / name, _EVENTS_HEADER) for name in EVENTS.values()}
    dropped: set[str] = set()
    strangers: dict[str, None] = {}
    for name in LABELLED:
        for line in raw[name][1:]:
            filename = _filename(line)
            if not filename or _one_of(filename, listed):
                continue
            if not _one_of(filename, known):
                strangers[filename] = None
                if keep_strangers:
                    continue
            dropped.add(filename)
    files = {name: b"".join(line for line in lines if _filename(line) not in dropped) for name, lines in raw.items()}
    kept = {name: files[name].count(b"\n") for name in raw}
    notes = [
        f"data/{name} lost {len(raw[name]) - kept[name]} of {len(raw[name]) - 1} rows, those of clips that are not here"
        for name in raw
        if files[name] != b"".join(raw[name])
    ]
    return Tables(files, tuple(strangers), tuple(notes))


def from_store(store: Store, listed: Iterable[str]) -> Tables:
    """CSVs in the official form from the store's copies of its manifest and events.

    Clips without labels are in none of them, clips without a split in AVVP_dataset_full only; an event that is both
    heard and seen is in both AVVP_eval files. Without a manifest there are no CSVs.

    Raises
    ------
    StoreError
        an id or a label cannot stand in such a file
    """
    manifest = store.manifest
    clips = [manifest[clip_id] for clip_id in listed if clip_id in manifest]
    labelled = [clip for clip in clips if clip.labels]
    if not labelled:
        why = "knows no labels of these clips" if manifest else "has no copy of a manifest"
        return Tables({}, (), (f"{store.path} {why}, so no CSVs are written; --annotations copies the official ones",))
    files = {LABELLED[0]: _labels_csv(labelled)}
    files |= {name: _labels_csv(clip for clip in labelled if clip.split == split) for split, name in SPLITS.items()}
    ids = {clip.clip_id for clip in labelled}
    events = [event for event in store.events if event.clip_id in ids]
    for modality, name in EVENTS.items():
        rows = [
            (event.clip_id, str(event.onset_s), str(event.offset_s), _label(event.label))
            for event in events
            if event.modality in (modality, "both")
        ]
        files[name] = _csv(_EVENTS_HEADER, rows)
    if not events:
        without = (
            f"{store.path} has no events of these clips: the AVVP_eval files have no rows, so evaluation means nothing"
        )
        return Tables(files, (), (*_remarks(clips, labelled), without))
    return Tables(files, (), tuple(_remarks(clips, labelled)))


def _remarks(clips: Sequence[Clip], labelled: Sequence[Clip]) -> Iterable[str]:
    if len(labelled) < len(clips):
        yield f"{len(clips) - len(labelled)} clips have no labels and are in no CSV"
    foreign = sorted({label for clip in labelled for label in clip.labels}.difference(LABELS))
    if foreign:
        some = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        yield f"{len(foreign)} labels are not among LLP's 25, and the official code stops at them: {some}"
    for split, name in SPLITS.items():
        if not any(clip.split == split for clip in labelled):
            yield f"data/{name} has no rows: no clip with labels is in the split {split}"


def _labels_csv(clips: Iterable[Clip]) -> bytes:
    return _csv(_LABELS_HEADER, ((clip.clip_id, ",".join(map(_label, clip.labels))) for clip in clips))


def _label(label: str) -> str:
    if "," in label:
        raise StoreError(f"label {label!r} holds a comma, which separates labels in LLP's CSVs; rename it there")
    return label


def _csv(header: str, rows: Iterable[Sequence[str]]) -> bytes:
    lines = [header]
    for row in rows:
        for text in row:
            if re.search(r'[\t"\r\n]', text):
                raise StoreError(f"{text!r} cannot stand in LLP's CSVs: no TAB, quote or line break in ids and labels")
        lines.append("\t".join(row))
    return ("\n".join(lines) + "\n").encode()


def _read(path: Path, header: str) -> list[bytes]:
    """Lines with their ends, the header first."""
    try:
        lines = re.findall(rb"[^\n]*\n|[^\n]+", path.read_bytes())
    except OSError as error:
        raise ManifestError(
            f"cannot read {path}: {error.strerror}; --annotations takes the folder data/ of AVVP-ECCV20, which holds "
            f"{', '.join((*LABELLED, *EVENTS.values()))}"
        ) from error
    if not lines or lines[0].rstrip(b"\r\n") != header.encode():
        raise ManifestError(f"{path} must begin with the line {header!r}")
    return lines


def _filename(line: bytes) -> str:
    return line.split(b"\t", 1)[0].strip(b"\r\n").decode("utf-8", "surrogateescape")


def _one_of(filename: str, ids: Collection[str]) -> bool:
    return filename in ids or filename[:NAME] in ids
