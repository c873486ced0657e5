"""AVE (AVE-ECCV18, PSP, CMRAN, CMBS): audio_feature.h5, visual_feature.h5, labels and orders by annotation row.

Source: YapengTian/AVE-ECCV18 (data/), jasongief/PSP_CVPR_2021 (right_labels.h5, prob_label.h5). Every array has one row
per line of ``Annotations.txt``; training code holds row numbers, so no row is ever left out or moved. Features are
float64, as published: exactly the stored numbers, in twice the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError, StoreError
from extract.store.export.ave_files import Feature, Files
from extract.store.export.ave_rows import OFFICIAL_BATCH, SEGMENTS, SPLITS, Table, from_annotations, from_store
from extract.store.export.report import Exported, Missing
from extract.store.store import Store

AUDIO_DIMS = (128,)
VISUAL_DIMS = (7, 7, 512)
_SHOWN = 5
_PSP = "PSP's README says right_label.h5, its code opens right_labels.h5, which is the name written here"


def default_keys(store: Store) -> tuple[str, ...]:
    """VGGish's key (else the one with rows of (128,)), and the one with rows of (7, 7, 512).

    Raises
    ------
    PlanError
        the store has none or several
    """
    keys = [info.key for info in store.keys()]  # noqa: SIM118
    return _choose(store, keys, AUDIO_DIMS, "vggish"), _choose(store, keys, VISUAL_DIMS)


def export(
    store: Store,
    keys: Sequence[str],
    ids: Sequence[str],
    out: Path,
    *,
    annotations: Path | None = None,
    missing: Literal["filter", "zero", "error"] = "filter",
) -> Exported:
    """Write the folder ``data`` that AVE's training code reads.

    A row takes the features of its own clip. Where the store has none under that id, it takes those of the same video
    under another category, or under the video's bare id: AVE uses files whole, so they are the same numbers.

    Parameters
    ----------
    store
        with ten rows per clip
    keys
        two full keys: one with rows of (128,), which is the sound, and one with rows of (7, 7, 512)
    ids
        clips asked for; rows of the store's other clips are zeros, and in no order file
    out
        folder; the files are in ``out/data``
    annotations
        folder with the official ``Annotations.txt`` and order files: rows, labels and orders come from there. None: from
        the store's manifest
    missing
        rows without features are zeros in the arrays; ``filter`` leaves them out of the order files, ``zero`` does not,
        ``error`` writes nothing

    Raises
    ------
    PlanError
        the keys are not those two
    ManifestError, StoreError
        the annotations cannot be used; something is missing, with ``error``
    StoreUnwritable
        no space, no permission, ...
    """
    audio, visual = _choose(store, keys, AUDIO_DIMS), _choose(store, keys, VISUAL_DIMS)
    if others := [key for key in keys if key not in (audio, visual)]:
        raise PlanError(f"the layout ave has no file for {', '.join(others)}; leave it out of --keys")
    table = from_store(store) if annotations is None else from_annotations(Path(annotations))
    asked = _asked(store, table, frozenset(ids))
    why = {(each.clip_id, each.key): f"{each.reason}: {each.message}" for each in store.failed()}
    lost: list[Missing] = []
    features = [
        _feature(store, table, asked, "audio_feature.h5", audio, AUDIO_DIMS, why, lost),
        _feature(store, table, asked, "visual_feature.h5", visual, VISUAL_DIMS, why, lost),
    ]
    complete = np.array([None not in pair for pair in zip(*(each.clips for each in features), strict=True)], bool)
    if lost and missing == "error":
        first = "; ".join(f"{each.clip_id} ({each.key}): {each.why}" for each in lost[:_SHOWN])
        raise StoreError(
            f"{int((asked & ~complete).sum())} of {int(asked.sum())} rows have no features, and --missing is error; "
            f"nothing was written. {first}"
        )
    kept = asked if missing == "zero" else complete
    orders = {split: order[kept[order]] for split, order in table.orders.items()}
    files = Files(out / "data")
    files.small(table, orders)
    for feature in features:
        files.feature(store, feature)
    notes = (*table.notes, *_notes(table, asked, complete, orders, features, missing), _PSP)
    return Exported(files.written, files.kept, files.size_bytes, tuple(lost), notes)


def _choose(store: Store, keys: Sequence[str], dims: tuple[int, ...], preferred: str = "") -> str:
    fitting = {info.key for info in store.keys() if info.dims == dims}  # noqa: SIM118
    found = [key for key in keys if key in fitting]
    if len(found) > 1 and preferred:
        found = [key for key in found if key.startswith(preferred)] or found
    if len(found) == 1:
        return found[0]
    name = "audio_feature.h5" if dims == AUDIO_DIMS else "visual_feature.h5"
    if found:
        raise PlanError(f"{len(found)} features fit {name}: {', '.join(found)}; say with --keys which one")
    raise PlanError(
        f"{name} holds {SEGMENTS} rows of {dims} per clip, and none of {', '.join(keys) or 'no features'} has such rows; "
        "the recipe `ave` makes vggish and vgg19_ave"
    )


def _asked(store: Store, table: Table, ids: frozenset[str]) -> NDArray[np.bool_]:
    """Which rows were asked for: all but those of clips that the store knows and `ids` leaves out."""
    known = store.manifest.keys() | set(store.clip_ids())
    pairs = zip(table.clip_ids, table.video_ids, strict=True)
    return np.array(
        [bool({clip, video} & ids) or not {clip, video} & known for clip, video in pairs],
        bool,
    )


def _feature(
    store: Store,
    table: Table,
    asked: NDArray[np.bool_],
    name: str,
    key: str,
    dims: tuple[int, ...],
    why: dict[tuple[str, str], str],
    lost: list[Missing],
) -> Feature:
    counts = dict(zip(store.clips(key), store.counts(key).tolist(), strict=True))
    of_video: dict[str, list[str]] = {}
    for clip, video in zip(table.clip_ids, table.video_ids, strict=True):
        of_video.setdefault(video, []).append(clip)
    found: list[str | None] = []
    for clip, video, wanted in zip(table.clip_ids, table.video_ids, asked.tolist(), strict=True):
        same = [each for each in (clip, *of_video[video], video) if each in counts]
        fitting = [each for each in same if counts[each] == SEGMENTS]
        found.append(fitting[0] if fitting and wanted else None)
        if wanted and not fitting:
            said = why.get((clip, key), "the store has no rows of it")
            if same:
                said = f"{counts[same[0]]} rows; the layout holds {SEGMENTS}"
            lost.append(Missing(clip, key, said))
    return Feature(name, key, dims, tuple(found))


def _notes(
    table: Table,
    asked: NDArray[np.bool_],
    complete: NDArray[np.bool_],
    orders: dict[str, NDArray[np.int64]],
    features: Sequence[Feature],
    missing: str,
) -> list[str]:
    notes = [f"{feature.name}: {feature.key}, float64" for feature in features]
    borrowed = {
        row
        for feature in features
        for row, (source, clip) in enumerate(zip(feature.clips, table.clip_ids, strict=True))
        if source not in (None, clip)
    }
    if borrowed:
        notes.append(f"{len(borrowed)} row(s) have the features that the store keeps of their video under another id")
    absent, unasked = int((asked & ~complete).sum()), int((~asked).sum())
    if absent:
        stays = "stay in the order files" if missing == "zero" else "are left out of the order files"
        notes.append(f"{absent} row(s) lack features: what they lack is zeros, and they {stays}")
    if unasked:
        notes.append(f"{unasked} row(s) were not asked for: they are zeros and in no order file")
    short = [f"{split} {len(orders[split])}" for split in SPLITS[1:] if split in orders]
    if any(len(orders[split]) < OFFICIAL_BATCH for split in SPLITS[1:] if split in orders):
        notes.append(
            f"AVE-ECCV18 evaluates one batch of exactly {OFFICIAL_BATCH} rows; here are {', '.join(short)}: set its batch "
            "size to that"
        )
    return notes
