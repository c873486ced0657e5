"""As openl3 saves videos: <stem>_audio_<suffix>.npz and <stem>_image_<suffix>.npz with embedding and timestamps.

``<suffix>`` is the network: what follows ``openl3_audio_`` or ``openl3_image_`` in its name, such as ``mel256_env_512``; any
other network that only hears or only sees has its whole name. ``embedding`` is (R, D), ``timestamps`` (R,) float64 in seconds; a
third array, ``valid`` (R,) bool, is False where a policy filled the row.

``timestamps`` are the starts of the rows' windows, from the start of the clip. So are openl3's with ``center=False``. By its
default, ``center=True``, it puts half a second of zeros before the sound, and its times are the middles of its windows; such
windows are no part of our grids. Images have the time of their frame on a regular grid, there and here.

Source: marl/openl3 (b0bf9b6), openl3/core.py: get_audio_embedding, get_image_embedding, process_video_file, get_output_path.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backbones import registry
from extract.errors import PlanError, UnknownName
from extract.store.export.asked import DType, Tally, cast, infos, look_up, needed_bytes, write_bytes
from extract.store.export.naming import backbone_of, clip_names, key_names
from extract.store.export.report import Exported
from extract.store.rows import KeyInfo

if TYPE_CHECKING:
    from extract.store import Store

_SENSES = {"Frames": "image", "Sound": "audio"}


def default_keys(store: Store) -> tuple[str, ...]:
    """The keys of networks that only hear or only see."""
    return tuple(info.key for info in store.keys() if len(_senses(info)) == 1)  # noqa: SIM118 - no mapping


def export(store: Store, keys: Sequence[str], ids: Sequence[str], out: Path, *, dtype: DType | None = None) -> Exported:
    """Write one .npz per clip and key.

    Parameters
    ----------
    store
        to export from
    keys
        full keys, each of a network that only hears or only sees
    ids
        clips, in any order
    out
        folder
    dtype
        of ``embedding``; None: as stored

    Returns
    -------
    Exported
        `missing` has the clips without rows, which have no files

    Raises
    ------
    PlanError
        a network has no place here, or two ids one name
    StoreUnwritable, StoreError
        see `whole` and :meth:`Store.rows`
    """
    suffixes = _suffixes(store, keys)
    there, missing = look_up(store, keys, ids)
    named = clip_names(store, ids)
    needed = needed_bytes(store, there, dtype)
    tally = Tally()
    for key, suffix in suffixes.items():
        for clip_id in store.file_order(there[key], key):
            rows = store.rows(clip_id, key)
            data = cast(rows, dtype)
            packed = io.BytesIO()
            np.savez(
                packed,
                embedding=data.reshape(len(data), -1),
                timestamps=rows.window_ns[:, 0] / 1e9,
                valid=rows.valid.astype(bool),
            )
            path = out / f"{named.names[clip_id]}_{suffix}.npz"
            tally.file(write_bytes(path, packed.getbuffer(), needed - tally.size_bytes))
    return tally.exported(missing, named.notes)


def _suffixes(store: Store, keys: Sequence[str]) -> dict[str, str]:
    known = infos(store, keys)
    names = key_names(keys)
    suffixes: dict[str, str] = {}
    for key in keys:
        senses = _senses(known[key])
        if len(senses) != 1:
            does = "sees and hears" if senses else "does not say whether it sees or hears"
            raise PlanError(
                f"{key} {does}; openl3 keeps what was seen and what was heard apart: leave it out with --keys"
            )
        sense = senses.pop()
        short = names[key].removeprefix(f"openl3_{sense}_") if backbone_of(key) == names[key] else key
        suffixes[key] = f"{sense}_{short}"
    return suffixes


def _senses(info: KeyInfo) -> set[str]:
    found = {_SENSES[view["kind"]] for view in json.loads(info.view) if view.get("kind") in _SENSES}
    if found:
        return found
    # Imported features do not say what their network was fed; the zoo knows the networks that it has.
    try:
        kinds = {type(view).__name__ for view in registry.get(backbone_of(info.key)).views}
    except UnknownName:
        return set()
    return {_SENSES[kind] for kind in kinds}
