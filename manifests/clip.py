"""One clip of a corpus, and the manifest CSV that lists them."""

from __future__ import annotations

import gc
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from extract.errors import DuplicateClip, ManifestError, MissingManifest
from manifests.files import absent, base_folder, locate
from manifests.seconds import MAX_NS, to_ns, to_text
from manifests.table import read_table, write_table

HEADER = ("clip_id", "path", "start", "end", "labels", "split")
_BUILDERS = {
    "llp": "llp --annotations AVVP_dataset_full.csv --videos DIR",
    "ave": "ave --annotations Annotations.txt --videos DIR",
    "audioset": "audioset --annotations balanced_train_segments.csv --videos DIR",
    "vggsound": "audioset --annotations vggsound.csv --videos DIR",
}


@dataclass(frozen=True, slots=True)
class Clip:
    """``[start_ns, stop_ns)`` of one file, under one unique id.

    Parameters
    ----------
    clip_id
        unique in its manifest; may begin with ``-`` and contain ``_``; safe as a file name (see `fault`)
    path
        as written in the manifest: relative to it, or to the folder given by ``--videos``, or absolute
    start_ns
        nanoseconds from the start of the file's presentation, >= 0
    stop_ns
        exclusive end; None: to the end of the file
    labels
        of the whole clip
    split
        ``train``, ``val``, ``test`` or empty; other names are kept as they are
    """

    clip_id: str
    path: str
    start_ns: int = 0
    stop_ns: int | None = None
    labels: tuple[str, ...] = ()
    split: str = ""


def fault(clip: Clip) -> str | None:
    """Why a manifest cannot hold the clip, or None.

    Ids become file names and dataset names, so they hold no ``/``, NUL or line break and are not ``.`` or ``..``; the
    other texts hold no NUL or line break, so that a row stays a line.
    """
    for name, text in (("clip id", clip.clip_id), ("path", clip.path)):
        if not text:
            return f"the {name} is empty"
    if "/" in clip.clip_id or clip.clip_id in (".", ".."):
        return f"clip id {clip.clip_id!r} is not safe as a name: no '/', NUL or line break in it, and not '.' or '..'"
    labels = (("label", label) for label in clip.labels)
    for name, text in (("clip id", clip.clip_id), ("path", clip.path), *labels, ("split", clip.split)):
        if re.search(r"[\0\r\n]", text):
            return f"{name} {text!r} holds a NUL or a line break; neither is allowed in a manifest"
        if not _encodable(text):
            return f"{name} {text!r} cannot be written as UTF-8 (a file name in another encoding? rename the file)"
    for label in clip.labels:
        if not label or ";" in label:
            return f"label {label!r} must be non-empty and without ';', which separates the labels"
    for name, time_ns in (("start", clip.start_ns), ("end", clip.stop_ns)):
        if time_ns is not None and not 0 <= time_ns <= MAX_NS:
            return f"{name} is {time_ns} ns; it must be from 0 to 2**63 - 1"
    if clip.stop_ns is not None and clip.stop_ns <= clip.start_ns:
        end, start = to_text(clip.stop_ns), to_text(clip.start_ns)
        return f"end {end} must be after start {start} (or empty: to the end of the file)"
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_manifest(path: str | Path) -> list[Clip]:
    """The clips of a manifest, in its order.

    The file is UTF-8 (a byte order mark is tolerated) CSV with the header ``clip_id,path,start,end,labels,split``.
    ``start`` and ``end`` are decimal seconds, converted exactly; an empty ``end`` means the end of the file. Labels are
    separated by ``;``.

    Raises
    ------
    MissingManifest
        there is no such file; the message shows the command that makes it
    DuplicateClip
        two rows carry one id; the message names both lines
    ManifestError
        anything else that is wrong, with its line, the value and what is allowed
    """
    path = Path(path)
    if path.is_dir():
        raise ManifestError(f"{path} is a folder, not a manifest; make one: {_folder_command(path)}")
    if not path.exists():
        raise MissingManifest(f"there is no manifest at {path}; make it with: {builder_command(path)}")
    with uncollected():
        return _read(path)


def read_splits(path: str | Path) -> dict[str, str]:
    """The split of each clip of a manifest, by id in its order. Nothing else of the rows is looked at.

    Raises
    ------
    ManifestError
        there is no such file, or it is not a table with a manifest's header and as many columns
    """
    with uncollected():
        return {row[0]: sys.intern(row[-1]) for _, row in read_table(Path(path), HEADER, "manifest")}


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection inside the block, which makes very many objects and no cycles of them.

    The collector would go through all of them again and again, which takes as long as making them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(path: Path) -> list[Clip]:
    clips: list[Clip] = []
    lines: dict[str, int] = {}
    for line, row in read_table(path, HEADER, "manifest"):
        try:
            clip = _parse(row)
        except ManifestError as error:
            raise ManifestError(f"{path}: line {line}: {error}") from None
        if clip.clip_id in lines:
            raise DuplicateClip(
                f"{path}: line {line}: clip id {clip.clip_id!r} is already that of line {lines[clip.clip_id]}; "
                "ids must be unique, so rename or remove one of the two"
            )
        lines[clip.clip_id] = line
        clips.append(clip)
    if not clips:
        raise ManifestError(f"{path} lists no clips; below the header it must hold one row per clip")
    return clips


