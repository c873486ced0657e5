"""What a corpus builder hands back: clips, events, and everything there is to say about its annotation files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.errors import ManifestError
from manifests.clip import Clip, missing_files
from manifests.dense import Event

YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of an annotation file that is wrong or odd; the message says whether it was kept or left out.

    Parameters
    ----------
    line
        from 1; 0 where there is no line (a file found in a folder)
    text
        the row as it stands
    message
        what is wrong, what is allowed, what was done
    file
        the annotation file
    """

    line: int
    text: str
    message: str
    file: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}: {self.text!r}"


@dataclass(frozen=True, slots=True)
class Built:
    """The outcome of a builder.

    Parameters
    ----------
    clips
        in the order of the annotations; their ids are unique and every one can be written to a manifest
    problems
        rows left out, and rows kept although odd, in order of file and line
    notes
        sentences for the user: splits, digests of the files used, missing files
    events
        labels with times, for ``<stem>.dense.csv``; empty where the corpus has none
    missing
        paths, relative to the videos' folder, that are not in it; None: no folder was named, so nobody looked
    """

    clips: tuple[Clip, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    events: tuple[Event, ...] = ()
    missing: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Which annotation file numbers rest on: two versions of one name are in use (LLP's audio events)."""

    file: str
    sha256: str
    md5: str


def source_of(path: Path) -> Source:
    """Digests of a file; md5 because the published notes on these files quote it."""
    raw = path.read_bytes()
    return Source(path.name, hashlib.sha256(raw).hexdigest(), hashlib.md5(raw, usedforsecurity=False).hexdigest())


def look_for(clips: Sequence[Clip], videos: Path | None) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Paths that are not in the videos' folder, and the note on them; no clip is dropped because of it."""
    if videos is None:
        return None, ("no --videos given, so nobody looked whether the files are there",)
    if not videos.is_dir():
        raise ManifestError(f"--videos {videos} is not a folder")
    files = dict.fromkeys(clip.path for clip in clips)
    missing = tuple(dict.fromkeys(clip.path for clip, _ in missing_files(clips, videos / "manifest.csv")))
    if not missing:
        return (), (f"all {len(files)} files are in {videos}",)
    shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
    return missing, (f"{len(missing)} of {len(files)} files are not in {videos}: {shown}",)


def shared_files(rows: Iterable[tuple[int, str, Clip]], file: str) -> list[Problem]:
    """Rows whose whole file is also the whole file of an earlier row: one of the two is a cut of something else."""
    first: dict[str, int] = {}
    problems = []
    for line, text, clip in rows:
        if clip.stop_ns is None and clip.path in first:
            message = (
                f"its file {clip.path} is also that of line {first[clip.path]}, and both use the whole of it (kept); "
                "for uncut videos say --full-videos"
            )
            problems.append(Problem(line, text, message, file))
        first.setdefault(clip.path, line)
    return problems


def check_extension(extension: str) -> None:
    """Refuse what cannot be the end of a file name."""
    if not re.fullmatch(r"\.[^/\0\r\n]+", extension):
        raise ManifestError(f"extension {extension!r} must begin with a dot and hold no '/', such as .mp4 or .mkv")
