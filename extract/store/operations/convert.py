"""A copy of a store in the newest schema, with other numbers on disk: float16, compressed, or both. The cost is measured.

Features that are stored as float16 have another identity, and so another key: rounded rows are never mixed with others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import PlanError, StoreError
from extract.plan import Storage, canonical_json, key_of
from extract.store.index import Index
from extract.store.layout import Entry, parse_compression, write_part
from extract.store.operations.contents import (
    Chosen,
    by_part,
    entry,
    everything,
    fingerprint,
    how_written,
    remarks,
    standing,
)
from extract.store.operations.making import copy_ledgers, finish, made, making, put_manifest, quiet
from extract.store.rows import KeyInfo, Remark, Rows
from extract.store.store import Store


@dataclass(slots=True)
class Loss:
    """What rounding did to the rows of one key.

    Parameters
    ----------
    clips, rows
        that were compared
    least, total
        of the cosines between a row before and after, and their sum; rows of zeros have none
    directed
        rows that have a cosine
    most
        largest absolute difference of two numbers
    """

    clips: int = 0
    rows: int = 0
    directed: int = 0
    least: float = 1.0
    total: float = 0.0
    most: float = 0.0

    @property
    def mean(self) -> float:
        """Mean cosine; 1 where no row has one."""
        return self.total / self.directed if self.directed else 1.0

    def add(self, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> None:
        """Compare one clip's rows (R, *dims) before and after."""
        a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (before, after))
        self.clips += 1
        self.rows += len(a)
        if a.size:
            self.most = max(self.most, float(np.abs(a - b).max()))
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        there = norms > 0
        cosines = np.einsum("ij,ij->i", a, b)[there] / norms[there]
        # A row that became zero has lost its direction altogether.
        lost = int((np.linalg.norm(a, axis=1) > 0).sum()) - int(there.sum())
        self.directed += len(cosines) + lost
        self.total += float(cosines.sum())
        self.least = min(self.least, float(cosines.min(initial=1.0)), 0.0 if lost else 1.0)


@dataclass(frozen=True, slots=True)
class Converted:
    """What converting cost.

    Parameters
    ----------
    parts
        in the new store
    before_bytes, after_bytes
        of all parts
    losses
        by new key, only of those that were rounded
    keys
        new key by old one
    complete
        it was complete before, and nothing was done
    """

    parts: int
    before_bytes: int
    after_bytes: int
    losses: dict[str, Loss] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    complete: bool = False


def convert(
    store_path: Path,
    out: Path,
    storage: Storage | None = None,
    compression: str | None = None,
    on_part: Callable[[int, int], None] = lambda done, of: None,
) -> Converted:
    """Copy a store part by part; a conversion that was killed is finished by the same command.

    Parameters
    ----------
    store_path
        folder of a store of any schema that can be read
    out
        folder of the new one, which does not exist yet
    storage
        type of the stored numbers; None: as they are
    compression
        ``none``, ``gzip`` or ``gzip:<1 to 9>``; None: as it is
    on_part
        told after each part how many are done, of how many

    Raises
    ------
    PlanError
        no such compression, or rows that are float16 would become float32, which does not bring back what was rounded off
    StoreError
        a value is too large for float16 (the message names clip, key and value), or `out` holds something else
    StoreBusy, StoreUnwritable, DamagedPart
        somebody holds one of the stores; no space; the store is damaged
    """
    compression = None if compression is None else parse_compression(compression)
    quiet(store_path)
    store = Store(store_path)
    index = store.index
    infos = _infos(index, storage)
    chosen = by_part(index, everything(index), *standing(store))
    content = fingerprint(index, everything(index), *standing(store))
    asked = {"operation": "convert", "content": content, "storage": storage, "compression": compression}
    known = made(out, asked)
    if known is not None:
        losses = {key: Loss(**loss) for key, loss in known.pop("losses").items()}
        return Converted(**known, losses=losses, complete=True)
    losses = {info.key: Loss() for key, info in sorted(infos.items()) if info.key != key}
    with making(out, asked):
        for number, each in enumerate(chosen):
            _convert(store, index, number, each, out, _Way(infos, losses, compression))
            on_part(number + 1, len(chosen))
        put_manifest(out, list(store.manifest.values()), store.events)
        copy_ledgers([store_path], out)
        after = sum(path.stat().st_size for path in (out / "parts").glob("*.h5"))
        keys = {key: info.key for key, info in sorted(infos.items())}
        done = Converted(len(chosen), store.size_bytes(), after, losses, keys)
        told = {name: value for name, value in asdict(done).items() if name != "complete"}
        finish(out, asked, told)
    store.close()
    return done


