"""Feature folders and CSVs of LLP: AVVP-ECCV20, MA, JoMoLD, CMPAE and VALOR read them unchanged.

Source: dataloader.py and main_avvp.py of YapengTian/AVVP-ECCV20::

    feats/vggish/<first 11 characters of the id>.npy        (10, 128) float32
    feats/res152/<...>.npy                                  (80, 2048) float32
    feats/r2plus1d_18/<...>.npy                             (10, 512) float32
    data/AVVP_{dataset_full,train,val_pd,test_pd,eval_audio,eval_visual}.csv

From that folder the official command is ``python main_avvp.py --audio_dir feats/vggish/ --video_dir feats/res152/
--st_dir feats/r2plus1d_18/``. CMPAE looks for the CSVs in data/annotations/ and for features in data/feats/: it has
options for both (--label_train, --eval_audio, --audio_dir, ...), so nothing is written twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError, StoreError, nearest
from extract.store.export.ahead import ahead
from extract.store.export.asked import make_folder
from extract.store.export.llp_csv import NAME, Tables, from_annotations, from_store
from extract.store.export.naming import backbone_of
from extract.store.export.report import Exported, Missing
from extract.store.export.whole import is_there, npy_size, whole, write_npy

if TYPE_CHECKING:
    from extract.store import Store

OFFICIAL = {"vggish": (10, 128), "res152": (80, 2048), "r2plus1d_18": (10, 512)}
WAYS = ("filter", "zero", "error")
SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Feature:
    """A key, its folder below ``feats/``, the shape of a row, and how many rows a clip has: one number or by clip."""

    key: str
    folder: str
    dims: tuple[int, ...]
    rows: int | Mapping[str, int]

    def shape(self, clip_id: str) -> tuple[int, ...]:
        if isinstance(self.rows, int):
            return (self.rows, *self.dims)
        counts = set(self.rows.values())
        if clip_id not in self.rows and len(counts) > 1:
            raise StoreError(
                f"clip {clip_id!r} has no rows of {self.key}, and the others have {min(counts)} to {max(counts)}: how "
                "many rows of zeros it should get is not known; use --missing filter"
            )
        return (self.rows.get(clip_id, min(counts, default=0)), *self.dims)


def default_keys(store: Store) -> tuple[str, ...]:
    """The three keys that the official code reads.

    Raises
    ------
    StoreError
        the store lacks one, or has several features for one folder
    """
    found: dict[str, list[str]] = {folder: [] for folder in OFFICIAL}
    for info in store.keys():  # noqa: SIM118 - no mapping
        if (folder := _folder(info.key)) in found:
            found[folder].append(info.key)
    if lacking := [f"feats/{folder}" for folder, keys in found.items() if not keys]:
        raise StoreError(
            f"{store.path} has no feature for {', '.join(lacking)}, which the official code reads: compute it with "
            "`extract run`, or name with --keys what shall be exported all the same"
        )
    for folder, keys in found.items():
        if len(keys) > 1:
            raise StoreError(
                f"{store.path} has {len(keys)} features for feats/{folder}; say with --keys which: {', '.join(keys)}"
            )
    return tuple(keys[0] for keys in found.values())


def export(
    store: Store,
    keys: Sequence[str],
    ids: Sequence[str],
    out: Path,
    *,
    annotations: Path | None = None,
    missing: str = "filter",
) -> Exported:
    """Write ``feats/`` and ``data/``.

    A clip without rows of one of the keys is missing. Rows that a policy filled are exported as they are stored.

    Parameters
    ----------
    store, keys, ids, out
        see `extract.store.export`. Keys other than the official three go to ``feats/<backbone>/``, in any shape
    annotations
        folder of the six official CSVs, which are copied line by line; see `extract.store.export.llp_csv`. None: they
        are written from the store's copy of its manifest
    missing
        ``filter``: missing clips get no files, and the CSVs lose their rows. ``zero``: what a clip lacks is written as
        zeros, also for clips of the annotations that the store does not know. ``error``: if a clip is missing, nothing
        is written

    Raises
    ------
    StoreError
        rows of one of the three that are not of the official shape; two ids with the same first 11 characters; a clip
        is missing and must not be
    ManifestError
        the annotations are not the official files
    PlanError
        two keys for one folder
    """
    if missing not in WAYS:
        raise nearest(missing, list(WAYS), "way with missing clips")
    features = _features(store, keys, ids)
    lacking = _lacking(store, features, ids)
    listed = list(ids) if missing == "zero" else [clip for clip in ids if clip not in lacking]
    if annotations is None:
        tables = from_store(store, listed)
    else:
        known = {*store.manifest, *store.clip_ids(), *(remark.clip_id for remark in store.failed())}
        tables = from_annotations(annotations, set(listed), known, keep_strangers=missing == "zero")
    gone = [Missing(clip, feature.key, "not in the store") for clip, which in lacking.items() for feature in which]
    gone += [Missing(name, "", "the annotations list it; the store does not know it") for name in tables.strangers]
    if missing == "error" and gone:
        raise StoreError(_refusal(store, list(dict.fromkeys(each.clip_id for each in gone))))
    zeros = {**lacking, **dict.fromkeys(tables.strangers, features)} if missing == "zero" else {}
    names = _names([*listed, *(name for name in zeros if name not in lacking)])
    written = _write_features(store, features, names, zeros, out)
    _write_tables(tables, written, out)
    notes = (*_notes(store, features, listed), *tables.notes)
    return Exported(written.files, written.total - written.files, written.size_bytes, tuple(gone), notes)


def _folder(key: str) -> str:
    backbone = backbone_of(key)
    return "vggish" if backbone.startswith("vggish") else {"resnet152": "res152"}.get(backbone, backbone)


def _features(store: Store, keys: Sequence[str], ids: Sequence[str]) -> tuple[_Feature, ...]:
    infos = {info.key: info for info in store.keys()}  # noqa: SIM118 - no mapping
    folders: dict[str, str] = {}
    features = []
    for key in keys:
        folder, dims = _folder(key), infos[key].dims
        if folder in folders:
            raise PlanError(f"{folders[folder]} and {key} both go to feats/{folder}; export one of them")
        folders[folder] = key
        if folder in OFFICIAL:
            _check_shape(store, key, folder, dims, ids)
            features.append(_Feature(key, folder, dims, OFFICIAL[folder][0]))
        else:
            rows = dict(zip(store.clips(key), store.counts(key).tolist(), strict=True))
            features.append(_Feature(key, folder, dims, rows))
    return tuple(features)


def _check_shape(store: Store, key: str, folder: str, dims: tuple[int, ...], ids: Sequence[str]) -> None:
    rows, *official = OFFICIAL[folder]
    needs = f"feats/{folder} holds {OFFICIAL[folder]} per clip"
    advice = "compute it with `extract run --recipe llp`, or export with --layout npy"
    if dims != tuple(official):
        raise StoreError(f"{needs}, and rows of {key} have shape {dims}: {advice}")
    counts, clips = store.counts(key), store.clips(key)
    odd = {clips[i]: int(counts[i]) for i in np.flatnonzero(counts != rows).tolist()}
    if odd and (found := [clip for clip in ids if clip in odd]):
        some = ", ".join(f"{clip} has {odd[clip]}" for clip in found[:SHOWN])
        raise StoreError(f"{needs}, and {len(found)} clips have another number of rows of {key}: {some}; {advice}")


def _lacking(store: Store, features: Sequence[_Feature], ids: Sequence[str]) -> dict[str, tuple[_Feature, ...]]:
    """Which features each clip has no rows of, in the order of `ids`; only of clips that lack one."""
    found: dict[str, tuple[_Feature, ...]] = {}
    for feature in features:
        have = set(store.clips(feature.key))
        for clip in ids:
            if clip not in have:
                found[clip] = (*found.get(clip, ()), feature)
    return {clip: found[clip] for clip in ids if clip in found} if found else {}


def _refusal(store: Store, clips: Sequence[str]) -> str:
    some = ", ".join(clips[:SHOWN]) + (", ..." if len(clips) > SHOWN else "")
    return (
        f"{len(clips)} clips are missing: {some}; nothing was exported. `extract status {store.path} --failed` says "
        "why; --missing filter leaves them out, --missing zero writes zeros"
    )


def _names(ids: Sequence[str]) -> dict[str, str]:
    """The name of each clip's files: the first 11 characters of its id."""
    owner: dict[str, str] = {}
    for clip in ids:
        name = clip[:NAME]
        if "/" in name or "\0" in name:
            raise StoreError(f"clip id {clip!r} cannot name a file: no '/' or NUL in its first {NAME} characters")
        if name in owner:
            raise StoreError(
                f"clips {owner[name]!r} and {clip!r} have the same first {NAME} characters, by which LLP names its "
                "files: export one of them (--only), or use --layout npy"
            )
        owner[name] = clip
    return {clip: name for name, clip in owner.items()}


