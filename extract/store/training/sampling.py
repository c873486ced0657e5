"""In which order an epoch visits the clips: shuffled, and yet along the disk."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.errors import StoreError


class OnDisk(Protocol):
    """What a sampler must know of N clips."""

    @property
    def part(self) -> NDArray[Any]:
        """(N,) number of the part that each one's rows lie in."""

    @property
    def first_row(self) -> NDArray[Any]:
        """(N,) first of its rows there."""

    def read_ahead(self, clips: NDArray[np.int64]) -> Event:
        """Have the rows of some clips brought into memory meanwhile; set when they are."""


class ShardSampler:
    """Every clip once per epoch: shards in random order, and the clips of each window of several shards shuffled.

    A shard is a run of clips that follow each other in one part, so it makes no difference whether a store is packed. The
    rows of a window are fetched from disk shard by shard while the window before is used: the disk sees one long read after
    the other. Use it as the ``sampler`` of a DataLoader: batches are then of one window. Each iteration is the next epoch.
    The order depends on the seed, the epoch and where the clips lie on disk.

    Parameters
    ----------
    dataset
        a FeatureDataset, or whatever tells where its clips lie
    shard_clips
        at most so many clips per shard
    window_clips
        clips that are mixed; the more, the better the shuffle, and the more memory the system needs for file pages: two
        windows of rows. The first windows of an epoch are smaller, two shards and then twice the last, so that it begins
        before a whole window is read, and so are the last ones, because nothing is left to be read beside them
    seed
        of all epochs
    rank, world_size
        of distributed training: each rank gets shards of its own, and all get equally many clips
    drop_uneven
        what to do with the up to ``world_size - 1`` clips that cannot be dealt out evenly: False: other clips are visited
        twice, so that every clip is visited; True: they are left out of this epoch
    """

    def __init__(
        self,
        dataset: OnDisk,
        *,
        shard_clips: int = 64,
        window_clips: int = 512,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_uneven: bool = False,
    ) -> None:
        for name, value in (("shard_clips", shard_clips), ("window_clips", window_clips), ("world_size", world_size)):
            if value < 1:
                raise StoreError(f"{name} must be at least 1, got {value}")
        if not 0 <= rank < world_size:
            raise StoreError(f"rank must be from 0 to world_size - 1 = {world_size - 1}, got {rank}")
        if seed < 0:
            raise StoreError(f"seed must be at least 0, got {seed}")
        self._order = np.lexsort((dataset.first_row, dataset.part))
        part = np.asarray(dataset.part)[self._order]
        new = np.append(True, part[1:] != part[:-1])
        place = np.arange(len(part)) - np.maximum.accumulate(np.where(new, np.arange(len(part)), 0))
        starts = np.flatnonzero(new | (place % shard_clips == 0))
        self._starts, self._lengths = starts, np.diff(np.append(starts, len(part)))
        self._data, self._shard = dataset, shard_clips
        self._window, self._seed, self._rank, self._world, self._drop = (
            window_clips,
            seed,
            rank,
            world_size,
            drop_uneven,
        )
        self.epoch = 0

    def __len__(self) -> int:
        """Clips that this rank visits per epoch."""
        clips = len(self._order)
        return clips // self._world if self._drop else -(-clips // self._world)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is, from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Numbers of clips."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        shards = np.random.default_rng([self._seed, epoch]).permutation(len(self._starts))
        lengths = self._lengths[shards]
        first = np.cumsum(lengths) - lengths
        places = np.arange(len(self._order)) + np.repeat(self._starts[shards] - first, lengths)
        share = len(self)
        mine = self._order[places[np.arange(self._rank * share, (self._rank + 1) * share) % len(places)]]
        rng = np.random.default_rng([self._seed, epoch, self._rank])
        there: dict[int, Event] = {}  # by the number of clips asked for until then
        asked = 0
        for start, stop in self._windows(share):
            for i, clip in enumerate(rng.permutation(mine[start:stop]).tolist(), start):
                if i % self._shard == 0 or i == start:
                    until = min(share, max(stop, i + self._window))
                    while asked < until:
                        some = mine[asked : min(asked + self._shard, until)]
                        asked += len(some)
                        there[asked] = self._data.read_ahead(some)
                if i == start:  # reads of single clips would only get in the way of the one long read
                    there[min(number for number in there if number >= stop)].wait()
                yield clip

    def _windows(self, share: int) -> Iterator[tuple[int, int]]:
        least = min(2 * self._shard, self._window)
        start, size = 0, least
        while start < share:
            size = max(least, min(size, (share - start) // 2))
            yield start, min(share, start + size)
            start, size = start + size, min(2 * size, self._window)
