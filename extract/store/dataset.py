"""Features as a torch Dataset: the rows of several backbones side by side, second by second, with labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from extract.errors import DeviceUnavailable, StoreError
from extract.store.export.report import Missing
from extract.store.store import Store
from extract.store.training.aligned import AlignedRows, Pool
from extract.store.training.classes import class_order, labels_of, targets_of
from extract.store.training.collate import Batch, Fetched, collate, item_of
from extract.store.training.row_cache import Cached
from extract.store.training.sampling import ShardSampler
from extract.store.training.shared import CAN_SHARE, Blocks, Lease

__all__ = ["FeatureDataset", "ShardSampler", "collate"]
Dtype = Literal["float32", "float16"]


class FeatureDataset(Dataset[dict[str, Any]]):
    r"""The clips of a store that have rows of all of some keys.

    An item is a dict; a batch is the same with a first dimension B, and lists of B strings:

    ``clip_id``, ``split``
        str
    one entry per key, under the name given
        (T, k, \*dims) of type `dtype`: k rows per second for T seconds, or (T, \*dims) where k is 1
    ``valid``
        dict of bool tensors by key, (T, k) or (T,): False for rows that a policy filled, that the clip is too short for, or
        that a second does not have
    ``labels``
        (C,) float32, multi-hot over `classes`; where the store has a manifest with labels
    ``targets``
        dict of (T, C) float32 by modality (``audio``, ``visual``, ``both``): what happens in each second; where the store has
        events. What the events say beyond T is left out
    ``annotated``
        bool, whether the clip has events at all; of one that has none, the zeros in ``targets`` mean nothing

    A row belongs to the second that holds the centre of its window. k is the most rows that any second of any clip of the store
    has (8 for 8 per second; 2 for a hop of 0.96 s once clips last 13 s): a second with fewer has zeros, not valid, behind them.
    T is that of the key that lasts longest, and in a batch that of the longest clip.

    In a DataLoader, use ``collate_fn=collate``: a batch is read in one go into memory that is handed to the training process
    without a copy. That memory is used again once no tensor of the batch is in use: clone a small tensor of features that
    is to be kept longer than its batch. Labels, masks and targets have memory of their own.

    Parameters
    ----------
    store
        or its path
    keys
        features, by full key or by backbone where that is unique
    split
        of the store's manifest; None: all of it, or all clips with rows in a store without manifest
    ids
        these clips instead, in this order
    per_second
        False: rows as they are stored, (R, \*dims) and (R,), zeros behind the last
    pool
        ``"mean"``: one row per second, the mean of its valid rows; zeros, not valid, where it has none
    dtype
        ``"float32"`` or ``"float16"``, whatever is stored
    labels
        the classes and their order; None: see :func:`extract.store.training.classes.class_order`; empty: neither labels nor
        targets
    cache_bytes
        of memory for rows, taken at once and shared with workers; the clips that come first on disk stay in it once read
    pin
        page-lock the cache and the batches that this process makes itself, for asynchronous copies to the GPU
    strict
        True: a clip that lacks a key is an error; False: it is left out, see `missing`

    Raises
    ------
    UnknownName
        the store knows no such key, split or clip
    StoreError
        no clip is left, or what was asked for does not go together
    DeviceUnavailable
        `pin` without CUDA

    Examples
    --------
    >>> data = FeatureDataset("features/llp", ["vggish", "resnet152", "r2plus1d_18"], split="train")  # doctest: +SKIP
    >>> loader = DataLoader(data, 16, sampler=ShardSampler(data), collate_fn=collate, num_workers=2)  # doctest: +SKIP
    """

    def __init__(
        self,
        store: Store | str | Path,
        keys: Sequence[str],
        split: str | None = None,
        ids: Sequence[str] | None = None,
        *,
        per_second: bool = True,
        pool: Pool = None,
        dtype: Dtype = "float32",
        labels: Sequence[str] | None = None,
        cache_bytes: int = 0,
        pin: bool = False,
        strict: bool = False,
    ) -> None:
        _check(keys, split, ids, per_second=per_second, pool=pool, dtype=dtype)
        if pin and not torch.cuda.is_available():
            raise DeviceUnavailable("pin=True needs CUDA, and there is none on this machine")
        self.store = store if isinstance(store, Store) else Store(store)
        manifest = self.store.manifest
        if ids is not None:
            unknown = np.flatnonzero(self.store.index.ranks(ids) < 0).tolist()
            unlisted = [ids[i] for i in unknown if ids[i] not in manifest]
            if unlisted:
                raise self.store.absent(unlisted[0], self.store.resolve(keys[0]))
        elif split is not None:
            ids = self.store.split_ids(split)
        else:
            ids = tuple(manifest) or self.store.clip_ids()
        self.rows = AlignedRows(
            self.store, keys, ids, per_second=per_second, pool=pool, dtype=dtype, cache_bytes=cache_bytes
        )
        if strict and self.missing:
            raise StoreError(
                f"{len(self.missing)} rows are missing; the first: {self.missing[0].clip_id!r} lacks "
                f"{self.missing[0].key}: {self.missing[0].why}"
            )
        kept = [raw.decode() for raw in self.rows.ids.tolist()]
        names = {"": 0}
        splits = (manifest[clip_id].split if clip_id in manifest else "" for clip_id in kept)
        self._split = np.fromiter((names.setdefault(name, len(names)) for name in splits), np.int32, len(kept))
        self._splits = tuple(names)
        self.classes = tuple(labels) if labels is not None else class_order(manifest.values())
        self._labels = labels_of(kept, manifest, self.classes) if self.classes else None
        events = self.store.events if self.classes and per_second else ()
        self._targets = targets_of(kept, events, self.classes) if events else None
        self._dtype = torch.float32 if dtype == "float32" else torch.float16
        self._pin = pin
        self._blocks: tuple[int, Blocks] | None = None
        if pin and self.rows.cache is not None:
            memory = torch.from_numpy(self.rows.cache.memory.array)
            cudart: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            cudart.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)

    @cached_property
    def missing(self) -> tuple[Missing, ...]:
        """Clips that were left out, with each key they lack, and why."""
        return self.rows.missing()

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """The id of each item."""
        return tuple(raw.decode() for raw in self.rows.ids.tolist())

    @property
    def part(self) -> NDArray[np.int32]:
        """(N,) number of the part that holds the largest key of each item."""
        return self.rows.part

    @property
    def first_row(self) -> NDArray[np.int64]:
        """(N,) first of its rows there."""
        return self.rows.first_row

    @property
    def cached(self) -> Cached | None:
        """How much the cache holds; None without one."""
        return self.rows.cache.holds() if self.rows.cache is not None else None

    def read_ahead(self, clips: NDArray[np.int64]) -> Event:
        """Have the system bring the rows of some clips into memory meanwhile; :class:`ShardSampler` asks for it."""
        return self.rows.read_ahead(clips)

    def preload(self) -> Cached | None:
        """Read into the cache what has room in it, along the disk."""
        if self.rows.cache is not None:
            first = np.argsort(self.rows.cache.slot, kind="stable")[-self.rows.cache.fit :]
            for start in range(0, len(first), 16):
                self.fetch(first[start : start + 16].tolist())
        return self.cached

    def __len__(self) -> int:
        """How many clips have all keys."""
        return len(self.rows.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One clip."""
        return item_of(self.fetch([index]), 0)

    def __getitems__(self, indices: Sequence[int]) -> Fetched:
        """Many clips at once, for the DataLoader; as a sequence of items, or as a batch with :func:`collate`."""
        return Fetched(self.fetch(indices))

    def fetch(self, indices: Sequence[int]) -> Batch:
        """Many clips as one batch, in the order of `indices`."""
        at = np.array(indices, np.int64)
        wrong = (at < -len(self)) | (at >= len(self))
        if wrong.any() or not len(at):
            raise IndexError(f"index {at[wrong].tolist()[:1]} of a dataset of {len(self)} clips")
        at %= len(self)
        shapes = self.rows.shapes(at)
        lease, data = self._tensors(shapes)
        valid = self.rows.read(at, [tensor.numpy() for tensor in data])
        batch = Batch(clip_id=[raw.decode() for raw in self.rows.ids[at].tolist()])
        batch.lease = lease
        batch.update(zip(self.rows.names, data, strict=True))
        batch["valid"] = {name: torch.from_numpy(mask) for name, mask in zip(self.rows.names, valid, strict=True)}
        if self._labels is not None:
            batch["labels"] = torch.from_numpy(self._labels.multi_hot(at))
        if self._targets is not None:
            dense = self._targets.dense(at, self.rows.span(at))
            batch["targets"] = {modality: torch.from_numpy(array) for modality, array in dense.items()}
            batch["annotated"] = torch.from_numpy(self._targets.annotated(at))
        batch["split"] = [self._splits[i] for i in self._split[at].tolist()]
        return batch

    def _tensors(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Lease | None, list[torch.Tensor]]:
        """Memory for a batch, each key's at a multiple of 64 bytes."""
        sizes = [int(np.prod(shape)) * self._dtype.itemsize for shape in shapes]
        stops = np.cumsum([size + -size % 64 for size in sizes]).tolist()
        if self._pin and get_worker_info() is None:
            lease, whole = None, torch.empty(stops[-1], dtype=torch.uint8, pin_memory=True)
            parts = [whole[stop - size - -size % 64 :][:size] for stop, size in zip(stops, sizes, strict=True)]
        else:
            lease = self._own_blocks().lease(stops[-1])
            array = np.asarray(lease)
            parts = [
                torch.from_numpy(array[stop - size - -size % 64 :][:size])
                for stop, size in zip(stops, sizes, strict=True)
            ]
        return lease, [part.view(self._dtype).view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _own_blocks(self) -> Blocks:
        if self._blocks is None or self._blocks[0] != os.getpid():
            self._blocks = os.getpid(), Blocks(share=CAN_SHARE and get_worker_info() is not None)
        return self._blocks[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without the memory that each process has for itself."""
        return {**self.__dict__, "_blocks": None}


def _check(
    keys: Sequence[str], split: str | None, ids: Sequence[str] | None, *, per_second: bool, pool: Any, dtype: Any
) -> None:
    if isinstance(keys, str):
        raise StoreError(f"keys must be a list of names, got the text {keys!r}")
    if split is not None and ids is not None:
        raise StoreError("give split or ids, not both")
    if pool not in (None, "mean") or (pool and not per_second):
        raise StoreError(f"pool must be None, or 'mean' with per_second=True; got {pool!r}, per_second={per_second}")
    if dtype not in ("float32", "float16"):
        raise StoreError(f"dtype must be 'float32' or 'float16', got {dtype!r}")
