"""A store as one thing: which clips it has, under which keys, and their rows. Needs h5py and numpy only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import DamagedPart, ExtractError, StoreError, nearest
from extract.plan import canonical_json
from extract.store.merge import by_age, list_parts
from extract.store.reader import PartIndex, index_part, open_part, read_range, read_rows, reading
from extract.store.rows import KeyInfo, Remark, Rows
from extract.store.sink import unwritable


def create_store(path: Path) -> None:
    """Make the folders of a store; what is there stays.

    Raises
    ------
    StoreUnwritable
        the folders cannot be made
    """
    for folder in (path / "parts", path / "runs"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, 0, error) from error


class Store:
    """The features of a manifest, by clip id and key.

    Parts are indexed at first use; :meth:`refresh` looks again. No file stays open, so a store may be forked, pickled
    and read while a run writes to it: the rows of a clip never change, only the file they lie in.

    Parameters
    ----------
    path
        folder of the store
    strict
        True: an unreadable or foreign ``.h5`` in ``parts/``, or two parts that disagree, raise DamagedPart;
        False: they are left out and listed by :meth:`damaged`

    Raises
    ------
    StoreError
        there is no store at `path`

    Examples
    --------
    >>> store = Store(Path("features/llp"))               # doctest: +SKIP
    >>> store["BjCEufrlXm4_20_30", "resnet152"].shape     # doctest: +SKIP
    (80, 2048)
    """

    def __init__(self, path: str | Path, *, strict: bool = True) -> None:
        self.path = Path(path)
        self.strict = strict
        self._parts: dict[Path, tuple[tuple[int, int, int], PartIndex | str]] = {}
        self._where: dict[str, dict[str, tuple[PartIndex, int]]] | None = None
        self._infos: dict[str, KeyInfo] = {}
        self._failed: tuple[Remark, ...] = ()
        self._masked: tuple[Remark, ...] = ()
        self._damaged: tuple[tuple[Path, str], ...] = ()
        if not (self.path / "parts").is_dir():
            raise StoreError(f"there is no feature store at {self.path}: it has no parts/; `extract run` makes one")

    def refresh(self) -> None:
        """Look at ``parts/`` again; only files that are new or changed are opened.

        Raises
        ------
        DamagedPart
            in strict mode, see the class
        """
        paths = self._scan()
        damaged = {path: found for path in paths if isinstance(found := self._parts[path][1], str)}
        where: dict[str, dict[str, tuple[PartIndex, int]]] = {}
        failed: dict[tuple[str, ...], Remark] = {}
        masked: dict[tuple[str, ...], Remark] = {}
        self._infos = {}
        for path in paths:
            index = self._parts[path][1]
            if isinstance(index, str):
                continue
            problem = _conflict(where, index)
            if problem is not None:
                damaged[path] = problem
                continue
            for key, entry in index.keys.items():
                self._infos[key] = entry.info
                where.setdefault(key, {}).update((clip, (index, i)) for i, clip in enumerate(entry.clips))
            failed |= {(each.clip_id, each.key): each for each in index.failed}
            masked |= {(each.clip_id, each.key, each.stage, each.reason): each for each in index.masked}
        if damaged and self.strict:
            raise DamagedPart("\n".join(damaged.values()))
        self._where = where
        self._failed = tuple(r for _, r in sorted(failed.items()) if r.clip_id not in where.get(r.key, {}))
        self._masked = tuple(r for _, r in sorted(masked.items()))
        self._damaged = tuple(damaged.items())

    def have(self) -> Mapping[str, frozenset[str]]:
        """Keys with rows, by clip id."""
        keys: dict[str, list[str]] = {}
        for key, clips in self._rows().items():
            for clip in clips:
                keys.setdefault(clip, []).append(key)
        shared: dict[tuple[str, ...], frozenset[str]] = {}
        return {clip: shared.setdefault(tuple(found), frozenset(found)) for clip, found in keys.items()}

    def failed(self) -> tuple[Remark, ...]:
        """Why there are no rows; sorted by clip and key. A failure that rows made up for later is not among them."""
        self._rows()
        return self._failed

    def masked(self) -> tuple[Remark, ...]:
        """Why a policy filled rows; sorted by clip and key."""
        self._rows()
        return self._masked

    def keys(self) -> tuple[KeyInfo, ...]:
        """Every key that has rows, by name."""
        self._rows()
        return tuple(self._infos[key] for key in sorted(self._infos))

    def clips(self, key: str) -> tuple[str, ...]:
        """Sorted ids of the clips that have rows under `key`: a full key, or a backbone's name where that is unique."""
        return tuple(sorted(self._rows()[self.resolve(key)]))

    def damaged(self) -> tuple[tuple[Path, str], ...]:
        """Files that were left out, and why; always empty in strict mode."""
        self._rows()
        return self._damaged

    def resolve(self, name: str) -> str:
        """The full key of a backbone's name, or of itself.

        Raises
        ------
        UnknownName
            no key of that name
        StoreError
            several; the message lists them
        """
        keys = self._rows()
        if name in keys:
            return name
        found = sorted(key for key in keys if key.split("@")[0] == name)
        if len(found) > 1:
            raise StoreError(f"{self.path} has {len(found)} features of {name}; say which: {', '.join(found)}")
        if not found:
            raise nearest(name, sorted({*keys, *(key.split("@")[0] for key in keys)}), f"feature of {self.path}")
        return found[0]

    def rows(self, clip_id: str, key: str) -> Rows:
        """The rows of one clip, with windows, validity and source times; only they are read.

        Raises
        ------
        UnknownName
            the store knows no such key or clip
        StoreError
            the clip failed; the message says why
        """
        rows = self._read(clip_id, self.resolve(key), whole=True)
        assert isinstance(rows, Rows)
        return rows

    def __getitem__(self, item: tuple[str, str]) -> NDArray[np.float32]:
        """``store[clip_id, key]``: (R, *dims) float32; raises what :meth:`rows` does."""
        clip_id, key = item
        data = self._read(clip_id, self.resolve(key), whole=False)
        assert isinstance(data, np.ndarray)
        return data

    def __contains__(self, item: tuple[str, str]) -> bool:
        """Whether there are rows: ``(clip_id, key) in store``, with a full key."""
        clip_id, key = item
        return clip_id in self._rows().get(key, {})

    def digest(self) -> str:
        """sha256 in hex of all content: rows, keys, remarks; not of how it is spread over parts, nor of provenance.

        It trusts the digests that the parts hold; :func:`extract.store.verify.verify` checks those.
        """
        total = hashlib.sha256()
        for key, clips in sorted(self._rows().items()):
            info = self._infos[key]
            total.update(canonical_json([key, info.identity, info.view, info.weights, info.licence]).encode())
            for clip, (index, i) in sorted(clips.items(), key=lambda item: item[0]):
                total.update(canonical_json([clip, index.keys[key].sha256[i].tobytes().hex()]).encode())
        for name, remarks in (("failed", self._failed), ("masked", self._masked)):
            for each in remarks:
                total.update(
                    canonical_json([name, each.clip_id, each.key, each.stage, each.reason, each.message]).encode()
                )
        return total.hexdigest()

    def _rows(self) -> dict[str, dict[str, tuple[PartIndex, int]]]:
        if self._where is None:
            self.refresh()
        assert self._where is not None
        return self._where

    def _scan(self) -> list[Path]:
        """Index what is new; paths with the oldest first."""
        while True:
            paths = list_parts(self.path / "parts")
            try:
                for path in paths:
                    self._parts[path] = self._look(path)
                ordered = by_age(paths)
            except FileNotFoundError:
                continue  # a run merged that piece after we listed it: its clips are in a file of the next listing
            self._parts = {path: self._parts[path] for path in paths}
            return ordered

    def _look(self, path: Path) -> tuple[tuple[int, int, int], PartIndex | str]:
        stat = path.stat()
        signature = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        known = self._parts.get(path)
        if known is not None and known[0] == signature:
            return known
        try:
            return signature, index_part(path)
        except DamagedPart as error:
            return signature, str(error)

    def _read(self, clip_id: str, key: str, *, whole: bool) -> Rows | NDArray[Any]:
        for _ in range(8):
            found = self._rows()[key].get(clip_id) if key in self._rows() else None
            if found is None:
                raise self._absent(clip_id, key)
            index, i = found
            start, stop = map(int, index.keys[key].span[i])
            try:
                with open_part(index.path) as file, reading(index.path):
                    # A run may have put a newer file under this name: it counts only if the clip lies where it did.
                    if _lies_there(file.get(key), clip_id, i, start, stop):
                        if whole:
                            return read_rows(file, clip_id, key, start, stop)
                        return read_range(file[key]["data"], start, stop)
            except FileNotFoundError:
                pass
            self.refresh()
        raise StoreError(f"{self.path} changes faster than clip {clip_id!r} can be read; is something rewriting it?")

    def _absent(self, clip_id: str, key: str) -> ExtractError:
        for each in self._failed:
            if (each.clip_id, each.key) == (clip_id, key):
                return StoreError(
                    f"clip {clip_id!r} has no rows of {key}: {each.reason} ({each.stage}): {each.message}"
                )
        known = self.have()
        if clip_id in known:
            return StoreError(f"clip {clip_id!r} has no rows of {key}, only of {', '.join(sorted(known[clip_id]))}")
        return nearest(clip_id, list(known), f"clip of {self.path}")


def _lies_there(group: Any, clip_id: str, i: int, start: int, stop: int) -> bool:
    if group is None or i >= group["clip"].shape[0]:
        return False
    return bool(group["clip"][i].decode() == clip_id and group["span"][i].tolist() == [start, stop])


def _conflict(where: Mapping[str, Mapping[str, tuple[PartIndex, int]]], new: PartIndex) -> str | None:
    """What `new` says differently from the parts before it, or None."""
    for key, entry in new.keys.items():
        known = where.get(key)
        if not known:
            continue
        first = next(iter(known.values()))[0].keys[key]
        if first.info.dims != entry.info.dims:
            return f"{new.path}: rows of {key} have shape {entry.info.dims}, in other parts {first.info.dims}"
        for i, clip in enumerate(entry.clips):
            if clip in known and not _same(known[clip], entry.sha256[i], key):
                return f"{known[clip][0].path} and {new.path} hold different rows of clip {clip!r}, {key}"
    return None


def _same(known: tuple[PartIndex, int], sha256: NDArray[np.uint8], key: str) -> bool:
    return bool((known[0].keys[key].sha256[known[1]] == sha256).all())
