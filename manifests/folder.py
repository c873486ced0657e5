"""Any folder of media files, or a list of paths: every file is one clip."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath

from extract.errors import ManifestError
from manifests.built import Built, Problem, look_for
from manifests.clip import Clip, fault
from manifests.table import read_lines

SUFFIXES: frozenset[str] = frozenset({
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".vob", ".webm", ".wmv",
    ".aac", ".aif", ".aiff", ".flac", ".m4a", ".mka", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma",
})  # fmt: skip
"""What counts as a media file in a folder, in lower case; a list of paths may name anything."""


def clips(source: Path, videos: Path | None = None) -> Built:
    """One clip per file of a folder, or per line of a list.

    The id is the relative path without its suffix, ``__`` for ``/``: ``day1/cam2.mp4`` -> ``day1__cam2``. Files whose
    ids would be equal keep their suffixes (``a.mp4``, ``a.wav``).

    Parameters
    ----------
    source
        a folder, searched recursively for `SUFFIXES`, in the order of the relative paths; hidden files and folders and
        linked folders are passed over. Or a text file with one path per line, ``#`` for comments, kept in its order
    videos
        what relative paths of a list count from; None: the list's own folder. Not for a folder, which is itself

    Returns
    -------
    Built
        paths are relative to `base_of` the source where they lie under it

    Raises
    ------
    ManifestError
        the source is missing or has no usable path in it, or two files would carry one id (the message names both)
    """
    base = base_of(source, videos)
    notes: tuple[str, ...] = ()
    if source.is_dir():
        rows, notes = _walk(source)
    elif source.suffix.lower() in SUFFIXES:
        raise ManifestError(f"{source} is a media file; name its folder, or a text file that lists paths")
    else:
        rows = [(line, _relative(text, base)) for line, text in read_lines(source, "folder or list of paths")]
        rows = [(line, text) for line, text in rows if not text.lstrip().startswith("#")]
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for line, path in rows:
        why, kept = _remark(path, lines)
        if why:
            problems.append(Problem(line, path, f"{why} ({'kept' if kept else 'left out'})", str(source)))
        if kept:
            lines[path] = line
    if not lines:
        hint = f"media files end in {' '.join(sorted(SUFFIXES))}" if source.is_dir() else "write one path per line"
        raise ManifestError(f"{source} has no usable file in it; {hint}")
    found = tuple(Clip(clip_id, path) for clip_id, path in _ids(list(lines)))
    missing, note = look_for(found, base)
    return Built(found, tuple(problems), (*notes, *note), missing=missing)


def base_of(source: Path, videos: Path | None = None) -> Path:
    """What the paths of the clips count from: the folder, `videos`, or the list's folder."""
    if source.is_dir():
        if videos is not None:
            raise ManifestError(f"{source} is a folder, so its files are there; --videos is for lists of paths")
        return source
    return source.parent if videos is None else videos


def _walk(folder: Path) -> tuple[list[tuple[int, str]], tuple[str, ...]]:
    found: list[str] = []
    passed: Counter[str] = Counter()

    def refuse(error: OSError) -> None:
        raise ManifestError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        for name in list(folders):
            if name.startswith(".") or os.path.islink(os.path.join(place, name)):
                passed["hidden folder" if name.startswith(".") else "linked folder"] += 1
                folders.remove(name)
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                passed["hidden file"] += 1
            elif suffix in SUFFIXES:
                found.append(Path(place, name).relative_to(folder).as_posix())
            else:
                passed[f"{suffix} file" if suffix else "file without suffix"] += 1
    notes = tuple(f"passed over: {count} {kind}{'s' * (count > 1)}" for kind, count in sorted(passed.items()))
    return [(0, path) for path in sorted(found)], notes


def _relative(text: str, base: Path) -> str:
    path = Path(text)
    if path.is_absolute() and path.is_relative_to(base.absolute()):
        return path.relative_to(base.absolute()).as_posix()
    return text


def _remark(path: str, lines: dict[str, int]) -> tuple[str, bool]:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        return "an address, not a path; only local files are read, so download it first", False
    if path in lines:
        return f"the same path as on line {lines[path]}", False
    if why := fault(Clip(_joined(path), path)) or fault(Clip(_stem(path), path)):
        return why, False
    if path != path.strip():
        return "begins or ends with a blank, which is taken as part of the path", True
    return "", True


def _joined(path: str) -> str:
    return "__".join(part for part in PurePosixPath(path).parts if part != "/")


def _stem(path: str) -> str:
    return _joined(str(PurePosixPath(path).with_suffix("")))


def _ids(paths: list[str]) -> list[tuple[str, str]]:
    """Ids and their paths; a stem that several files share keeps the suffix in each of them."""
    stems = {path: _stem(path) for path in paths}
    shared = Counter(stems.values())
    ids = [(_joined(path) if shared[stems[path]] > 1 else stems[path], path) for path in paths]
    owner: dict[str, str] = {}
    for clip_id, path in ids:
        if clip_id in owner:
            raise ManifestError(
                f"{owner[clip_id]!r} and {path!r} would both be the clip {clip_id!r}; rename one of the two files"
            )
        owner[clip_id] = path
    return ids
