"""LLP (Look, Listen and Parse): 11,849 ten-second clips, labels of the clip, and events for its val and test clips.

Source of the formats: the CSVs and scripts of YapengTian/AVVP-ECCV20. All CSVs are TAB-separated with a header.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from extract.errors import ManifestError
from manifests.built import Built, Problem, Source, check_extension, look_for, shared_files, source_of
from manifests.clip import Clip
from manifests.dense import Event, whole_seconds
from manifests.seconds import NS_PER_S, to_ns
from manifests.table import read_lines

LABELS: tuple[str, ...] = (
    "Speech", "Car", "Cheering", "Dog", "Cat",
    "Frying_(food)", "Basketball_bounce", "Fire_alarm", "Chainsaw", "Cello",
    "Banjo", "Singing", "Chicken_rooster", "Violin_fiddle", "Vacuum_cleaner",
    "Baby_laughter", "Accordion", "Lawn_mower", "Motorcycle", "Helicopter",
    "Acoustic_guitar", "Telephone_bell_ringing", "Baby_cry_infant_cry", "Blender", "Clapping",
)  # fmt: skip
"""The official 25 in the official order: the index of a label is its class."""

CLIP_S = 10
_ID = re.compile(r"([A-Za-z0-9_-]{11})_([0-9]+(?:\.[0-9]+)?)_([0-9]+(?:\.[0-9]+)?)")
_SPLITS = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
_EVENTS: dict[Literal["audio", "visual"], str] = {"audio": "AVVP_eval_audio.csv", "visual": "AVVP_eval_visual.csv"}
_WEAK = "filename\tevent_labels"
_DENSE = "filename\tonset\toffset\tevent_labels"
_VERSIONS = {
    "98d8ce2369078d43aa1df26d3ef2894c": "the official file since 2024-04-16",
    "a8b6b747e59a4ea2501e51cd717f3b4f": "the official file until 2024-04-16, on which most published numbers rest",
    "3d25e5a6033e2ef7c7e391cfbfdc01f9": "the official file",
}


@dataclass(frozen=True, slots=True)
class Dense:
    """Events of the val and test clips, what is wrong with their CSVs, and which CSVs those were."""

    events: tuple[Event, ...]
    problems: tuple[Problem, ...]
    sources: tuple[Source, ...]


def is_llp(clips: Iterable[Clip]) -> bool:
    """Whether every id is ``<11 characters>_<start>_<end>`` and every clip has labels, all of the official 25."""
    known = set(LABELS)
    empty = True
    for clip in clips:
        empty = False
        if not (_ID.fullmatch(clip.clip_id) and clip.labels and known.issuperset(clip.labels)):
            return False
    return not empty


def clips(
    annotations: Path,
    videos: Path | None = None,
    *,
    extension: str = ".mp4",
    full_videos: bool = False,
    train: Path | None = None,
    val: Path | None = None,
    test: Path | None = None,
    audio: Path | None = None,
    visual: Path | None = None,
) -> Built:
    """The clips of an LLP annotation file.

    The id is the full filename with its span (``BjCEufrlXm4_20_30``), the file ``<first 11 characters><extension>``.

    Parameters
    ----------
    annotations
        ``AVVP_dataset_full.csv`` or one of the split files
    videos
        where the files are; only to say how many are missing
    extension
        of the files
    full_videos
        False: the files are the clips, cut as the official download script does, and are used whole. True: they are
        whole downloads, and the id's span is cut from them (the official script cuts ten seconds from the start and
        never reads the end; ids for which that differs are reported)
    train, val, test
        split files; by default those under their official names beside the annotations
    audio, visual
        files of events; by default those under their official names beside the annotations

    Raises
    ------
    ManifestError
        a file that was named is missing or has another header, or no row could be used
    """
    check_extension(extension)
    beside = annotations.parent
    splits = {
        name: _named_or_beside(path, beside / _SPLITS[name])
        for name, path in (("train", train), ("val", val), ("test", test))
    }
    members = {name: _members(path) for name, path in splits.items() if path is not None}
    split_of, problems = _split_of(members, splits)
    built: dict[str, tuple[int, str, Clip]] = {}
    for line, text in _rows(annotations, _WEAK):
        clip, said = _clip(text, extension, full_videos)
        if clip is not None and clip.clip_id in built:
            said = [f"id already on line {built[clip.clip_id][0]} (left out)"]
        elif clip is not None:
            split, labels = split_of.get(clip.clip_id, ("", ""))
            if split and labels != text.split("\t")[1]:
                said.append(f"the labels here differ from {labels!r} in the {split} split's file (kept)")
            built[clip.clip_id] = (line, text, replace(clip, split=split))
        problems += [Problem(line, text, message, str(annotations)) for message in said]
    if not built:
        raise ManifestError(f"{annotations} holds no usable row; the first problem: {_first(problems)}")
    problems += shared_files(built.values(), str(annotations))
    found = tuple(clip for _, _, clip in built.values())
    notes = _split_notes(found, members)
    audio_csv = _named_or_beside(audio, beside / _EVENTS["audio"])
    visual_csv = _named_or_beside(visual, beside / _EVENTS["visual"])
    dense = dense_labels(audio_csv, visual_csv, built.keys() | split_of.keys())
    events = tuple(event for event in dense.events if event.clip_id in built)
    notes += _event_notes(found, events, dense)
    missing, note = look_for(found, videos)
    return Built(found, (*problems, *dense.problems), (*notes, *note), events, missing)


def _clip(text: str, extension: str, full_videos: bool) -> tuple[Clip | None, list[str]]:
    fields = text.split("\t")
    if len(fields) != 2:
        return None, [f"{len(fields)} TAB-separated columns, must be 2 (left out)"]
    match = _ID.fullmatch(fields[0])
    if match is None:
        return None, ["the filename must be <11-character YouTube id>_<start>_<end> (left out)"]
    try:
        start_ns, stop_ns = to_ns(match[2]), to_ns(match[3])
    except ManifestError as error:
        return None, [f"{error} (left out)"]
    labels = tuple(fields[1].split(","))
    unknown = [label for label in labels if label not in LABELS]
    if unknown:
        return None, [f"not among the 25 labels of LLP: {', '.join(map(repr, unknown))} (left out)"]
    said = []
    if len(set(labels)) < len(labels):
        said.append("a label is there twice (kept)")
    if full_videos and stop_ns <= start_ns:
        return None, ["the span ends before it begins (left out)"]
    if stop_ns - start_ns != CLIP_S * NS_PER_S:
        said.append(f"the span is not {CLIP_S} s; the official script cuts {CLIP_S} s from its start (kept)")
    clip = Clip(fields[0], match[1] + extension, labels=labels)
    return replace(clip, start_ns=start_ns, stop_ns=stop_ns) if full_videos else clip, said


def dense_labels(audio_csv: Path | None, visual_csv: Path | None, known: Collection[str] | None = None) -> Dense:
    """The events that were heard and those that were seen.

    Parameters
    ----------
    audio_csv, visual_csv
        ``AVVP_eval_audio.csv`` and ``AVVP_eval_visual.csv``, or None
    known
        ids that exist; rows of other ids are reported and left out. None: any id will do

    Returns
    -------
    Dense
        events in the order of the rows. Rows with offset <= onset, an unknown filename or label are reported and left
        out; exact duplicates and ends beyond ten seconds are reported and kept. `manifests.dense.by_clip` groups them
    """
    events: list[Event] = []
    problems: list[Problem] = []
    sources: list[Source] = []
    for modality, path in (("audio", audio_csv), ("visual", visual_csv)):
        if path is None:
            continue
        seen: dict[str, int] = {}
        for line, text in _rows(path, _DENSE):
            event, said = _event(text, "audio" if modality == "audio" else "visual", known)
            if text in seen:
                said.append(f"the same as line {seen[text]} ({'left out' if event is None else 'kept'})")
            seen.setdefault(text, line)
            problems += [Problem(line, text, message, str(path)) for message in said]
            if event is not None:
                events.append(event)
        sources.append(source_of(path))
    return Dense(tuple(events), tuple(problems), tuple(sources))


def _event(
    text: str, modality: Literal["audio", "visual"], known: Collection[str] | None
) -> tuple[Event | None, list[str]]:
    fields = text.split("\t")
    if len(fields) != 4:
        return None, [f"{len(fields)} TAB-separated columns, must be 4 (left out)"]
    clip_id, onset, offset, label = fields
    said = []
    if known is not None and clip_id not in known:
        said.append("no clip has this filename (left out)")
    if label not in LABELS:
        said.append(f"{label!r} is not among the 25 labels of LLP (left out)")
    if not (whole_seconds(onset) and whole_seconds(offset)):
        return None, [*said, "onset and offset must be whole seconds >= 0 (left out)"]
    onset_s, offset_s = int(onset), int(offset)
    if offset_s <= onset_s:
        said.append(f"offset {offset_s} is not after onset {onset_s}, so the event is empty (left out)")
    if said:
        return None, said
    if offset_s > CLIP_S:
        said.append(f"offset {offset_s} is beyond the clip's {CLIP_S} s (kept)")
    return Event(clip_id, modality, onset_s, offset_s, label), said


def _rows(path: Path, header: str) -> list[tuple[int, str]]:
    lines = read_lines(path)
    if not lines or lines[0][1] != header:
        got = lines[0][1][:100] if lines else ""
        raise ManifestError(
            f"{path}: line 1: the header must be {header!r} (TAB-separated), not {got!r}; the official files are in "
            "the folder data of https://github.com/YapengTian/AVVP-ECCV20"
        )
    return lines[1:]


def _named_or_beside(named: Path | None, beside: Path) -> Path | None:
    if named is None:
        return beside if beside.is_file() else None
    return named


def _members(path: Path) -> dict[str, tuple[int, str]]:
    rows = ((line, *text.partition("\t")) for line, text in _rows(path, _WEAK))
    return {filename: (line, labels) for line, filename, _, labels in rows}


def _split_of(
    members: dict[str, dict[str, tuple[int, str]]], files: dict[str, Path | None]
) -> tuple[dict[str, tuple[str, str]], list[Problem]]:
    split_of: dict[str, tuple[str, str]] = {}
    problems = []
    for split, rows in members.items():
        for filename, (line, labels) in rows.items():
            if filename in split_of:
                message = f"already in the split {split_of[filename][0]}, where it stays"
                problems.append(Problem(line, f"{filename}\t{labels}", message, str(files[split])))
            split_of.setdefault(filename, (split, labels))
    return split_of, problems


def _split_notes(found: tuple[Clip, ...], members: dict[str, dict[str, tuple[int, str]]]) -> list[str]:
    notes = [
        f"no {name} beside the annotations: no clip is in the split {split}"
        for split, name in _SPLITS.items()
        if split not in members
    ]
    alone = sum(not clip.split for clip in found)
    if alone and members:
        notes.append(f"{alone} clips are in no split file; their split is empty")
    ids = {clip.clip_id for clip in found}
    for split, rows in members.items():
        absent = len(rows.keys() - ids)
        if absent:
            notes.append(f"{absent} of {len(rows)} clips of the split {split} are not in the annotations")
    return notes


def _event_notes(found: tuple[Clip, ...], events: tuple[Event, ...], dense: Dense) -> list[str]:
    notes = [
        f"events from {source.file} ({_VERSIONS.get(source.md5, 'not an official version')}): "
        f"sha256 {source.sha256}, md5 {source.md5}"
        for source in dense.sources
    ]
    if len(events) < len(dense.events):
        notes.append(f"{len(dense.events) - len(events)} events belong to clips that are not in the annotations")
    evaluated = {clip.clip_id for clip in found if clip.split in ("val", "test")}
    if evaluated and dense.sources:
        for modality in _EVENTS:
            without = len(evaluated - {event.clip_id for event in events if event.modality == modality})
            notes.append(f"{without} of {len(evaluated)} val and test clips have no {modality} event")
    return notes


def _first(problems: list[Problem]) -> str:
    return str(problems[0]) if problems else "there are no rows"
