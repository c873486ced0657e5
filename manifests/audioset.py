"""AudioSet and VGGSound: ten-second spans of YouTube videos with labels of the whole span.

Sources of the formats: research.google.com/audioset (``# YTID, start_seconds, end_seconds, positive_labels``, labels as
ontology ids, ``class_labels_indices.csv`` to name them) and VGGSound's ``vggsound.csv`` (``YTID,start,"label",split``,
every span ten seconds long, no header).
"""

from __future__ import annotations

import csv
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from extract.errors import ManifestError
from manifests.built import YOUTUBE_ID, Built, Problem, look_for, shared_files
from manifests.clip import Clip, fault
from manifests.seconds import NS_PER_S, to_ns, to_text
from manifests.table import read_lines, read_table

Form = Literal["audioset", "vggsound"]
FIELDS = ("ytid", "start", "end", "start_ms", "end_ms")
VGGSOUND_SPAN_NS = 10 * NS_PER_S
_OFFICIAL = {"balanced_train_segments": "train", "unbalanced_train_segments": "train", "eval_segments": "test"}
_VGGSOUND_SPLITS = ("train", "val", "test")
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Row:
    ytid: str
    start_ns: int
    stop_ns: int
    labels: tuple[str, ...]
    split: str


def clips(
    annotations: Path,
    videos: Path | None = None,
    *,
    pattern: str = "{ytid}.mp4",
    full_videos: bool = False,
    class_labels: Path | None = None,
    split: str | None = None,
) -> Built:
    """The clips of an AudioSet or VGGSound CSV; which of the two it is, its first sound row says.

    The id keeps the span: ``<ytid>_<start>_<end>``.

    Parameters
    ----------
    annotations
        the CSV
    videos
        where the files are; only to say how many are missing
    pattern
        how the files are called, see `file_name`
    full_videos
        False: each file is one clip and is used whole. True: files are whole videos and the span is cut from them
    class_labels
        ``class_labels_indices.csv``, to write display names instead of ontology ids (``/m/09x0r`` -> ``Speech``)
    split
        of every row; None: VGGSound's column, or, for AudioSet's official file names, train and test (eval)

    Raises
    ------
    ManifestError
        a file is missing or of another form, the pattern is unusable, or no row could be used
    """
    check_pattern(pattern)
    lines = [(line, text) for line, text in read_lines(annotations) if not text.startswith("#")]
    form = _form(annotations, lines)
    names = _display_names(class_labels) if class_labels is not None else None
    default = split if split is not None else _OFFICIAL.get(annotations.stem, "")
    problems: list[Problem] = []
    built: dict[str, tuple[int, str, Clip]] = {}
    for line, text in lines:
        try:
            row = _row(text, form)
            row = replace(row, split=default if form == "audioset" or split is not None else row.split)
            clip, said = _clip(row, form, names, pattern, full_videos)
            if clip.clip_id in built:
                raise ManifestError(f"the same span of the same video is on line {built[clip.clip_id][0]} already")
        except ManifestError as error:
            said = [f"{error} (left out)"]
        else:
            built[clip.clip_id] = (line, text, clip)
        problems += [Problem(line, text, message, str(annotations)) for message in said]
    if not built:
        raise ManifestError(f"{annotations} holds no usable row; the first problem: {problems[0]}")
    problems += shared_files(built.values(), str(annotations))
    found = tuple(clip for _, _, clip in built.values())
    notes = [f"read as {'a VGGSound' if form == 'vggsound' else 'an AudioSet'} CSV"]
    if form == "audioset" and split is None and default:
        notes.append(f"split {default}, because the file is called {annotations.name}; --split says otherwise")
    missing, note = look_for(found, videos)
    return Built(found, tuple(problems), (*notes, *note), missing=missing)


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that cannot name one relative file per clip; see `file_name` for what is allowed.

    Raises
    ------
    ManifestError
        with the offending part and the fields there are
    """
    allowed = f"the fields are {', '.join('{' + name + '}' for name in FIELDS)}, numbers optionally as {{start:06d}}"
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ManifestError(f"pattern {pattern!r}: {error}; {allowed}") from None
    used = [(name, spec or "", conversion) for _, name, spec, conversion in parts if name is not None]
    for name, spec, conversion in used:
        if name not in FIELDS:
            raise ManifestError(f"pattern {pattern!r}: there is no field {name!r}; {allowed}")
        padded = name != "ytid" and re.fullmatch(r"(0[1-9][0-9]?)?d", spec)
        if conversion is not None or (spec and not padded):
            raise ManifestError(f"pattern {pattern!r}: {name!r} cannot be written as {spec or conversion!r}; {allowed}")
    if not any(name == "ytid" for name, _, _ in used):
        raise ManifestError(f"pattern {pattern!r} would name one file for all clips: {{ytid}} must be in it; {allowed}")
    if pattern.startswith("/") or "\0" in pattern or "\n" in pattern or "\r" in pattern:
        raise ManifestError(f"pattern {pattern!r} must be a path relative to --videos, without NUL and line breaks")


def file_name(pattern: str, ytid: str, start_ns: int, stop_ns: int) -> str:
    """The file of one clip.

    Fields are ``{ytid}``, ``{start}`` and ``{end}`` (seconds), ``{start_ms}`` and ``{end_ms}``; numbers can be padded,
    as in ``{ytid}_{start:06d}.mp4``, which needs whole ones.

    Raises
    ------
    ManifestError
        a number is not whole where the pattern needs it to be
    """
    times_ns = {"start": (start_ns, NS_PER_S), "end": (stop_ns, NS_PER_S)}
    times_ns |= {"start_ms": (start_ns, _NS_PER_MS), "end_ms": (stop_ns, _NS_PER_MS)}
    parts = []
    for text, name, spec, _ in string.Formatter().parse(pattern):
        parts.append(text)
        if name is None:
            continue
        if name == "ytid":
            parts.append(ytid)
            continue
        time_ns, unit_ns = times_ns[name]
        if time_ns % unit_ns == 0:
            parts.append(format(time_ns // unit_ns, spec or "d"))
        elif spec or unit_ns != NS_PER_S:
            raise ManifestError(f"the pattern needs a whole number for {name}, which is {to_text(time_ns)} s")
        else:
            parts.append(to_text(time_ns))
    return "".join(parts)


def _form(path: Path, lines: list[tuple[int, str]]) -> Form:
    for _, text in lines:
        try:
            _, start, third, last = _fields(text)
        except ManifestError:
            continue  # reported as a problem once the form is known
        if _is_seconds(start) and (_is_seconds(third) or last in _VGGSOUND_SPLITS):
            return "audioset" if _is_seconds(third) else "vggsound"
    got = f"line {lines[0][0]} is {lines[0][1][:100]!r}" if lines else "it holds no rows"
    raise ManifestError(
        f'{path} is no AudioSet CSV (rows like: -0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j") '
        f'and no VGGSound CSV (rows like: ---g-f_I2yQ,1,"people marching",test): {got}'
    )


def _fields(text: str) -> list[str]:
    try:
        fields = next(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ManifestError(f"broken CSV: {error}") from None
    if len(fields) != 4:
        raise ManifestError(f"{len(fields)} columns, must be 4")
    return fields


def _is_seconds(text: str) -> bool:
    try:
        to_ns(text)
    except ManifestError:
        return False
    return True


def _row(text: str, form: Form) -> _Row:
    fields = _fields(text)
    if form == "vggsound":
        ytid, start, label, split = fields
        return _Row(ytid, to_ns(start), to_ns(start) + VGGSOUND_SPAN_NS, (label,), split)
    ytid, start, end, labels = fields
    return _Row(ytid, to_ns(start), to_ns(end), tuple(labels.split(",")) if labels else (), "")


def _clip(
    row: _Row, form: Form, names: Mapping[str, str] | None, pattern: str, full_videos: bool
) -> tuple[Clip, list[str]]:
    labels = row.labels if names is None else tuple(names.get(label, label) for label in row.labels)
    spanned = Clip(
        clip_id=f"{row.ytid}_{to_text(row.start_ns)}_{to_text(row.stop_ns)}",
        path=file_name(pattern, row.ytid, row.start_ns, row.stop_ns),
        start_ns=row.start_ns,
        stop_ns=row.stop_ns,
        labels=labels,
        split=row.split,
    )
    if why := fault(spanned):
        raise ManifestError(why)
    said = []
    if form == "vggsound" and row.split not in _VGGSOUND_SPLITS:
        said.append(f"split {row.split!r} is neither train nor test (kept)")
    if not YOUTUBE_ID.fullmatch(row.ytid):
        said.append(f"{row.ytid!r} is not an 11-character YouTube id (kept)")
    if names is not None and (unnamed := [label for label in row.labels if label not in names]):
        said.append(f"no display name for {', '.join(unnamed)} (kept as it is)")
    if not labels:
        said.append("no labels (kept)")
    return (spanned if full_videos else replace(spanned, start_ns=0, stop_ns=None)), said


def _display_names(path: Path) -> dict[str, str]:
    rows = read_table(path, ("index", "mid", "display_name"), "table of class labels")
    return {mid: name for _, (_, mid, name) in rows}