@dataclass(slots=True)
class _Written:
    """What was written so far; `total` files will be there, `needed` bytes are still to come."""

    total: int = 0
    needed: int = 0
    files: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        self.files += size_bytes > 0
        self.size_bytes += size_bytes
        self.needed -= size_bytes


def _write_features(
    store: Store,
    features: Sequence[_Feature],
    names: Mapping[str, str],
    zeros: Mapping[str, Sequence[_Feature]],
    out: Path,
) -> _Written:
    folders = {feature.key: str(out / "feats" / feature.folder) for feature in features}
    done = _Written()
    todo = []
    for clip, name in names.items():
        absent = 0
        for feature in features:
            size = npy_size(feature.shape(clip), np.float32)
            if not is_there(f"{folders[feature.key]}/{name}.npy", size):
                absent += size
        done.total += len(features)
        done.needed += absent
        if absent:
            todo.append(clip)
    for folder in folders.values():
        make_folder(Path(folder))
    keys = tuple(feature.key for feature in features)

    def put(clip: str, key: str, array: NDArray[Any]) -> None:
        array = array.astype(np.float32, copy=False)
        done.add(write_npy(f"{folders[key]}/{names[clip]}.npy", array, done.needed))

    for batch in ahead(store.batches(keys, [clip for clip in todo if clip not in zeros], size=8)):
        for key in keys:
            for clip, array in zip(batch.ids, batch.data[key], strict=True):
                put(clip, key, array)
    for clip in todo:
        for feature in features if clip in zeros else ():
            absent_rows = feature in zeros[clip]
            put(clip, feature.key, np.zeros(feature.shape(clip)) if absent_rows else store[clip, feature.key])
    return done


def _write_tables(tables: Tables, written: _Written, out: Path) -> None:
    make_folder(out / "data")
    for name, content in tables.files.items():
        with whole(out / "data" / name, len(content)) as file:
            file.write(content)
        written.total += 1
        written.needed += len(content)
        written.add(len(content))


def _notes(store: Store, features: Sequence[_Feature], listed: Sequence[str]) -> Iterable[str]:
    there = {feature.folder for feature in features}
    if absent := [f"feats/{folder}" for folder in OFFICIAL if folder not in there]:
        yield f"{', '.join(absent)} was not asked for, and the official code reads all three folders"
    keys, exported = {feature.key for feature in features}, set(listed)
    masked = {(r.key, r.reason, r.clip_id) for r in store.masked() if r.key in keys and r.clip_id in exported}
    for (key, reason), clips in sorted(Counter((key, reason) for key, reason, _ in masked).items()):
        yield f"{key}: a policy filled rows of {clips} clips ({reason}); they are exported as they are stored"
