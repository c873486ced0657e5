"""Splitting: every clip in exactly one new store, the source untouched, and merged again the same content."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import PlanError, StoreBusy, StoreError, UnknownName
from extract.store import Store
from extract.store.operations.pack import pack
from extract.store.operations.split import by_ids, by_shards, by_split, split
from extract.store.operations.union import merge_stores, plan_merge
from extract.store.runs import Lock
from extract.store.verify import verify
from manifests.clip import Clip, write_manifest


def content_of(many, path):
    store = Store(path)
    return many.rows_of(store), set(store.failed()), set(store.masked())


def portions(store, way):
    if way == "split":
        return by_split(store)
    return by_shards(store, 3) if way == "shards" else by_ids(store, list(store.manifest)[3:9], "mine")


@pytest.mark.parametrize("way", ["split", "shards", "ids"])
def test_together_they_are_the_source(many, tmp_path, way):
    path = many.make(tmp_path / "s")
    many.seal_chunk(path / "parts", "d" * 16, many.ids(24)[2:7])  # again
    many.seal_chunk(path / "parts", "f" * 16, ["800_clip", "804_clip", "801_clip"])  # not in the manifest
    before = many.tree(path, ())
    made = split(Store(path), portions(Store(path), way), tmp_path / "out")
    assert many.tree(path, ()) == before
    seen = [
        clip
        for portion in made
        for clip in {*Store(portion.store), *(r.clip_id for r in Store(portion.store).failed())}
    ]
    assert len(seen) == len(set(seen)) == 27
    listed = [clip for portion in made for clip in Store(portion.store).manifest]
    assert sorted(listed) == sorted(Store(path).manifest)
    assert sum(portion.clips for portion in made) == 27
    for portion in made:
        assert verify(portion.store) == []
        kept = Store(portion.store).manifest
        assert {event.clip_id for event in Store(portion.store).events} == set(kept)
    merged = merge_stores(plan_merge([portion.store for portion in made]), tmp_path / "again")
    assert Store(tmp_path / "again").digest() == Store(path).digest()
    assert content_of(many, tmp_path / "again") == content_of(many, path)
    assert dict(Store(tmp_path / "again").manifest) == dict(Store(path).manifest)
    assert sorted(map(str, Store(tmp_path / "again").events)) == sorted(map(str, Store(path).events))
    assert merged.listed_differently == ()


def test_by_split(many, tmp_path):
    path = many.make(tmp_path / "s")
    made = split(Store(path), by_split(Store(path)), tmp_path / "out")
    assert {portion.store.name for portion in made} == {"train", "val", "test", "unsplit"}
    for name in ("train", "val", "test"):
        new = Store(tmp_path / "out" / name)
        assert list(new.manifest) == list(Store(path).split_ids(name))
        assert set(new) <= set(new.manifest)


def test_shards_are_stretches_of_the_manifest(many, tmp_path):
    path = many.make(tmp_path / "s")
    found = by_shards(Store(path), 5)
    assert list(found) == [f"shard-{i}" for i in range(5)]
    assert [clip for clips in found.values() for clip in clips] == list(Store(path).manifest)
    assert {len(clips) for clips in found.values()} == {4, 5}
    assert next(iter(by_shards(Store(path), 11))) == "shard-00"


def test_given_again_it_does_nothing(many, tmp_path):
    path = many.make(tmp_path / "s")
    for _ in range(2):
        split(Store(path), by_shards(Store(path), 2), tmp_path / "out")
        if _ == 0:
            before = many.tree(tmp_path / "out", ())
    assert many.tree(tmp_path / "out", ()) == before


def test_a_store_without_manifest(many, tmp_path):
    path = many.make(tmp_path / "s")
    (path / "manifest.csv").unlink()
    with pytest.raises(StoreError, match=r"no manifest\.csv that says which split"):
        by_split(Store(path))
    made = split(Store(path), by_shards(Store(path), 2), tmp_path / "out")
    assert all(not Store(portion.store).manifest for portion in made)
    assert sum(len(Store(portion.store)) for portion in made) == len(Store(path))


def test_what_it_refuses(many, tmp_path):
    path = many.make(tmp_path / "s")
    store = Store(path)
    with pytest.raises(PlanError, match="has 24 clips; ask for 1 to 24 shards"):
        by_shards(store, 25)
    with pytest.raises(UnknownName, match="000_clop"):
        by_ids(store, ["000_clop"], "mine")
    with pytest.raises(StoreError, match="'rest' is where"):
        by_ids(store, ["000_clip"], "rest")
    for name in ("../out", "a/b", ".hidden", "-flag", "", "x" * 101):
        with pytest.raises(StoreError, match="cannot be the folder of a store"):
            split(store, {name: ["000_clip"]}, tmp_path / "out")
    (tmp_path / "out" / "shard-1").mkdir(parents=True)
    (tmp_path / "out" / "shard-1" / "mine").write_text("mine")
    with pytest.raises(StoreError, match="holds something else"):
        split(store, by_shards(store, 2), tmp_path / "out")
    assert not (tmp_path / "out" / "shard-0").exists(), "nothing is written before all folders are known to be free"
    with Lock(path), pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
        split(store, by_shards(store, 2), tmp_path / "other")
    write_manifest(path / "manifest.csv", [Clip("000_clip", "a.mp4", split="unsplit"), Clip("001_clip", "b.mp4")])
    with pytest.raises(StoreError, match="'unsplit' is where"):
        by_split(Store(path))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_partition_merges_to_the_source(many, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("p")
    path = many.make(folder / "s", count=12)
    if data.draw(st.booleans()):
        pack(path)
    where = data.draw(st.lists(st.sampled_from("abc"), min_size=12, max_size=12))
    named = {name: [clip for clip, at in zip(many.ids(12), where, strict=True) if at == name] for name in set(where)}
    if len(named) < 2:
        return
    made = split(Store(path), dict(sorted(named.items())), folder / "out")
    order = data.draw(st.permutations([portion.store for portion in made]))
    merge_stores(plan_merge(order), folder / "again")
    assert Store(folder / "again").digest() == Store(path).digest()
