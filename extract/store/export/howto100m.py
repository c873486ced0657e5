"""As HowTo100M's extractor saves them: one .npy per clip, float16 and L2-normalised, and the CSV video_path,feature_path.

Every network has a folder, ``<backbone>/<stem>.npy`` of shape (R, D), and a list, ``<backbone>.csv``: ``video_path`` as the
store's manifest has it (the clip's id where it has none), ``feature_path`` absolute, because that code opens it from wherever
it is started. Rows of more than one axis are flattened. A row is divided by its Euclidean length, or by 1e-12 where that is
larger, so a row of zeros stays one.

Source: antoine77340/video_feature_extractor (4e6c728), extract.py (--l2_normalize 1, --half_precision 1) and README.md. Its
features are one row per second of ResNet-152; that is what the recipe asked for, not the layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from extract.store.export.asked import DType, Tally, cast, look_up, make_folder, needed_bytes, write_csv
from extract.store.export.naming import clip_names, key_names
from extract.store.export.report import Exported
from extract.store.export.whole import write_npy

if TYPE_CHECKING:
    from extract.store import Store

_SMALLEST = 1e-12


def export(
    store: Store,
    keys: Sequence[str],
    ids: Sequence[str],
    out: Path,
    *,
    dtype: DType = "float16",
    l2_normalize: bool = True,
) -> Exported:
    """Write a folder of .npy files and a CSV per key.

    Parameters
    ----------
    store
        to export from
    keys
        full keys
    ids
        clips, in the order of the CSV
    out
        folder
    dtype
        of the files
    l2_normalize
        whether every row gets length 1; it is done in float32

    Returns
    -------
    Exported
        `missing` has the clips without rows, which have neither a file nor a line

    Raises
    ------
    PlanError
        two ids give one name
    StoreUnwritable, StoreError
        see `whole` and :meth:`Store.rows`; also a number that float16 cannot hold
    """
    there, missing = look_up(store, keys, ids)
    named = clip_names(store, ids)
    needed = needed_bytes(store, there, dtype)
    tally = Tally()
    for key, name in key_names(keys).items():
        folder = make_folder(out / name)
        for clip_id in store.file_order(there[key], key):
            rows = store.rows(clip_id, key)
            tally.mask(rows)
            data = rows.data.reshape(len(rows.data), -1)
            if l2_normalize:
                data = _normalized(data)
            array = cast(replace(rows, data=data), dtype)
            left = max(needed - tally.size_bytes, array.nbytes)
            tally.file(write_npy(folder / f"{named.names[clip_id]}.npy", array, left))
        listed = partial(_listed, store, there[key], folder.absolute(), named.names)
        tally.file(write_csv(out / f"{name}.csv", ("video_path", "feature_path"), listed))
    return tally.exported(missing, named.notes)


def _normalized(data: NDArray[np.floating]) -> NDArray[np.float32]:
    data = data.astype(np.float32)
    length = np.linalg.norm(data, axis=1, keepdims=True)
    return np.asarray(data / np.maximum(length, np.float32(_SMALLEST)), np.float32)


def _listed(store: Store, ids: Sequence[str], folder: Path, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for clip_id in ids:
        clip = store.manifest.get(clip_id)
        yield clip.path if clip else clip_id, f"{folder}/{names[clip_id]}.npy"
