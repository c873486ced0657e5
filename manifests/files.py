"""Where the files of very many clips are, and which of them are not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

LISTED_PER_WANTED = 8


def base_folder(manifest_path: str | Path, videos: str | Path | None = None) -> Path:
    """The folder that relative paths count from: `videos` if given, else the manifest's own."""
    return Path(manifest_path).parent if videos is None else Path(videos)


def locate(paths: Iterable[str], manifest_path: str | Path, videos: str | Path | None = None) -> list[str]:
    """Absolute paths of files as a manifest names them: `manifests.clip.resolve` for many at once, as texts."""
    base = base_folder(manifest_path, videos).absolute()
    folder = str(base).removesuffix("/") + "/"
    return [_absolute(path, base, folder) for path in paths]


def _absolute(path: str, base: Path, folder: str) -> str:
    whole = path if path.startswith("/") else folder + path
    ended = whole + "/"
    # pathlib takes out empty names and lone dots; where there are none it would only cost time
    return str(base / path) if "//" in ended or "/./" in ended else whole


def absent(paths: Iterable[str]) -> frozenset[str]:
    """Those of the absolute paths at which there is no plain file.

    A folder is listed once, which on a network is far cheaper than asking for its files one by one, unless it holds many
    times more files than are asked for.
    """
    wanted: dict[str, set[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        names = wanted.get(folder)
        if names is None:
            names = wanted[folder] = set()
        names.add(name)
    missing: set[str] = set()
    for folder, names in wanted.items():
        try:
            unseen = names - _seen(folder, names)
        except (FileNotFoundError, NotADirectoryError):
            missing.update(f"{folder}/{name}" for name in names)
            continue
        # the file system has the last word: it may not tell letters apart that we do
        left = (f"{folder}/{name}" for name in unseen)
        missing.update(path for path in left if not os.path.isfile(path))
    return frozenset(missing)


def _seen(folder: str, names: set[str]) -> set[str]:
    """Those of the names that a listing of the folder shows as plain files; not all of them where it is given up."""
    seen: set[str] = set()
    if len(names) == 1:
        return seen
    try:
        with os.scandir(folder or "/") as entries:
            for _, entry in zip(range(LISTED_PER_WANTED * len(names)), entries, strict=False):
                if entry.name in names and entry.is_file():
                    seen.add(entry.name)
    except PermissionError:  # a folder that may be entered and not listed
        return seen
    return seen
