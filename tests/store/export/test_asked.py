"""What the layouts have in common."""

from __future__ import annotations

import pytest

from extract.errors import PlanError
from extract.store.export.asked import infos, look_up, needed_bytes, shards, with_rows


def test_needed_bytes_are_those_of_the_rows_asked_for(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    there, missing = look_up(store, (shelf.STILL.key, shelf.HALF.key), ("plain", "failed", "mute"))
    assert there == {shelf.STILL.key: ["plain", "mute"], shelf.HALF.key: ["plain", "mute"]}
    assert [(each.clip_id, each.key) for each in missing] == [("failed", shelf.STILL.key), ("failed", shelf.HALF.key)]
    assert needed_bytes(store, there, None) == 17 * 6 * 4 + 3 * 5 * 2
    assert needed_bytes(store, there, "float16") == 17 * 6 * 2 + 3 * 5 * 2
    with pytest.raises(PlanError, match="float32 or float16, not 'float64'"):
        needed_bytes(store, there, "float64")


def test_who_has_rows_keeps_its_order(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    assert with_rows(store, shelf.keys(store), ("plain", "failed", "a.b c")) == ["plain", "a.b c"]
    assert list(infos(store, (shelf.STILL.key, shelf.HALF.key))) == [shelf.STILL.key, shelf.HALF.key]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_shards_are_full_but_for_the_last(count, sizes):
    ids = [str(n) for n in range(count)]
    cut = list(shards(ids, 3))
    assert [len(clips) for _, clips in cut] == sizes
    assert [number for number, _ in cut] == list(range(len(sizes)))
    assert [clip_id for _, clips in cut for clip_id in clips] == ids
