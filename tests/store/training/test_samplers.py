"""ShardSampler: every clip once, shards together, well mixed, the same again with one seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import StoreError
from extract.store.training.sampling import ShardSampler


@dataclass
class Clips:
    part: np.ndarray
    first_row: np.ndarray
    ahead: list = field(default_factory=list)

    def read_ahead(self, clips):
        self.ahead += clips.tolist()
        done = Event()
        done.set()
        return done


def clips(sizes, seed=0):
    """Parts of so many clips, in an order that is not the disk's."""
    part = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    row = np.concatenate([np.arange(size) * 10 for size in sizes] or [np.empty(0, np.int64)])
    mixed = np.random.default_rng(seed).permutation(len(part))
    return Clips(part[mixed], row[mixed])


def on_disk(data):
    place = np.empty(len(data.part), np.int64)
    place[np.lexsort((data.first_row, data.part))] = np.arange(len(data.part))
    return place


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.integers(1, 50), st.integers(1, 100), st.integers(1, 5), st.booleans(), st.integers(0, 3))
def test_every_clip_once_and_ranks_equal(sizes, shard, window, world, drop, epoch):
    data = clips(sizes)
    count = sum(sizes)
    ranks = []
    for rank in range(world):
        options = {"shard_clips": shard, "window_clips": window, "seed": 3, "rank": rank, "world_size": world}
        sampler = ShardSampler(data, **options, drop_uneven=drop)
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
        assert len(ranks[-1]) == len(sampler)
        again = ShardSampler(data, **options, drop_uneven=drop)
        again.set_epoch(epoch)
        assert list(again) == ranks[-1]
    assert len({len(rank) for rank in ranks}) == 1
    visits = np.bincount(np.concatenate(ranks).astype(int), minlength=count)
    assert len(visits) == count
    if drop:
        assert visits.max(initial=0) <= 1
        assert count - visits.sum() < world
    else:
        assert visits.min() >= 1
        assert visits.max() == -(-int(visits.sum()) // count)  # no clip bears all the repeats
        assert visits.sum() - count < world
    if world == 1:
        assert sorted(ranks[0]) == list(range(count))


@pytest.mark.parametrize("sizes", [[64] * 32, [2048], [1] * 2048, [1000, 40, 8, 1000]])
def test_mixed_and_yet_along_the_disk(sizes):
    data = clips(sizes)
    place = on_disk(data)
    sampler = ShardSampler(data, shard_clips=64, window_clips=512)
    order = place[list(sampler)]
    windows = list(sampler._windows(len(order)))
    assert [first for first, _ in windows] == [0, *(last for _, last in windows[:-1])]
    assert windows[-1][1] == len(order)
    lengths = [last - first for first, last in windows]
    assert max(lengths) == 512, "in the middle of an epoch"
    assert lengths[0] == 128
    assert lengths[-1] <= 256
    for first, last in windows:
        window = order[first:last]
        # few stretches of the disk at once: at most the window's shards, and one cut at either end
        stretches = 1 + int((np.diff(np.sort(window)) > 1).sum())
        assert stretches <= (512 if sizes[0] == 1 else len(window) // 64 + 6)
        correlation = np.corrcoef(np.argsort(np.argsort(window)), np.arange(len(window)))[0, 1]
        assert abs(correlation) < (0.2 if len(window) >= 512 else 0.4)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.6  # 32 shards are few to be uncorrelated


def test_neighbours_on_disk_rarely_meet():
    data = clips([64] * 100)
    order = on_disk(data)[list(ShardSampler(data))]
    assert (np.abs(np.diff(order)) == 1).mean() < 0.01


def test_epochs_differ_and_follow_each_other():
    data = clips([20] * 10)
    sampler = ShardSampler(data, seed=5)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(sampler) == second
    assert list(ShardSampler(data, seed=6)) != first


def test_how_a_store_is_packed_makes_no_difference_to_the_shards():
    def shards(data):
        place = on_disk(data)
        order = place[list(ShardSampler(data, shard_clips=32, window_clips=32))]
        return sorted(tuple(sorted(order[i : i + 32])) for i in range(0, len(order), 32))

    assert shards(clips([32] * 8)) == shards(clips([256]))


def test_ranks_have_shards_of_their_own():
    data = clips([64] * 16)
    place = on_disk(data) // 64
    parts = [set(place[list(ShardSampler(data, rank=rank, world_size=4))]) for rank in range(4)]
    assert [len(each) for each in parts] == [4] * 4
    assert len(set.union(*parts)) == 16


def test_each_window_is_read_ahead_while_the_one_before_is_used():
    data = clips([64] * 10)
    sampler = ShardSampler(data, shard_clips=64, window_clips=128)
    seen = []
    for clip in sampler:
        seen.append(clip)
        assert clip in data.ahead
        assert len(data.ahead) <= len(seen) // 64 * 64 + 128 + 64
    assert data.ahead != seen
    assert sorted(data.ahead) == sorted(seen)
    place = on_disk(data)
    for start in range(0, 640, 64):
        assert (np.diff(place[data.ahead[start : start + 64]]) == 1).all()


def test_bad_numbers():
    for words in ({"shard_clips": 0}, {"window_clips": 0}, {"rank": 2, "world_size": 2}, {"rank": -1}, {"seed": -1}):
        with pytest.raises(StoreError, match="must be"):
            ShardSampler(clips([3]), **words)
