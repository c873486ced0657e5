"""A feature of a search on disk: one plain array per split, one row per second; or why it cannot be ranked."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.store import Store
from extract.store.sink import sealed
from extract.store.training.aligned import AlignedRows
from pipelines.parsing.data import READ_AT_ONCE_BYTES


def array_path(out: Path, name: str, split: str) -> Path:
    """Where the rows of a feature are; no key of a store has a slash."""
    return out / f"{name}.{split}.npy"


def write_feature(store: Store, key: str, ids: Mapping[str, Sequence[str]], out: Path, name: str) -> str:
    """Write a feature's arrays, one per split.

    Parameters
    ----------
    store
        which has it
    key
        in the store
    ids
        clips by split, all of which have it
    out
        folder of the arrays
    name
        short

    Returns
    -------
    str
        why it cannot be ranked, and there is no array then; or nothing
    """
    try:
        _write(store, key, ids, out, name)
    except _NotRanked as why:
        for split in ids:
            array_path(out, name, split).unlink(missing_ok=True)
        return str(why)
    return ""


class _NotRanked(Exception):
    """What is wrong with a feature."""


def _write(store: Store, key: str, ids: Mapping[str, Sequence[str]], out: Path, name: str) -> None:
    constant = True
    for split, wanted in ids.items():
        rows = AlignedRows(store, [key], wanted, pool="mean")
        shape = rows.shapes(np.arange(len(wanted)))[0]
        each = math.prod(shape[1:]) * 4
        step = max(1, READ_AT_ONCE_BYTES // each)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        first: NDArray[np.float32] | None = None
        with sealed(array_path(out, name, split), len(header.getvalue()) + len(wanted) * each) as sink:
            sink.write(memoryview(header.getvalue()))
            for start in range(0, len(wanted), step):
                some = np.arange(start, min(start + step, len(wanted)))
                data = np.empty((len(some), *shape[1:]), np.float32)
                rows.read(some, [data])
                finite = np.isfinite(data.reshape(len(data), -1)).all(axis=1)
                if not finite.all():
                    clip_id = wanted[start + int(np.argmin(finite))]
                    raise _NotRanked(f"NaN or infinite numbers, first in clip {clip_id!r} of {split}")
                if split == "train" and constant:
                    first = data[0, 0].copy() if first is None else first
                    constant = bool((data == first).all())
                sink.write(data.data.cast("B"))
        if split == "train" and constant:
            raise _NotRanked("the same numbers in every second of every training clip")