@dataclass(frozen=True, slots=True)
class _Way:
    infos: Mapping[str, KeyInfo]
    losses: Mapping[str, Loss]
    compression: str | None


def _convert(store: Store, index: Index, number: int, chosen: Chosen, out: Path, way: _Way) -> None:
    source = store.path / "parts" / index.parts[number].name
    target = out / "parts" / source.name  # the same chunk, so that a run goes on in the new store
    entries = [
        _entry(entry(store, index, key, i), way) for key, numbers in chosen.rows.items() for i in numbers.tolist()
    ]
    entries.sort(key=lambda each: each.key)
    if target.exists():
        for each in entries:
            if each.key in way.losses:
                each.load()  # it measures
        return
    provenance, compression = how_written(source)
    failed, masked = (
        [_renamed(each, way.infos) for each in said]
        for said in (remarks(index, "failed", chosen.failed), remarks(index, "masked", chosen.masked))
    )
    infos = {info.key: info for info in way.infos.values()}
    write_part(target, infos, entries, failed, masked, provenance, way.compression or compression)


def _entry(old: Entry, way: _Way) -> Entry:
    info = way.infos[old.key]
    if info.key == old.key:
        return old

    def load() -> Rows:
        rows = old.load()
        with np.errstate(over="ignore"):  # said below, with clip and key
            data = rows.data.astype(np.float16)
        if not np.isfinite(data).all():
            largest = rows.data.flat[int(np.abs(rows.data).argmax())]
            raise StoreError(
                f"clip {old.clip_id!r}, {old.key}: {largest:g} is too large for float16, which ends at 65504; keep this "
                "store in float32, perhaps compressed: --compression gzip"
            )
        way.losses[info.key].add(rows.data, data)
        return Rows(rows.clip_id, info.key, data, rows.window_ns, rows.valid, rows.source_ns)

    return replace(old, key=info.key, load=load, storage=info.storage)


def _info(info: KeyInfo, storage: Storage | None) -> KeyInfo:
    """What is stored of a key in the new store."""
    if storage is None or storage == info.storage:
        return info
    if storage == "float32":
        raise PlanError(
            f"{info.key} is stored as float16; what was rounded off does not come back, so compute it again instead of "
            "converting it to float32"
        )
    identity = canonical_json(json.loads(info.identity) | {"storage": storage})
    return replace(info, key=key_of(identity), identity=identity, storage=storage)


def _infos(index: Index, storage: Storage | None) -> dict[str, KeyInfo]:
    """What is stored of each key in the new store, by its old name."""
    infos = {key: _info(column.info, storage) for key, column in index.columns.items()}
    old: dict[str, str] = {}
    for key, info in sorted(infos.items()):
        if old.setdefault(info.key, key) != key:
            raise StoreError(
                f"{old[info.key]} and {key} would both become {info.key}; remove one of them first: `extract store rm`"
            )
    return infos


def _renamed(remark: Remark, infos: Mapping[str, KeyInfo]) -> Remark:
    # a feature without a single row has no identity in the store, so what failed of it keeps its key
    return replace(remark, key=infos[remark.key].key) if remark.key in infos else remark
