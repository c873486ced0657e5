"""What all collocations share: the features and labels of the same clips, one row per second, read from the store once.

Each feature becomes a plain array on disk, which every lane maps into its memory: however many lanes there are, a feature
is in memory once, and a search that goes on reads no store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError, StoreError
from extract.store import Store
from extract.store.merge import sweep_tmp
from extract.store.training.aligned import AlignedRows
from extract.store.training.classes import class_order
from pipelines.collocation.clips.arrays import write_feature
from pipelines.collocation.collocations import SLOTS, short_names
from pipelines.parsing import run_folder
from pipelines.parsing.data import (
    Split,
    check_spans,
    labelled,
    resolve_keys,
    rows_seconds,
    scored_events,
)
from pipelines.parsing.metrics import label_version
from pipelines.parsing.task import Task, task_of

SPLITS = ("train", "val", "test")
FOLDER = "seconds"
_INDEX = "index.json"


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What lies in the folder ``seconds`` of a search.

    Parameters
    ----------
    store
        where it was read
    task, classes
        what is to be found, the background included
    slots
        short names of the features by slot; those that are flagged are left out
    keys, infos
        full key, and what the store knows of it, by short name; flagged ones too
    flagged
        why a feature is not ranked, by short name
    clips
        by split: how many clips have all features, and how many there are
    notes
        sentences for the user: what is missing
    labels
        which labels with times the scores rest on; empty: there are none
    timed
        the splits that have labels with times
    digest
        of all that was read
    """

    store: str
    task: str
    classes: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]
    keys: Mapping[str, str]
    infos: Mapping[str, Mapping[str, Any]]
    flagged: Mapping[str, str]
    clips: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]
    labels: str
    timed: tuple[str, ...]
    digest: str


def share(store_path: Path, names: Mapping[str, Sequence[str]], task: str, folder: Path, *, classes: str) -> Shared:
    """Read what a search compares, or find that it was read before.

    Parameters
    ----------
    store_path
        folder of the store
    names
        keys or backbones by slot
    task
        ``avvp`` or ``ave``
    folder
        of the search
    classes
        ``official`` or ``manifest``, see :class:`pipelines.parsing.config.Config`

    Returns
    -------
    Shared
        collocations are compared on the clips that have every feature, so that no score is of other clips than another

    Raises
    ------
    UnknownName, StoreError, ManifestError
        the store cannot serve it, see :func:`pipelines.parsing.data.load_split`
    StoreError
        what was read before is damaged
    PlanError
        a feature is named in two slots, or was read into this folder from other clips
    StoreUnwritable
        the folder cannot be written
    """
    store = Store(store_path)
    if not store.manifest:
        raise StoreError(f"{store_path} holds no manifest, so nothing is known of splits and labels; run or import one")
    found = task_of(task, class_order(store.manifest.values()) if classes == "manifest" else None)
    by_slot = {
        slot: list(resolve_keys(store, dict(zip(names[slot], names[slot], strict=True))).values())
        for slot in SLOTS
        if names.get(slot)
    }
    every = [key for keys in by_slot.values() for key in keys]
    if twice := [key for key in every if every.count(key) > 1]:
        raise PlanError(f"{twice[0]} is named twice; name every feature once, and in one slot")
    short = {key: name for name, key in short_names(every).items()}
    asked = {split: store.split_ids(split) for split in SPLITS}
    told = {
        "store": str(store_path.resolve()),
        "task": task,
        "classes": found.classes,
        "slots": {slot: [short[key] for key in keys] for slot, keys in by_slot.items()},
        "keys": {short[key]: key for key in every},
        "asked": {split: _digest(ids) for split, ids in asked.items()},
    }
    index = folder / FOLDER / _INDEX
    if index.is_file():
        there = run_folder.read_json(index)
        for name, value in json.loads(json.dumps(told)).items():
            if there["told"].get(name) != value:
                raise PlanError(
                    f"{folder} holds a search with other {name} ({_short(there['told'].get(name))} there, {_short(value)} "
                    "here); give another folder with -o"
                )
        _check_sizes(folder / FOLDER, there.get("sizes", {}))
        return _shared(there)
    run_folder.make_folder(folder / FOLDER)
    sweep_tmp(folder / FOLDER)
    there = {"told": told} | _read(store, found, every, short, asked, folder / FOLDER)
    there["sizes"] = {path.name: path.stat().st_size for path in sorted((folder / FOLDER).glob("*.np[yz]"))}
    there = json.loads(json.dumps(there))
    run_folder.write_json(index, there)
    return _shared(there)