def _parse(row: list[str]) -> Clip:
    clip_id, path, start, end, labels, split = row
    clip = Clip(
        clip_id,
        path,
        _time_ns("start", start),
        _time_ns("end", end) if end else None,
        _labels(labels) if labels else (),
        sys.intern(split),
    )
    if not _plain(row, clip) and (why := fault(clip)):
        raise ManifestError(why)
    return clip


def _plain(row: list[str], clip: Clip) -> bool:
    """Whether it is plain that `fault` finds nothing, which looks at a row's texts one by one and costs ten times as much."""
    return (
        # printable: no NUL, no line break, and nothing that UTF-8 does not hold
        ",".join(row).isprintable()
        and bool(clip.clip_id and clip.path)
        and "/" not in clip.clip_id
        and clip.clip_id not in (".", "..")
        and "" not in clip.labels
        and (clip.stop_ns is None or clip.stop_ns > clip.start_ns)
    )


# Clips share their times, labels and splits with many others: remembered, they are parsed and kept once.
@lru_cache(maxsize=1 << 14)
def _time_ns(column: str, text: str) -> int:
    try:
        return to_ns(text)
    except ManifestError as error:
        raise ManifestError(f"{column} {error}") from None


@lru_cache(maxsize=1 << 14)
def _labels(text: str) -> tuple[str, ...]:
    return tuple(map(sys.intern, text.split(";")))


def write_manifest(path: str | Path, clips: Iterable[Clip]) -> None:
    """Write a manifest atomically; reading it back gives equal clips.

    Raises
    ------
    DuplicateClip
        two clips carry one id
    ManifestError
        there are no clips, one of them cannot be written (see `fault`), or the file cannot be
    """
    rows: list[tuple[str, ...]] = []
    seen: dict[str, int] = {}
    for number, clip in enumerate(clips, 1):
        if why := fault(clip):
            raise ManifestError(f"clip {number} ({clip.clip_id!r}) cannot be written to {path}: {why}")
        if clip.clip_id in seen:
            raise DuplicateClip(
                f"clips {seen[clip.clip_id]} and {number} for {path} have one id, {clip.clip_id!r}; ids must be unique"
            )
        seen[clip.clip_id] = number
        end = "" if clip.stop_ns is None else to_text(clip.stop_ns)
        rows.append((clip.clip_id, clip.path, to_text(clip.start_ns), end, ";".join(clip.labels), clip.split))
    if not rows:
        raise ManifestError(f"no clips to write to {path}: a manifest must list at least one")
    write_table(Path(path), HEADER, rows)


def builder_command(path: str | Path) -> str:
    """The command that makes the manifest at `path`, chosen by its stem: a corpus, the demo, else a folder."""
    path = Path(path)
    stem = re.split(r"[-_. ]", path.stem.lower(), maxsplit=1)[0]
    if stem == "demo":
        return "extract demo"
    builder = _BUILDERS.get(stem, "folder DIR")
    return f"extract manifest {builder} -o {shell_word(path)}"


def _folder_command(folder: Path) -> str:
    name = folder.resolve().name or "clips"
    return f"extract manifest folder {shell_word(folder)} -o {shell_word(Path('manifests') / f'{name}.csv')}"


def shell_word(path: str | Path) -> str:
    """A path as one shell word that no command takes for an option: quoted, with ``./`` before a leading ``-``."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def resolve(clip: Clip, manifest_path: str | Path, videos: str | Path | None = None) -> Path:
    """Where the clip's file is: an absolute path.

    A relative path counts from `videos` if given, else from the manifest's folder; an absolute one stays. ``..`` is
    allowed and left to the operating system, because removing it textually would be wrong across symbolic links.
    """
    return (base_folder(manifest_path, videos) / clip.path).absolute()


def missing_files(
    clips: Iterable[Clip], manifest_path: str | Path, videos: str | Path | None = None
) -> tuple[tuple[Clip, Path], ...]:
    """The clips whose file is not there (or is not a plain file), each with the absolute path looked at."""
    clips = tuple(clips)
    paths = locate((clip.path for clip in clips), manifest_path, videos)
    missing = absent(paths)
    return tuple((clip, Path(path)) for clip, path in zip(clips, paths, strict=True) if path in missing)
