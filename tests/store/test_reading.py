"""Rows by clip, by time, in batches, as one array; which files stay open; all of it against plain arrays."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import DamagedPart, StoreError, UnknownName
from extract.plan import canonical_json
from extract.store import Store, access
from extract.store.catalog import create_store, save_index
from extract.store.part import seal_piece
from extract.store.rows import Rows

PARTS = 5
VARIANTS = list(itertools.product(("float32", "float16"), ("none", "gzip:1")))


def make_store(content, folder, storage="float32", compression="none", counts=(1, 2, 3, 4)):
    """Five parts of four clips with two keys; the rows by (clip, key)."""
    create_store(folder)
    keys = [content.info("still", (6,)), content.info("joint", (2, 4))]
    if storage == "float16":
        keys = [content.info(key.key.split("@")[0], key.dims, storage="float16") for key in keys]
        keys = [dataclasses.replace(key, storage="float16") for key in keys]
    everything = {}
    for number in range(PARTS):
        ids = [f"clip{number}{letter}" for letter in "dbca"]
        rows = []
        for clip_id, key in itertools.product(ids, keys):
            made = content.make_rows(clip_id, key, counts[ids.index(clip_id)])
            rows.append(dataclasses.replace(made, data=np.round(made.data).astype(storage)))
        everything |= {(each.clip_id, each.key): each for each in rows}
        seal_piece(folder / "parts", f"{number:016x}", ids, keys, rows, [], [], {}, compression)
    return Store(folder), everything


@pytest.fixture(params=VARIANTS, ids=["-".join(each) for each in VARIANTS])
def made(request, content, tmp_path):
    return make_store(content, tmp_path / "store", *request.param)


def equal(found: Rows, rows: Rows) -> bool:
    fields = ("data", "window_ns", "valid", "source_ns")
    same = (np.array_equal(getattr(found, name), getattr(rows, name)) for name in fields)
    return all(same) and found.data.dtype == rows.data.dtype


def test_every_row_in_every_storage(made):
    store, rows = made
    for name, each in rows.items():
        assert equal(store.rows(*name), each)
        assert np.array_equal(store[name], each.data)
        assert np.array_equal(store.valid(*name), each.valid.astype(bool))
        assert store.valid(*name).dtype == bool


def test_the_bytes_on_disk_are_those_of_the_storage(content, tmp_path):
    sizes = {
        variant: sum(p.stat().st_size for p in make_store(content, tmp_path / "-".join(variant), *variant)[0].parts())
        for variant in VARIANTS
    }
    values = sum(each.data.size for each in make_store(content, tmp_path / "more")[1].values())
    saved = sizes["float32", "none"] - sizes["float16", "none"]
    assert 2 * values <= saved <= 2 * values + 512 * PARTS  # HDF5 gives room in blocks
    store, _ = make_store(content, tmp_path / "zip", compression="gzip:1", counts=(200, 200, 200, 200))
    plain, _ = make_store(content, tmp_path / "plain", counts=(200, 200, 200, 200))
    assert store.size_bytes() < plain.size_bytes()
    assert store.digest() == plain.digest()


@settings(max_examples=60, deadline=None)
@given(start=st.floats(-1, 6), length=st.floats(0, 6), cut=st.floats(0, 1))
def test_windows_that_follow_each_other_share_no_row_and_lose_none(windowed, start, length, cut):
    store, name, rows = windowed
    middle, stop = start + cut * length, start + length
    middle = min(max(middle, start), stop)
    whole = store.rows(*name, window=(start, stop))
    parts = [store.rows(*name, window=window) for window in ((start, middle), (middle, stop))]
    assert np.array_equal(np.concatenate([each.data for each in parts]), whole.data)
    assert np.array_equal(np.concatenate([each.source_ns for each in parts]), whole.source_ns)
    begins = rows.window_ns[:, 0] / 1e9
    kept = (begins >= round(start * 1e9) / 1e9) & (begins < round(stop * 1e9) / 1e9)
    assert np.array_equal(whole.data, rows.data[kept])
    assert np.array_equal(store.read(*name, window=(start, stop)), whole.data)


@pytest.fixture(scope="module")
def windowed(content, tmp_path_factory):
    store, rows = make_store(content, tmp_path_factory.mktemp("windowed") / "store")
    name = max(rows, key=lambda name: len(rows[name].data))
    return store, name, rows[name]


def test_a_window_that_is_none_is_refused(made):
    store, rows = made
    for window in ((3.0, 2.0), (float("nan"), 1.0)):
        with pytest.raises(StoreError, match="start <= stop"):
            store.read(*next(iter(rows)), window=window)


def test_locations_lead_to_the_bytes(content, tmp_path):
    store, rows = make_store(content, tmp_path / "store")
    for name, each in rows.items():
        found = store.location(*name)
        raw = found.part.read_bytes()[found.offset_bytes : found.offset_bytes + each.data.nbytes]
        assert np.array_equal(np.frombuffer(raw, "<f4").reshape(each.data.shape), each.data)
        assert found.rows == len(each.data)
    zipped, _ = make_store(content, tmp_path / "zip", compression="gzip:1")
    assert zipped.location(*name).offset_bytes is None


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_dense_arrays_hold_each_clip_in_the_order_asked_for(kinds, data):
    store, rows = data.draw(st.sampled_from(kinds))
    key = data.draw(st.sampled_from(sorted({key for _, key in rows})))
    ids = data.draw(st.lists(st.sampled_from(sorted({clip for clip, _ in rows})), max_size=12))
    dense, valid = store.to_dense(ids, key.split("@")[0])
    most = max((len(rows[clip, key].data) for clip in ids), default=0)
    assert dense.shape[:2] == valid.shape == (len(ids), most)
    for i, clip in enumerate(ids):
        count = len(rows[clip, key].data)
        assert np.array_equal(dense[i, :count], rows[clip, key].data)
        assert np.array_equal(valid[i, :count], rows[clip, key].valid.astype(bool))
        assert not dense[i, count:].any()
        assert not valid[i, count:].any()


@pytest.fixture(scope="module")
def kinds(content, tmp_path_factory):
    """Clips of different and of equal lengths, plain and compressed."""
    folder = tmp_path_factory.mktemp("kinds")
    return [
        make_store(content, folder / f"{i}", compression=compression, counts=counts)
        for i, (compression, counts) in enumerate(itertools.product(("none", "gzip:1"), ((1, 2, 3, 4), (3, 3, 3, 3))))
    ]


def test_file_order_and_batches(made):
    store, rows = made
    ids = sorted({clip for clip, _ in rows})
    order = store.file_order(ids[::-1], "joint")
    places = [(store.location(clip, "joint").part, store.location(clip, "joint").first_row) for clip in order]
    assert places == sorted(places)
    seen = []
    for batch in store.batches(["joint", "still"], size=7):
        seen += batch.ids
        for key in ("joint", "still"):
            for clip, data, valid in zip(batch.ids, batch.data[key], batch.valid[key], strict=True):
                want = rows[clip, store.resolve(key)]
                assert np.array_equal(data, want.data)
                assert np.array_equal(valid, want.valid.astype(bool))
    assert seen == order
    some = ids[3:9]
    assert {clip for batch in store.batches(["still"], some) for clip in batch.ids} == set(some)
    with pytest.raises(StoreError, match="at least one key"):
        next(store.batches([]))


def test_what_is_not_there_is_named(made):
    store, _ = made
    for read in (lambda: store.to_dense(["clip0a", "clip9z"], "still"), lambda: list(store.batches(["still"], ["x"]))):
        with pytest.raises(UnknownName, match=r"clip9z|'x'"):
            read()
    with pytest.raises(UnknownName, match="did you mean"):
        store.read("clip0a", "stil")


def test_arrays_that_do_not_fit_are_refused(made):
    store, _ = made
    info = store.keys()[0]
    clip = "clip0a"  # four rows
    wrong = np.zeros((1, 4, *info.dims), "float64")
    with pytest.raises(StoreError, match="cannot be read into float64"):
        store.fill([clip], info.key, wrong)
    with pytest.raises(StoreError, match="cannot be read into"):
        store.fill([clip], info.key, np.zeros((1, 4, *info.dims, 2), info.storage)[..., 0])
    short = np.zeros((1, 3, *info.dims), info.storage)
    with pytest.raises(StoreError, match=r"has 4 rows of .*, the array takes 3"):
        store.fill([clip], info.key, short)


# ---- files and processes ---------------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_few_files_stay_open_and_close_lets_go(made, monkeypatch):
    store, rows = made
    monkeypatch.setattr(access, "OPEN_FILES", 2)
    before = descriptors()
    for name in rows:
        store.rows(*name)
        assert descriptors() <= before + 4
    store.close()
    assert descriptors() == before
    assert all(equal(store.rows(*name), each) for name, each in rows.items())
    del store


def test_a_store_that_is_dropped_closes_its_files(content, tmp_path):
    before = descriptors()
    store, rows = make_store(content, tmp_path / "store")
    store.read(*next(iter(rows)))
    assert descriptors() > before
    del store
    assert descriptors() == before


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(made, method):
    store, rows = made
    names = sorted(rows)
    assert all(
        equal(store.rows(*name), rows[name]) for name in names
    )  # files are open now; forked workers inherit them
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap_async(store.rows, names).get(timeout=120)
    assert all(equal(each, rows[name]) for each, name in zip(found, names, strict=True))
    assert len(pickle.dumps(store)) < 1000


def test_threads_read_the_rows_they_ask_for(made, monkeypatch):
    """With few files open, one thread's part is closed while another reads from it."""
    monkeypatch.setattr(access, "OPEN_FILES", 1)
    store, rows = made
    names = sorted(rows) * 20
    random.Random(0).shuffle(names)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: store.rows(*name), names))
    assert all(equal(each, rows[name]) for each, name in zip(found, names, strict=True))


