"""Bring released features into a store: seal what is missing, compare what is there, overwrite nothing."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.chunk import Receipt
from extract.errors import BadFeature, ManifestError, PlanError, StoreError, nearest
from extract.plan import canonical_json
from extract.store.catalog import create_store, save_index
from extract.store.importing.keep import keep_lists
from extract.store.importing.released import Column, Release, as_rows
from extract.store.layout import row_digest
from extract.store.part import index_part, merge_chunk, seal_piece, sweep_tmp
from extract.store.rows import Remark, Rows
from extract.store.runs import Ledger, Lock
from extract.store.store import Store
from manifests.clip import read_manifest

LAYOUTS = ("llp", "ave")
CHUNK = 64
STAGE = "import"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(slots=True)
class Counts:
    """Clips of one feature: sealed now, equal in the store already, broken, listed without an array, rounded to float32."""

    added: int = 0
    kept: int = 0
    failed: int = 0
    absent: int = 0
    rounded: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """The outcome of an import.

    Parameters
    ----------
    store
        its folder
    clips
        that the release lists
    keys
        counts by key
    notes
        sentences for the user
    """

    store: Path
    clips: int
    keys: dict[str, Counts]
    notes: tuple[str, ...]


def import_features(
    folder: Path,
    store_path: Path,
    layout: str,
    *,
    name: str = "official",
    manifest: Path | None = None,
    on_clip: Callable[[int, int], None] = lambda done, clips: None,
) -> Imported:
    """Bring a folder of released features into a store, new or not.

    The rows are marked: their keys say that they were imported, from which layout and under which name, and that how they
    were computed is unknown. Given again, it adds what is missing.

    Parameters
    ----------
    folder
        of the release
    store_path
        folder of the store
    layout
        ``llp`` or ``ave``
    name
        of the release; part of the keys, so that two releases can lie in one store
    manifest
        its clips are imported, under its ids. None: all that is found, under the ids of the store's manifest if it has one
    on_clip
        told how many clips are done, of how many

    Returns
    -------
    Imported
        what was added

    Raises
    ------
    UnknownName, PlanError
        no such layout; a name that cannot be one
    ManifestError, StoreError
        nothing of that layout is there; a clip has other rows in the store already, which stay
    StoreBusy, StoreUnwritable
        see extract.store.runs.Lock and extract.store.sink.sealed; the same call goes on afterwards
    """
    if layout not in LAYOUTS:
        raise nearest(layout, list(LAYOUTS), "layout to import")
    if not _NAME.fullmatch(name):
        raise PlanError(f"--name {name!r}: a release's name is 1 to 64 letters, digits, '.', '_' or '-'")
    there = Store(store_path) if (store_path / "parts").is_dir() else None
    listed = read_manifest(manifest) if manifest is not None else list(there.manifest.values()) if there else []
    opened = importlib.import_module(f"extract.store.importing.{layout}").opened
    with opened(folder, name, listed, only_known=manifest is not None) as release:
        if manifest is not None and not release.clips:
            raise ManifestError(
                f"no clip of {manifest} is in {folder}; their ids must be the files' names, or begin with them"
            )
        create_store(store_path)
        with Lock(store_path):
            sweep_tmp(store_path / "parts")
            keep_lists(store_path, release, listed if manifest is not None else None, manifest)
            work = _Work(store_path, release, layout, name, folder)
            try:
                work.carry_out(on_clip)
            finally:
                work.close()
    return Imported(store_path, len(release.clips), work.counts, (*release.notes, *work.notes))


@dataclass(slots=True)
class _Work:
    """One import under way."""

    path: Path
    release: Release
    layout: str
    name: str
    folder: Path
    counts: dict[str, Counts] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ledger: Ledger | None = None
    changed: bool = False

    def carry_out(self, on_clip: Callable[[int, int], None]) -> None:
        """Chunk by chunk, so that memory is bounded and a kill costs one."""
        keys = [each.info.key for each in self.release.columns]
        self.counts = {key: Counts() for key in keys}
        clips = [clip for clip in self.release.clips if any(self.release.has(clip.clip_id, key) for key in keys)]
        for key, counts in self.counts.items():
            counts.absent = sum(not self.release.has(clip.clip_id, key) for clip in self.release.clips)
        store = Store(self.path)
        said = {(each.clip_id, each.key): each for each in store.failed()}
        unmerged = {path.name.split(".")[0] for path in (self.path / "parts").glob("*.piece.h5")}
        for start in range(0, len(clips), CHUNK):
            order = [clip.clip_id for clip in clips[start : start + CHUNK]]
            chunk = hashlib.sha256(canonical_json(["imported", order, sorted(keys)]).encode()).hexdigest()[:16]
            rows, failed = self._missing(store, order, said)
            if rows or failed:
                self._seal(chunk, order, rows, failed)
            if rows or failed or chunk in unmerged:
                merge_chunk(self.path / "parts", chunk, order)
                self.changed = True
            unmerged.discard(chunk)
            on_clip(start + len(order), len(clips))
        for chunk in sorted(unmerged):
            self._merge_leftover(chunk, store)
        for key, counts in self.counts.items():
            if counts.rounded:
                self.notes.append(f"{key}: the numbers of {counts.rounded} clips were rounded to float32")
        if self.ledger is not None:
            self.ledger.finish({"computed": sum(each.added for each in self.counts.values())})

    def close(self) -> None:
        """Close the ledger, whatever happened, and let readers find the new parts fast."""
        if self.ledger is not None:
            self.ledger.close()
        if self.changed:
            save_index(self.path)

    def _missing(
        self, store: Store, order: Sequence[str], said: Mapping[tuple[str, str], Remark]
    ) -> tuple[list[Rows], list[Remark]]:
        rows: list[Rows] = []
        failed: list[Remark] = []
        for column in self.release.columns:
            key = column.info.key
            for clip_id in order:
                if not self.release.has(clip_id, key):
                    continue
                there = (clip_id, key) in store
                try:
                    new = self._load(clip_id, column)
                except BadFeature as error:
                    remark = Remark(clip_id, key, STAGE, BadFeature.reason, str(error))
                    self.counts[key].failed += 1
                    if there:
                        self.notes.append(f"{clip_id}: {error}; the store keeps the rows that were imported before")
                    elif said.get((clip_id, key)) != remark:
                        failed.append(remark)
                    continue
                if not there:
                    self.counts[key].added += 1
                    rows.append(new)
                elif row_digest(store.rows(clip_id, key)) == row_digest(new):
                    self.counts[key].kept += 1
                else:
                    raise StoreError(
                        f"clip {clip_id!r} has other rows of {key} in {self.path} than in {self.folder}; what is there "
                        "stays as it is: import this release under another --name, or into another store"
                    )
        return rows, failed

    def _load(self, clip_id: str, column: Column) -> Rows:
        rows, rounded = as_rows(clip_id, column, self.release.load(clip_id, column.info.key))
        self.counts[column.info.key].rounded += rounded
        return rows

    def _merge_leftover(self, chunk: str, store: Store) -> None:
        """Merge what a killed import left of a chunk that is cut differently now, in the manifest's order."""
        found: set[str] = set()
        for path in (self.path / "parts").glob(f"{chunk}.*h5"):
            index = index_part(path)
            found |= {clip for entry in index.keys.values() for clip in entry.clips}
            found |= {remark.clip_id for remark in (*index.failed, *index.masked)}
        place = {clip: i for i, clip in enumerate(store.manifest)}
        merge_chunk(self.path / "parts", chunk, sorted(found, key=lambda clip: (place.get(clip, len(place)), clip)))
        self.changed = True

    def _seal(self, chunk: str, order: Sequence[str], rows: list[Rows], failed: list[Remark]) -> None:
        provenance = {"imported": {"layout": self.layout, "name": self.name}, "provenance": "unknown"}
        infos = [each.info for each in self.release.columns]
        if self.ledger is None:
            self.ledger = Ledger.start(self.path, self._header())
        path = seal_piece(self.path / "parts", chunk, order, infos, rows, failed, (), provenance)
        ids = {each.clip_id for each in rows} | {each.clip_id for each in failed}
        told = tuple(clip_id for clip_id in order if clip_id in ids)
        self.ledger.receipt(Receipt(chunk, path.name, told, tuple(failed), size_bytes=path.stat().st_size))

    def _header(self) -> dict[str, Any]:
        """As a run's, without what only a run has: nothing here can be computed again, so no key is named as computed."""
        return {
            "recipe": "import",
            "manifest": str((self.path / "manifest.csv").absolute()),
            "clips": len(Store(self.path).manifest),
            "asked": len(self.release.clips),
            "keys": [],
            "choices": {},
            "machine": {"chunk": CHUNK},
            "imported": {
                "layout": self.layout,
                "name": self.name,
                "folder": str(self.folder.absolute()),
                "keys": [each.info.key for each in self.release.columns],
            },
        }
