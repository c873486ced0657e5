"""Removing features, clips or failures from a store, in place, part by part; each part is whole at any moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from extract.errors import PlanError, UnknownName, nearest
from extract.store.catalog import save_index
from extract.store.index import Index, Remarks
from extract.store.merge import sweep_tmp
from extract.store.operations.contents import (
    Kind,
    Mask,
    by_part,
    everything,
    how_written,
    sizes_bytes,
    standing,
    write_chosen,
)
from extract.store.runs import Lock
from extract.store.sink import fsync_folder, unwritable
from extract.store.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class Removal:
    """What would go.

    Parameters
    ----------
    clips
        by key, how many clips would lose their rows
    failed, masked
        remarks
    parts
        that would be rewritten or deleted
    size_bytes
        of the rows, uncompressed
    rows, remarks
        masks over the index's columns and remarks
    """

    clips: Mapping[str, int]
    failed: int
    masked: int
    parts: int
    size_bytes: int
    rows: Mapping[str, Mask] = field(repr=False)
    remarks: Mapping[Kind, Mask] = field(repr=False)


def plan_removal(
    store: Store, keys: Collection[str] = (), clips: Collection[str] = (), reasons: Collection[str] = ()
) -> Removal:
    """Say what would go; nothing is written.

    Parameters
    ----------
    store
        to be looked at
    keys
        features, in full or as a backbone's name: their rows and what is said of them
    clips
        ids: all their rows and what is said of them
    reasons
        of failures, which are forgotten, so that the next run tries again

    Raises
    ------
    PlanError
        not exactly one of the three is given
    UnknownName
        the store has no such feature, clip, or failure
    StoreError
        a backbone's name stands for several features
    """
    if sum(map(bool, (keys, clips, reasons))) != 1:
        raise PlanError("say what is to be removed with one of --key, --clip and --failed; each may be repeated")
    index = store.index
    rows = {key: np.zeros(len(column.clip), bool) for key, column in index.columns.items()}
    kinds: tuple[Kind, ...] = ("failed", "masked")
    remarks: dict[Kind, Mask] = {kind: np.zeros(len(_said(index, kind).clip), bool) for kind in kinds}
    if keys:
        full = {_full_key(store, key) for key in keys}
        for key in full & rows.keys():
            rows[key][:] = True
        for kind in kinds:
            remarks[kind] = np.isin(_said(index, kind).key, _words(index, full))
    elif clips:
        ranks = {clip: index.rank(clip) for clip in clips}
        for clip, rank in ranks.items():
            if rank < 0:
                known = list(index.text(np.arange(min(len(index.ids), 10_000))))
                raise nearest(clip, known, f"clip of {store.path}")
        wanted = np.array(sorted(ranks.values()))
        rows = {key: np.isin(column.clip, wanted) for key, column in index.columns.items()}
        remarks = {kind: np.isin(_said(index, kind).clip, wanted) for kind in kinds}
    else:
        there = {index.words[word] for word in np.unique(index.failed.reason).tolist()}
        for reason in reasons:
            if reason not in there:
                raise nearest(reason, sorted(there), f"reason of a failure in {store.path}")
        remarks["failed"] = np.isin(index.failed.reason, _words(index, reasons))
    return _removal(store, index, rows, remarks)


def remove(
    store_path: Path,
    keys: Collection[str] = (),
    clips: Collection[str] = (),
    reasons: Collection[str] = (),
    on_part: Callable[[int, int], None] = lambda done, of: None,
) -> Removal:
    """Remove it; see :func:`plan_removal`. A removal that was killed is finished by the same command.

    Returns
    -------
    Removal
        what went

    Raises
    ------
    PlanError, UnknownName, StoreError
        see :func:`plan_removal`
    StoreBusy, StoreUnwritable, DamagedPart
        a run holds the store; no space; rows that would stay do not match their checksums
    """
    store = Store(store_path)
    with Lock(store_path):
        for folder in (store_path, store_path / "parts"):
            sweep_tmp(folder)
        index = store.index
        going = plan_removal(store, keys, clips, reasons)
        failed, masked = standing(store)
        kept = by_part(
            index,
            {key: mask & ~going.rows[key] for key, mask in everything(index).items()},
            failed & ~going.remarks["failed"],
            masked & ~going.remarks["masked"],
        )
        parts = _concerned(index, going.rows, going.remarks)
        for done, part in enumerate(parts, 1):
            path = store_path / "parts" / index.parts[part].name
            if kept[part].count:
                write_chosen(path, store, index, kept[part], *how_written(path))
            else:
                _unlink(path)
            on_part(done, len(parts))
        save_index(store_path)
    store.close()
    return going


def _removal(store: Store, index: Index, rows: Mapping[str, Mask], remarks: Mapping[Kind, Mask]) -> Removal:
    # clips and remarks are counted as the store shows them: each once, and only those that hold
    shown = dict(zip(("failed", "masked"), standing(store), strict=True))
    clips = {key: len(np.unique(index.columns[key].clip[mask])) for key, mask in sorted(rows.items()) if mask.any()}
    return Removal(
        clips,
        int((remarks["failed"] & shown["failed"]).sum()),
        int((remarks["masked"] & shown["masked"]).sum()),
        len(_concerned(index, rows, remarks)),
        sum(int(sizes_bytes(index.columns[key])[mask].sum()) for key, mask in rows.items()),
        rows,
        remarks,
    )


def _concerned(index: Index, rows: Mapping[str, Mask], remarks: Mapping[Kind, Mask]) -> list[int]:
    """Numbers of the parts that hold any of it."""
    found = [index.columns[key].part[mask] for key, mask in rows.items()]
    found += [_said(index, kind).part[mask] for kind, mask in remarks.items()]
    numbers: list[int] = np.unique(np.concatenate(found)).tolist()
    return numbers


def _full_key(store: Store, name: str) -> str:
    """The key of a name; also of a feature that has failures only."""
    try:
        return store.resolve(name)
    except UnknownName:
        said = {store.index.words[i] for each in ("failed", "masked") for i in set(_keys(store.index, each))}
        found = sorted(key for key in said if name in (key, key.split("@")[0]))
        if len(found) != 1:
            raise
        return found[0]


def _keys(index: Index, kind: str) -> list[int]:
    keys: list[int] = np.unique(getattr(index, kind).key).tolist()
    return keys


def _words(index: Index, words: Collection[str]) -> list[int]:
    return [number for number, word in enumerate(index.words) if word in words]


def _said(index: Index, kind: Kind) -> Remarks:
    said: Remarks = getattr(index, kind)
    return said


def _unlink(path: Path) -> None:
    try:
        path.unlink()
        fsync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, 0, error) from error
