"""AVE features as released for AVE-ECCV18: ``audio_feature.h5`` and ``visual_feature.h5``, a row per line of Annotations.txt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.errors import BadFeature, ManifestError, StoreError
from extract.grid import NS
from extract.store.export.ave_rows import SEGMENTS, SPLITS, read_order
from extract.store.importing.released import Column, Release, column
from manifests import ave
from manifests.clip import Clip
from manifests.dense import Event

DATASET = "avadataset"
FILES = {
    "audio_feature.h5": ("vggish", (128,)),
    "visual_feature.h5": ("vgg19_ave", (7, 7, 512)),
}
_CACHE_BYTES = 64 * 2**20  # a chunk of many rows, in files written with chunks, is unpacked once and not once per row


@contextmanager
def opened(folder: Path, name: str, known: Sequence[Clip], *, only_known: bool) -> Iterator[Release]:
    """Open the files; no row is read.

    Parameters
    ----------
    folder
        with the two files, or one of them, and ``Annotations.txt``, or with a folder ``data`` that has them. Rows that no
        order file names are left out where there are order files: an export leaves so what it had nothing for
    name
        of the release
    known
        clips; without Annotations.txt they stand for its rows, which must be as many
    only_known
        rows of other clips are left out

    Raises
    ------
    StoreError
        neither file is there, or one is of another form
    ManifestError
        the annotations cannot be used, or do not have as many rows as the arrays
    """
    base = folder / "data" if (folder / "data").is_dir() else folder
    there = [file for file in FILES if (base / file).is_file()]
    if not there:
        raise StoreError(f"{folder} holds neither {' nor '.join(FILES)}; is it the folder you mean?")
    with ExitStack() as stack:
        sets = {file: _dataset(stack, base / file, FILES[file][1]) for file in there}
        clips, events = _clips(base, known)
        for file, dataset in sets.items():
            if dataset.shape[0] != len(clips):
                raise ManifestError(
                    f"{base / file} has {dataset.shape[0]} rows, the annotations have {len(clips)}; they must be of one "
                    "version, because only the number of a row tells which clip it is"
                )
        named = _named(base, len(clips))
        wanted = {clip.clip_id for clip in known}
        row_of = {
            clip.clip_id: row
            for row, clip in enumerate(clips)
            if named[row] and (not only_known or clip.clip_id in wanted)
        }
        columns: dict[str, Column] = {}
        for file in there:
            backbone, dims = FILES[file]
            columns[file] = column(backbone, dims, SEGMENTS, NS, "ave", name)
        file_of = {each.info.key: file for file, each in columns.items()}

        def has(clip_id: str, key: str) -> bool:
            return key in file_of and clip_id in row_of

        def load(clip_id: str, key: str) -> NDArray[Any]:
            row = row_of[clip_id]
            try:
                array: NDArray[Any] = sets[file_of[key]][row]
            except (OSError, ValueError) as error:
                raise BadFeature(f"row {row} of {base / file_of[key]} cannot be read: {error}") from error
            return array

        notes = [f"not there: {file}" for file in FILES if file not in there]
        if not named.all():
            notes.append(f"{int((~named).sum())} row(s) are in no order file and were left out")
        listed = tuple(clip for clip in clips if not only_known or clip.clip_id in wanted)
        yield Release(tuple(columns.values()), listed, has, load, events, tuple(notes))


def _dataset(stack: ExitStack, path: Path, dims: tuple[int, ...]) -> h5py.Dataset:
    try:
        file = stack.enter_context(h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES))
        dataset = file[DATASET]
        shape, kind = tuple(dataset.shape), dataset.dtype.kind
    except (OSError, KeyError, AttributeError) as error:
        raise StoreError(f"{path} is no HDF5 file with a dataset {DATASET!r}: {error}") from error
    if shape[1:] != (SEGMENTS, *dims) or kind != "f":
        raise StoreError(
            f"{path}: {DATASET} must be of shape (N, {SEGMENTS}, {', '.join(map(str, dims))}) and of float32 or float64, "
            f"is {shape} of {dataset.dtype}"
        )
    return dataset


def _clips(base: Path, known: Sequence[Clip]) -> tuple[tuple[Clip, ...], tuple[Event, ...]]:
    path = base / "Annotations.txt"
    if not path.is_file():
        if not known:
            raise ManifestError(
                f"there is no {path}, which tells whose each row is; copy it from the folder data of "
                "https://github.com/YapengTian/AVE-ECCV18, or name a manifest made from it with --manifest"
            )
        return tuple(known), ()
    built = ave.clips(path)
    lost = [each for each in built.problems if each.file == str(path) and each.message.endswith("(left out)")]
    if lost:
        raise ManifestError(f"a row of {path} cannot be used, so that the others would get wrong numbers: {lost[0]}")
    return built.clips, built.events


def _named(base: Path, rows: int) -> NDArray[np.bool_]:
    """(rows,) whether an order file names the row; all are where there is no order file."""
    orders = [read_order(path, rows) for split in SPLITS if (path := base / f"{split}_order.h5").is_file()]
    named = np.full(rows, not orders)
    for order in orders:
        named[order] = True
    return named
