"""A batch on its way to the training process: without a copy, whether a worker made it or the process itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from extract.store.training.shared import Lease, receive, send

# A tensor of its own costs the receiver a file descriptor, as much as copying so many bytes.
_INLINE_BYTES, _INLINE_TYPES = 2**18, (torch.float32, torch.float16, torch.bool, torch.int64)


class _Place(NamedTuple):
    """A tensor in the memory of a batch."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class _Small(NamedTuple):
    """A tensor by value."""

    array: NDArray[Any]


class Batch(dict[str, Any]):
    """A batch; a dict that knows the memory its features lie in."""

    lease: Lease | None = None


class Fetched(Sequence[dict[str, Any]]):
    """The items of a batch that is there already."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        """How many items."""
        return len(self.batch["clip_id"])

    def __getitem__(self, index: Any) -> Any:
        """One item; a view into the batch."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return item_of(self.batch, index)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All of them."""
        return (self[i] for i in range(len(self)))


def item_of(batch: dict[str, Any], i: int) -> dict[str, Any]:
    return {name: item_of(value, i) if isinstance(value, dict) else value[i] for name, value in batch.items()}


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For the DataLoader: a batch that was fetched as one, as it is; single items (of a ConcatDataset) are padded with zeros."""
    if isinstance(items, Fetched):
        return items.batch
    return Batch({name: _joined([item[name] for item in items]) for name in items[0]})


def _joined(values: Sequence[Any]) -> Any:
    if isinstance(values[0], dict):
        return {name: _joined([value[name] for value in values]) for name in values[0]}
    if isinstance(values[0], torch.Tensor):
        if values[0].ndim == 0:
            return torch.stack(list(values))
        return torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True)
    return list(values)


def _send(batch: Batch) -> tuple[Any, tuple[Any, ...]]:
    """How a worker hands a batch over: features by reference to its memory, small tensors by value."""
    lease = batch.lease
    if lease is None or lease.block.shared is None:
        return dict, (dict(batch),)
    return _receive, (send(lease), _packed(batch, lease))


def _packed(value: Any, lease: Lease) -> Any:
    if isinstance(value, dict):
        return {name: _packed(each, lease) for name, each in value.items()}
    if not isinstance(value, torch.Tensor) or not value.is_contiguous():
        return value
    offset = value.data_ptr() - lease.address
    if value.nbytes and 0 <= offset <= lease.size_bytes - value.nbytes:
        return _Place(offset, tuple(value.shape), value.dtype)
    return _Small(value.numpy()) if value.nbytes <= _INLINE_BYTES and value.dtype in _INLINE_TYPES else value


def _receive(handle: tuple[Any, ...], values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _unpacked(values, np.asarray(receive(*handle)))
    return found


def _unpacked(value: Any, array: NDArray[np.uint8]) -> Any:
    if isinstance(value, dict):
        return {name: _unpacked(each, array) for name, each in value.items()}
    if isinstance(value, _Place):
        size = math.prod(value.shape) * value.dtype.itemsize
        return torch.from_numpy(array[value.offset : value.offset + size]).view(value.dtype).view(value.shape)
    return torch.from_numpy(value.array) if isinstance(value, _Small) else value


ForkingPickler.register(Batch, _send)
