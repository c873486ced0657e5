"""LLP features as released for AVVP-ECCV20: ``feats/{vggish,res152,r2plus1d_18}/<11-character id>.npy``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import BadFeature, ManifestError, StoreError
from extract.grid import NS
from extract.store.importing.released import Column, Release, column
from manifests.clip import Clip, fault

ID_LETTERS = 11
FOLDERS = {
    "vggish": ("vggish", (128,), 10, NS),
    "res152": ("resnet152", (2048,), 80, NS // 8),
    "r2plus1d_18": ("r2plus1d_18", (512,), 10, NS),
}
_SHOWN = 5


@contextmanager
def opened(folder: Path, name: str, known: Sequence[Clip], *, only_known: bool) -> Iterator[Release]:
    """Look into the folder; no array is read.

    Parameters
    ----------
    folder
        with ``feats`` in it, or ``feats`` itself; one of the three folders is enough
    name
        of the release
    known
        clips; a file belongs to the one whose id is its stem, else to the one whose id begins with it
    only_known
        files of no clip are left out, and said so; False: they become clips whose id is the stem

    Raises
    ------
    StoreError
        none of the three folders is there, or nothing in them
    ManifestError
        two clips have the same first 11 characters, so that it cannot be said whose file it is
    """
    base = folder / "feats" if (folder / "feats").is_dir() else folder
    columns = {
        where: column(backbone, dims, rows, hop_ns, "llp", name)
        for where, (backbone, dims, rows, hop_ns) in FOLDERS.items()
        if (base / where).is_dir()
    }
    stems = {where: _stems(base / where) for where in columns}
    every = set().union(*stems.values())
    if not every:
        raise StoreError(f"{folder} holds no .npy file in feats/{', feats/'.join(FOLDERS)}; is it the folder you mean?")
    stem_of = _match(known, every)
    alone = sorted(every - set(stem_of.values()))
    clips = [clip for clip in known if clip.clip_id in stem_of]
    notes = _notes(base, columns, alone, only_known)
    if not only_known:
        clips += [_clip(stem, base) for stem in alone]
        stem_of |= {stem: stem for stem in alone}
    where_of = {each.info.key: where for where, each in columns.items()}

    def has(clip_id: str, key: str) -> bool:
        return stem_of.get(clip_id) in stems[where_of[key]]

    def load(clip_id: str, key: str) -> NDArray[Any]:
        return _array(base / where_of[key] / f"{stem_of[clip_id]}.npy")

    yield Release(tuple(columns.values()), tuple(clips), has, load, notes=tuple(notes))


def _stems(folder: Path) -> frozenset[str]:
    with os.scandir(folder) as entries:
        return frozenset(entry.name.removesuffix(".npy") for entry in entries if entry.name.endswith(".npy"))


def _match(clips: Sequence[Clip], stems: set[str]) -> dict[str, str]:
    """The file stem of each clip that has one, by clip id."""
    found: dict[str, str] = {}
    by_prefix: dict[str, str] = {}
    for clip in clips:
        if clip.clip_id in stems:
            found[clip.clip_id] = clip.clip_id
            continue
        stem = clip.clip_id[:ID_LETTERS]
        if stem not in stems:
            continue
        other = by_prefix.setdefault(stem, clip.clip_id)
        if other != clip.clip_id:
            raise ManifestError(
                f"{stem}.npy belongs to clip {other!r} or to {clip.clip_id!r}: both begin with {stem!r}; take one of them "
                "out of the manifest, or import with none"
            )
        found[clip.clip_id] = stem
    return found


def _clip(stem: str, base: Path) -> Clip:
    clip = Clip(stem, f"{stem}.mp4")
    if why := fault(clip):
        raise StoreError(f"{base}: {stem}.npy cannot become a clip: {why}")
    return clip


def _notes(base: Path, columns: dict[str, Column], alone: list[str], only_known: bool) -> list[str]:
    notes = []
    others = sorted(path.name for path in base.iterdir() if path.is_dir() and path.name not in FOLDERS)
    if others:
        notes.append(f"not of this layout, left alone: {', '.join(others)}")
    absent = [where for where in FOLDERS if where not in columns]
    if absent:
        notes.append(f"not there: {', '.join(absent)}")
    if alone and only_known:
        more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
        notes.append(f"{len(alone)} files are of no clip of the manifest: {', '.join(alone[:_SHOWN])}{more}")
    return notes


def _array(path: Path) -> NDArray[Any]:
    try:
        # mapped, so that a file that claims to be huge is refused by its shape before anything is read
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadFeature(f"{path} cannot be read: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise BadFeature(f"{path} is an archive of several arrays, not one .npy array")
    return array
