"""As v-iashin/video_features saves them: <feature_type>/<model_name>/<stem>_<key>.npy.

``<stem>`` is the video file's, ``<key>`` the feature type. Types ``resnet``, ``clip`` and ``timm`` have two more files per video,
``_fps`` (one float64) and ``_timestamps_ms`` (R float64); ``r21d`` and ``vggish`` have none, and ``vggish`` no model name. What
the tool has no type for stands in a folder of the network's own name, ``<backbone>/<stem>_<backbone>.npy``, with both files.

The tool's time of a row is its place on the regular grid of ``extraction_fps``, ``row / fps * 1000``, not when the source frame
is shown. Here it is the start of the row's window, from the start of the clip, and ``fps`` is rows per second.

Two differences: the tool stores all but VGGish as float64 that came from float32, here rows keep the store's type; and where
two clips share a stem, which the tool refuses, files are called after clips (see `naming`).

Source: v-iashin/video_features (a2f61b7), utils/utils.py (make_path, sanity_check), utils/io.py (VideoLoader),
models/_base/base_framewise_extractor.py, models/r21d/extract_r21d.py, models/vggish/extract_vggish.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from extract.grid import NS
from extract.store.export.asked import DType, Tally, cast, infos, look_up, make_folder, needed_bytes
from extract.store.export.naming import backbone_of, clip_names
from extract.store.export.report import Exported
from extract.store.export.whole import write_npy
from extract.store.rows import KeyInfo, Rows

if TYPE_CHECKING:
    from extract.store import Store

_R21D = {
    "r2plus1d_18": "r2plus1d_18_16_kinetics",
    "r2plus1d_34_32_kinetics": "r2plus1d_34_32_ig65m_ft_kinetics",
    "r2plus1d_34_8_kinetics": "r2plus1d_34_8_ig65m_ft_kinetics",
}
_CLIP = {"clip_vit_b32": "ViT-B_32", "clip_vit_l14": "ViT-L_14"}
_RESNET = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tool keeps the features of one network.

    Parameters
    ----------
    folder
        below the output folder
    feature_type
        the key in its files' names
    timed
        whether ``fps`` and ``timestamps_ms`` are beside them
    """

    folder: str
    feature_type: str
    timed: bool


def place(backbone: str) -> Place:
    """Where the features of `backbone` belong."""
    if backbone in _RESNET:
        return Place(f"resnet/{backbone}", "resnet", timed=True)
    if backbone in _R21D:
        return Place(f"r21d/{_R21D[backbone]}", "r21d", timed=False)
    if backbone in _CLIP:
        return Place(f"clip/{_CLIP[backbone]}", "clip", timed=True)
    if backbone == "vggish":
        return Place("vggish", "vggish", timed=False)
    if backbone.startswith("timm:"):
        return Place(f"timm/{backbone.removeprefix('timm:').replace('/', '_')}", "timm", timed=True)
    return Place(backbone, backbone, timed=True)


def export(store: Store, keys: Sequence[str], ids: Sequence[str], out: Path, *, dtype: DType | None = None) -> Exported:
    """Write one .npy per clip and network, and its times where the tool has them.

    Parameters
    ----------
    store
        to export from
    keys
        full keys
    ids
        clips, in any order
    out
        the tool's ``output_path``
    dtype
        of the features; None: as stored

    Returns
    -------
    Exported
        `missing` has the clips without rows, which have no files, as with the tool

    Raises
    ------
    PlanError
        two keys have one place, or two ids one name
    StoreUnwritable, StoreError
        see `whole` and :meth:`Store.rows`
    """
    places = _places(keys)
    known = infos(store, keys)
    there, missing = look_up(store, keys, ids)
    named = clip_names(store, ids)
    needed = needed_bytes(store, there, dtype)
    tally = Tally()
    for key, at in places.items():
        folder = make_folder(out / at.folder)
        for clip_id in store.file_order(there[key], key):
            rows = store.rows(clip_id, key)
            tally.mask(rows)
            arrays: dict[str, NDArray[Any]] = {at.feature_type: cast(rows, dtype)}
            if at.timed:
                arrays |= {"fps": _fps(known[key], rows), "timestamps_ms": rows.window_ns[:, 0] / 1e6}
            for suffix, array in arrays.items():
                path = folder / f"{named.names[clip_id]}_{suffix}.npy"
                tally.file(write_npy(path, array, max(needed - tally.size_bytes, array.nbytes)))
    return tally.exported(missing, named.notes)


def _places(keys: Sequence[str]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for key in keys:
        at = place(backbone_of(key))
        for other, taken in places.items():
            if taken.folder == at.folder:
                raise PlanError(f"{other} and {key} both belong into {at.folder}/; choose one of them with --keys")
        places[key] = at
    return places


def _fps(info: KeyInfo, rows: Rows) -> NDArray[np.float64]:
    # What was asked for comes first: where a clip has one row, its window does not tell how far away a second would be.
    grid = json.loads(info.identity).get("grid", {})
    first, last = rows.window_ns[0], rows.window_ns[-1]
    if "hop_ns" in grid:
        hop_ns = grid["hop_ns"]
    elif len(rows.window_ns) > 1:
        hop_ns = (last[0] - first[0]) / (len(rows.window_ns) - 1)
    else:
        hop_ns = first[1] - first[0]
    return np.array(NS / hop_ns, np.float64)
