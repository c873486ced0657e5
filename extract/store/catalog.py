"""A store as one thing: which clips it has, under which keys, and why some are missing. Needs h5py and numpy only."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.errors import DamagedPart, ExtractError, StoreError, nearest
from extract.plan import canonical_json
from extract.store.index import Column, Index, empty, live, standing
from extract.store.index_file import read_index, write_index
from extract.store.rows import KeyInfo, Remark
from extract.store.scan import Broken, scan
from extract.store.sink import unwritable

if TYPE_CHECKING:
    from manifests.clip import Clip
    from manifests.dense import Event

Kind = Literal["failed", "masked"]


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


def save_index(path: Path) -> None:
    """Bring the index file of a store up to date, so that the next reader need not open every part; hold the store's lock.

    Raises
    ------
    StoreUnwritable
        it cannot be written
    """
    catalog = Catalog(path, strict=False)
    if catalog.index is not catalog.saved:
        write_index(path, catalog.index)


class Catalog:
    """What the parts of a store say of themselves; :class:`extract.store.Store` reads the rows as well.

    Parts are indexed at first use, from the store's index file as far as that is up to date; :meth:`refresh` looks again.

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
    """

    def __init__(self, path: str | Path, *, strict: bool = True) -> None:
        self.path = Path(path)
        self.strict = strict
        # one attribute: numbers of clips and parts mean something only together with the index they are from
        self._found: tuple[Index, Mapping[str, Column]] | None = None
        self._lock, self._pid = threading.RLock(), os.getpid()
        self._broken: Broken = {}
        self._standing: dict[Kind, NDArray[np.int64]] = {}
        self.saved: Index | None = None
        if not (self.path / "parts").is_dir():
            raise StoreError(f"there is no feature store at {self.path}: it has no parts/; `extract run` makes one")

    # ---- keeping in step -----------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at ``parts/`` again; only files that are new or changed are opened.

        Raises
        ------
        DamagedPart
            in strict mode, see the class
        """
        with self.alone():
            if self._found is None:
                self.saved = read_index(self.path)
            known = self._found[0] if self._found else self.saved or empty()
            index, self._broken = scan(self.path / "parts", known, self._broken)
            if self._broken and self.strict:
                raise DamagedPart("\n".join(why for _, why in self._broken.values()))
            if self._found is None or index is not known:
                self._found = index, {key: live(column) for key, column in index.columns.items()}
                self._standing = {}

    def alone(self) -> threading.RLock:
        """``with store.alone():`` keeps other threads of this process from reading, or looking at the parts, meanwhile."""
        if self._pid != os.getpid():  # forked, perhaps while a thread that is not here held it
            self._lock, self._pid = threading.RLock(), os.getpid()
        return self._lock

    def now(self) -> tuple[Index, Mapping[str, Column]]:
        """The index, and its columns with one entry per clip; of one moment."""
        if self._found is None:
            self.refresh()
        assert self._found is not None
        return self._found

    @property
    def index(self) -> Index:
        """The arrays behind it all."""
        return self.now()[0]

    @property
    def columns(self) -> Mapping[str, Column]:
        """By key, one entry per clip, sorted by clip."""
        return self.now()[1]

    def parts(self) -> tuple[Path, ...]:
        """Every sealed part and piece that is read, by name."""
        return tuple(sorted(self.path / "parts" / part.name for part in self.index.parts))

    def damaged(self) -> tuple[tuple[Path, str], ...]:
        """Files that were left out, and why; always empty in strict mode."""
        assert self.index is not None
        return tuple((self.path / "parts" / name, why) for name, (_, why) in sorted(self._broken.items()))

    # ---- clips and keys ------------------------------------------------------------------------------------------

    def keys(self) -> tuple[KeyInfo, ...]:
        """Every key that has rows, by name."""
        return tuple(self.columns[key].info for key in sorted(self.columns))

    def clips(self, key: str) -> tuple[str, ...]:
        """Sorted ids of the clips that have rows under `key`: a full key, or a backbone's name where that is unique."""
        return self.index.text(self.columns[self.resolve(key)].clip)

    def counts(self, key: str) -> NDArray[np.int64]:
        """(N,) int64, rows of each clip of :meth:`clips`."""
        column = self.columns[self.resolve(key)]
        return np.asarray(column.stop - column.start)

    def clip_ids(self) -> tuple[str, ...]:
        """Sorted ids of all clips that have rows."""
        there = np.zeros(len(self.index.ids), bool)
        for column in self.columns.values():
            there[column.clip] = True
        return self.index.text(np.flatnonzero(there))

    def have(self) -> Mapping[str, frozenset[str]]:
        """Keys with rows, by clip id."""
        bits = np.zeros(len(self.index.ids), np.int64)
        keys = list(self.columns)
        if len(keys) > 63:
            return self._have_many()
        for i, key in enumerate(keys):
            bits[self.columns[key].clip] |= 1 << i
        there = np.flatnonzero(bits)
        sets = {b: frozenset(key for i, key in enumerate(keys) if b >> i & 1) for b in np.unique(bits[there]).tolist()}
        return dict(zip(self.index.text(there), map(sets.__getitem__, bits[there].tolist()), strict=True))

    def _have_many(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for key, column in self.columns.items():
            for clip_id in self.index.text(column.clip):
                found.setdefault(clip_id, set()).add(key)
        return {clip_id: frozenset(keys) for clip_id, keys in sorted(found.items())}

    def resolve(self, name: str) -> str:
        """The full key of a backbone's name, or of itself.

        Raises
        ------
        UnknownName
            no key of that name
        StoreError
            several; the message lists them
        """
        keys = self.columns
        if name in keys:
            return name
        found = sorted(key for key in keys if key.split("@")[0] == name)
        if len(found) > 1:
            raise StoreError(f"{self.path} has {len(found)} features of {name}; say which: {', '.join(found)}")
        if not found:
            raise nearest(name, sorted({*keys, *(key.split("@")[0] for key in keys)}), f"feature of {self.path}")
        return found[0]

    def find(self, clip_id: str, key: str) -> int:
        """The number of a clip's entry in ``columns[key]``; -1 where it has no rows."""
        index, columns = self.now()
        column = columns.get(key)
        rank = index.rank(clip_id) if column is not None else -1
        if column is None or rank < 0:
            return -1
        at = int(np.searchsorted(column.clip, np.int32(rank)))  # another type would convert the whole column
        return at if at < len(column.clip) and column.clip[at] == rank else -1

    def find_all(self, clip_ids: Sequence[str], key: str) -> NDArray[np.int64]:
        """The numbers of the clips' entries in ``columns[key]``; -1 where one has no rows."""
        index, columns = self.now()
        clip, ranks = columns[key].clip, index.ranks(clip_ids)
        at = np.minimum(np.searchsorted(clip, ranks.astype(np.int32)), len(clip) - 1)
        return np.where((ranks >= 0) & (clip[at] == ranks), at, -1)

    def __contains__(self, item: tuple[str, str]) -> bool:
        """Whether there are rows: ``(clip_id, key) in store``, with a full key."""
        return self.find(*item) >= 0

    def __iter__(self) -> Iterator[str]:
        """The ids of all clips that have rows."""
        return iter(self.clip_ids())

    def __len__(self) -> int:
        """How many clips have rows."""
        return len(self.clip_ids())

    # ---- what is missing -----------------------------------------------------------------------------------------

    def failed(self) -> tuple[Remark, ...]:
        """Why there are no rows; sorted by clip and key. A failure that rows made up for later is not among them."""
        return self._remarks("failed")

    def masked(self) -> tuple[Remark, ...]:
        """Why a policy filled rows; sorted by clip and key."""
        return self._remarks("masked")

    def tally(self) -> dict[str, dict[str, int]]:
        """By key: how many clips have ``rows``, are ``masked``, ``failed``."""
        zero = {"rows": 0, "masked": 0, "failed": 0}
        found = {key: zero | {"rows": len(column.clip)} for key, column in self.columns.items()}
        for kind, (clip, key) in self._numbers(("clip", "key")):
            words = max(1, len(self.index.words))
            for number, clips in Counter((np.unique(clip * words + key) % words).tolist()).items():
                found.setdefault(self.index.words[number], dict(zero))[kind] = clips
        return dict(sorted(found.items()))

    def reasons(self, kind: Kind) -> dict[str, int]:
        """Clips by reason, the most frequent first; a clip counts once per reason."""
        table, which = getattr(self.index, kind), self._which(kind)
        return self._by_reason(table.clip[which], table.reason[which])

    def _by_reason(self, clip: NDArray[np.int32], reason: NDArray[np.int32]) -> dict[str, int]:
        pairs = np.unique(clip.astype(np.int64) * len(self.index.words) + reason)
        count = Counter((pairs % max(1, len(self.index.words))).tolist())
        named = {self.index.words[number]: clips for number, clips in count.items()}
        return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))

    def examples(self, kind: Kind, most: int) -> dict[str, tuple[str, ...]]:
        """The first ids by reason, at most so many each; reasons by name."""
        table, which = getattr(self.index, kind), self._which(kind)
        clip, reason = table.clip[which], table.reason[which]
        found = {self.index.words[n]: np.unique(clip[reason == n])[:most] for n in np.unique(reason).tolist()}
        return {name: self.index.text(ranks) for name, ranks in sorted(found.items())}

    def remarked(
        self, kind: Kind, clip_ids: Sequence[str], keys: Sequence[str]
    ) -> tuple[NDArray[np.bool_], dict[str, int]]:
        """(clips,) bool: a remark of that kind concerns one of the keys; and of these clips how many, by reason, most first."""
        table, which, ranks = getattr(self.index, kind), self._which(kind), self.index.ranks(clip_ids)
        wanted = np.zeros(len(self.index.ids) + 1, bool)  # the last one: ids that nobody mentions
        wanted[ranks] = True
        of_keys = np.array([word in keys for word in self.index.words], bool)
        which = which[wanted[table.clip[which]] & of_keys[table.key[which]]]
        clip, reason = table.clip[which], table.reason[which]
        there = np.zeros(len(wanted), bool)
        there[clip] = True
        return there[ranks], self._by_reason(clip, reason)

    def settled(self, clip_ids: Sequence[str], keys: Sequence[str]) -> NDArray[np.bool_]:
        """(clips, keys) bool: there are rows, or a remark says why there are none."""
        there = np.zeros((len(self.index.ids) + 1, len(keys)), bool)  # the last line: ids that nobody mentions
        place = {key: i for i, key in enumerate(keys)}
        for key in place.keys() & self.columns.keys():
            there[self.columns[key].clip, place[key]] = True
        for _, remarks in self._numbers(("clip", "key")):
            column = np.array([place.get(word, -1) for word in self.index.words], np.int64)[remarks[1]]
            there[remarks[0][column >= 0], column[column >= 0]] = True
        return np.asarray(there[self.index.ranks(clip_ids)])

    def _numbers(self, names: Sequence[str]) -> Iterator[tuple[Kind, NDArray[np.int64]]]:
        """Of each kind, the remarks that count, as numbers."""
        kinds: tuple[Kind, ...] = ("failed", "masked")
        for kind in kinds:
            which = self._which(kind)
            table = getattr(self.index, kind)
            yield kind, np.stack([getattr(table, name)[which].astype(np.int64) for name in names])

    def _which(self, kind: Kind) -> NDArray[np.int64]:
        index = self.index
        if kind not in self._standing:
            self._standing[kind] = standing(index, kind, self.columns)
        return self._standing[kind]

    def _remarks(self, kind: Kind) -> tuple[Remark, ...]:
        which = self._which(kind)
        table, words = getattr(self.index, kind).take(which), self.index.words
        clips = self.index.text(table.clip)
        columns = [[words[i] for i in getattr(table, name).tolist()] for name in ("key", "stage", "reason")]
        messages = [table.message(i) for i in range(len(clips))]
        return tuple(map(Remark, clips, *columns, messages))

    def absent(self, clip_id: str, key: str) -> ExtractError:
        """What to say of a clip that has no rows under a key."""
        rank, index = self.index.rank(clip_id), self.index
        which = self._which("failed")
        for i in which[index.failed.clip[which] == rank].tolist() if rank >= 0 else ():
            if index.words[index.failed.key[i]] == key:
                reason, stage = (index.words[numbers[i]] for numbers in (index.failed.reason, index.failed.stage))
                return StoreError(
                    f"clip {clip_id!r} has no rows of {key}: {reason} ({stage}): {index.failed.message(i)}"
                )
        others = sorted(other for other in self.columns if self.find(clip_id, other) >= 0)
        if others:
            return StoreError(f"clip {clip_id!r} has no rows of {key}, only of {', '.join(others)}")
        return nearest(clip_id, list(self.clip_ids()[:10_000]), f"clip of {self.path}")

    # ---- labels --------------------------------------------------------------------------------------------------

    @cached_property
    def manifest(self) -> dict[str, Clip]:
        """The clips of the last run's manifest, by id in its order; empty where the store has no copy of one."""
        from manifests.clip import read_manifest

        path = self.path / "manifest.csv"
        return {clip.clip_id: clip for clip in read_manifest(path)} if path.is_file() else {}

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """Labels with times, from the store's copy of the manifest's dense CSV; empty where it has none."""
        from manifests.dense import dense_path, read_dense

        path = dense_path(self.path / "manifest.csv")
        return read_dense(path) if path.is_file() else ()

    def labels(self, clip_id: str) -> tuple[str, ...]:
        """The labels of a clip.

        Raises
        ------
        UnknownName
            the manifest does not list it
        """
        if clip_id not in self.manifest:
            raise nearest(clip_id, list(self.manifest)[:10_000], f"clip of the manifest of {self.path}")
        return self.manifest[clip_id].labels

    def split_ids(self, split: str) -> tuple[str, ...]:
        """The ids of a split, in the manifest's order.

        Raises
        ------
        UnknownName
            no clip of the manifest is in it
        """
        found = tuple(clip_id for clip_id, clip in self.manifest.items() if clip.split == split)
        if not found:
            raise nearest(split, sorted({clip.split for clip in self.manifest.values()}), f"split of {self.path}")
        return found

    # ---- the whole -----------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """sha256 in hex of all content: rows, keys, remarks; not of how it is spread over parts, nor of provenance.

        It trusts the digests that the parts hold; :func:`extract.store.verify.verify` checks those.
        """
        total = hashlib.sha256()
        for key in sorted(self.columns):
            column = self.columns[key]
            info = column.info
            total.update(canonical_json([key, info.identity, info.view, info.weights, info.licence]).encode())
            digests = column.sha256.tobytes().hex()
            for i, clip_id in enumerate(self.index.text(column.clip)):
                total.update(canonical_json([clip_id, digests[64 * i : 64 * (i + 1)]]).encode())
        for name, remarks in (("failed", self.failed()), ("masked", self.masked())):
            for each in remarks:
                total.update(
                    canonical_json([name, each.clip_id, each.key, each.stage, each.reason, each.message]).encode()
                )
        return total.hexdigest()

    def size_bytes(self) -> int:
        """Of all parts."""
        return sum(part.size_bytes for part in self.index.parts)

    def __getstate__(self) -> dict[str, Any]:
        """Another process looks at the parts by itself."""
        return {"path": self.path, "strict": self.strict}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["path"], strict=state["strict"])  # type: ignore[misc]


def __getattr__(name: str) -> Any:
    if name == "Store":
        from extract.store.store import Store

        return Store
    raise AttributeError(name)