def _check_sizes(out: Path, sizes: Mapping[str, int]) -> None:
    """See that what was read from the store is still there, whole."""
    for name, size in sizes.items():
        path = out / name
        have = path.stat().st_size if path.is_file() else 0
        if have != size:
            raise StoreError(
                f"{path} is damaged: it has {have:,} of {size:,} bytes; remove {out} and give the same command again, which "
                "reads the store anew and keeps all trainings"
            )


def _shared(there: Mapping[str, Any]) -> Shared:
    told = there["told"]
    slots = {
        slot: tuple(name for name in names if name not in there["flagged"]) for slot, names in told["slots"].items()
    }
    return Shared(
        told["store"], told["task"], tuple(told["classes"]), slots, told["keys"], there["infos"], there["flagged"],
        {split: (have, of) for split, (have, of) in there["clips"].items()},
        tuple(there["notes"]), there["labels"], tuple(there["timed"]), there["digest"],
    )  # fmt: skip


def _read(
    store: Store,
    task: Task,
    keys: Sequence[str],
    short: Mapping[str, str],
    asked: Mapping[str, Sequence[str]],
    out: Path,
) -> dict[str, Any]:
    flagged: dict[str, str] = {}
    while True:
        left = [key for key in keys if short[key] not in flagged]
        rows = {split: AlignedRows(store, left, ids, pool="mean") for split, ids in asked.items()}
        ids = {split: tuple(raw.decode() for raw in each.ids.tolist()) for split, each in rows.items()}
        seconds = rows_seconds(rows["train"])
        for split, each in rows.items():
            check_spans(each, ids[split], seconds)
        wrong = {short[key]: why for key in left if (why := write_feature(store, key, ids, out, short[key]))}
        flagged |= wrong
        if len(flagged) == len(keys):
            why = "; ".join(f"{name}: {reason}" for name, reason in flagged.items())
            raise StoreError(f"no feature can be ranked: {why}")
        # without a flagged feature there may be more clips that have all the others
        if not wrong or all(len(each) == len(asked[split]) for split, each in ids.items()):
            break
    timed = []
    for split, listed in ids.items():
        found = labelled(store, task, listed, seconds)
        if found.truth is not None or found.event is not None:
            timed.append(split)
        _write_labels(out / f"labels.{split}.npz", found)
    return {
        "flagged": flagged,
        "infos": {short[key]: _info(store, key) for key in keys},
        "clips": {split: [len(each), len(asked[split])] for split, each in ids.items()},
        "notes": [note for split, each in rows.items() for note in _missing(split, each, len(asked[split]), short)],
        "labels": label_version(scored_events(store)) if timed else "",
        "timed": timed,
        "digest": _digest(
            [*ids["train"], *ids["val"], *ids["test"], *sorted(key for key in left if short[key] not in flagged)]
        ),
    }


def _missing(split: str, rows: AlignedRows, asked: int, short: Mapping[str, str]) -> list[str]:
    missing = rows.missing()
    if not missing:
        return []
    count: dict[str, int] = {}
    for each in missing:
        count[each.key] = count.get(each.key, 0) + 1
    lacking = ", ".join(f"{short[key]} lacks {number:,}" for key, number in count.items())
    first = f"the first, {missing[0].clip_id}: {missing[0].why}"
    return [f"{split}: all are compared on the {len(rows.ids):,} of {asked:,} clips that all have ({lacking}; {first})"]


def _info(store: Store, key: str) -> dict[str, Any]:
    info = store.columns[key].info
    return {"identity": info.identity, "view": info.view, "weights": info.weights, "dims": list(info.dims)}


def _write_labels(path: Path, found: Split) -> None:
    arrays: dict[str, NDArray[Any]] = {"ids": np.array(found.ids, np.str_), "weak": found.weak.numpy()}
    if found.truth is not None:
        arrays |= {"heard": found.truth.audio, "seen": found.truth.visual}
    if found.event is not None:
        arrays["event"] = found.event.numpy()
    run_folder.write_arrays(path, arrays)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
