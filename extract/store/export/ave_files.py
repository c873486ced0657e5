"""The files of an AVE export: HDF5 as the published arrays are, contiguous, uncompressed, without attributes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from extract.store.export.ave_rows import SEGMENTS, Table
from extract.store.export.whole import whole
from extract.store.sink import Sink, unwritable
from extract.store.store import Store


@dataclass(frozen=True, slots=True)
class Feature:
    """One of the two big files: which clip's rows each of its rows takes; None: zeros."""

    name: str
    key: str
    dims: tuple[int, ...]
    clips: tuple[str | None, ...]


class Files:
    """The files of the folder, each whole or absent; counts what was written now and what was there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written = self.kept = self.size_bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, 0, error) from error

    def small(self, table: Table, orders: dict[str, NDArray[np.int64]]) -> None:
        """Everything but the features; written anew each time, because their size does not tell their content."""
        labels = table.labels()
        arrays: dict[str, NDArray[Any]] = {
            "labels.h5": labels,
            "right_labels.h5": labels,
            "mil_labels.h5": table.mil_labels(),
            "labels_closs.h5": table.closs_labels(),
            "prob_label.h5": table.prob_labels(),
        }
        for name, array in arrays.items():
            self._h5(name, "avadataset", array.shape, array.dtype, [array])
        for split, order in orders.items():
            self._h5(f"{split}_order.h5", "order", order.shape, order.dtype, [order])
        path = self._folder / "Annotations.txt"
        with whole(path, len(table.annotations)) as file:
            file.write(table.annotations)
        self._count(path)

    def feature(self, store: Store, feature: Feature) -> None:
        """One of the two large files, a clip at a time; one that is there whole is kept."""
        shape = (len(feature.clips), SEGMENTS, *feature.dims)
        if _is_whole(self._folder / feature.name, shape):
            self.kept += 1
            return
        zeros = np.zeros(shape[1:])
        rows = (
            (zeros if clip is None else store[clip, feature.key].astype(np.float64))[None] for clip in feature.clips
        )
        self._h5(feature.name, "avadataset", shape, np.dtype("<f8"), rows)

    def _h5(
        self,
        name: str,
        dataset: str,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        blocks: Iterable[NDArray[Any]],
    ) -> None:
        path = self._folder / name
        needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize + 4096
        with whole(path, needed) as file:
            sink = Sink(file.fileno())
            with _created(sink) as h5:
                there, row = h5.create_dataset(dataset, shape, dtype, fill_time="never"), 0
                for block in blocks:
                    if block.size:
                        there[row : row + len(block)] = block
                    row += len(block)
                    if sink.error is not None:
                        raise sink.error
            if sink.error is not None:
                raise sink.error
            os.fsync(file.fileno())
        self._count(path)

    def _count(self, path: Path) -> None:
        self.written += 1
        self.size_bytes += path.stat().st_size


@contextmanager
def _created(sink: Sink) -> Iterator[h5py.File]:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, sink)
    # bounds and no times: the same bytes from every version of HDF5, whenever they are written
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    with h5py.File(h5py.h5f.create(b"export", h5py.h5f.ACC_TRUNC, creation, access)) as file:
        yield file


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether `path` is a file of ours for that shape; that it is of the same store, the folder's export.json says.

    A file that was cut off is none: HDF5 compares its size with what its first bytes say.
    """
    try:
        with h5py.File(path, "r") as file:
            found = file["avadataset"]
            return bool(found.shape == shape and found.dtype == np.dtype("<f8"))
    except (OSError, KeyError):
        return False