def test_a_part_cut_short_is_named(content, tmp_path):
    store, rows = make_store(content, tmp_path / "store")
    name = next(iter(rows))
    place = store.location(*name)
    store.read(*name)  # which opens the part
    os.truncate(place.part, place.offset_bytes + 4)
    with pytest.raises(DamagedPart, match="ends before its rows do"):
        store.read(*name)


def test_labels_splits_and_events(content, tmp_path):
    from manifests.clip import Clip, write_manifest
    from manifests.dense import Event, write_dense

    store, _ = make_store(content, tmp_path / "store")
    assert store.manifest == {}
    assert store.events == ()
    clips = [Clip("clip0b", "b.mp4", labels=("Dog", "Car"), split="train"), Clip("clip0a", "a.mp4", split="val")]
    write_manifest(tmp_path / "store" / "manifest.csv", clips)
    write_dense(tmp_path / "store" / "manifest.dense.csv", [Event("clip0a", "audio", 1, 3, "Dog")])
    store = Store(tmp_path / "store")
    assert list(store.manifest) == ["clip0b", "clip0a"]
    assert store.labels("clip0b") == ("Dog", "Car")
    assert store.split_ids("val") == ("clip0a",)
    assert store.events[0].offset_s == 3
    with pytest.raises(UnknownName, match="did you mean train"):
        store.split_ids("trian")
    with pytest.raises(UnknownName, match="clip of the manifest"):
        store.labels("clip4d")


def test_counts_and_iteration(made):
    store, rows = made
    key = store.resolve("still")
    assert dict(zip(store.clips("still"), store.counts("still").tolist(), strict=True)) == {
        clip: len(each.data) for (clip, of), each in rows.items() if of == key
    }
    assert list(store) == sorted({clip for clip, _ in rows})
    assert len(store) == 4 * PARTS


def test_with_an_index_file_no_part_is_opened_before_rows_are_read(made, monkeypatch):
    store, rows = made
    save_index(store.path)

    def never(path):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr("extract.store.scan.index_part", never)
    again = Store(store.path)
    assert again.have() == store.have()
    assert all(equal(again.rows(*name), each) for name, each in rows.items())
    assert canonical_json(again.tally()) == canonical_json(store.tally())
