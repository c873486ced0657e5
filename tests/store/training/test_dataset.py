"""FeatureDataset: rows by second, masks, labels, targets, what is missing, and how it goes through a DataLoader."""

from __future__ import annotations

import copy
import importlib.util
import multiprocessing
import os
import pickle
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from extract.errors import DamagedPart, DeviceUnavailable, StoreError, UnknownName
from extract.store import Store
from extract.store.dataset import FeatureDataset, collate
from extract.store.training import shared
from extract.store.training.classes import class_order
from extract.store.training.sampling import ShardSampler
from manifests import ave, llp
from manifests.clip import Clip, write_manifest

PER_SECOND = {"pictures": 8, "sound": 1, "drift": 2, "half": 2}
NAMES = list(PER_SECOND)


def _load():
    spec = importlib.util.spec_from_file_location("aligned_content", Path(__file__).with_name("aligned.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["aligned_content"] = module
    spec.loader.exec_module(module)
    return module


made = _load()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return made.make(tmp_path_factory.mktemp("dataset") / "store")


@pytest.fixture(scope="module", params=["none", "gzip:1"])
def either(request, path, tmp_path_factory):
    """Uncompressed and compressed."""
    return (
        path if request.param == "none" else made.make(tmp_path_factory.mktemp("gzip") / "store", compression="gzip:1")
    )


def seconds(clip_ids, names=NAMES):
    ends = [made.rows_of(i, name).window_ns[-1] for i in clip_ids for name in names]
    return max(int((start + stop) // 2 // made.NS) + 1 for start, stop in ends)


def check(batch, names=NAMES):
    """A batch of clips against the slow way."""
    span = seconds(batch["clip_id"], names)
    for name in names:
        assert batch[name].dtype == torch.float32
        for i, clip_id in enumerate(batch["clip_id"]):
            data, valid = made.second_by_second(clip_id, name, span, PER_SECOND[name])
            each = (data, valid) if PER_SECOND[name] > 1 else (data[:, 0], valid[:, 0])
            assert np.array_equal(batch[name][i].numpy(), each[0]), (name, clip_id)
            assert np.array_equal(batch["valid"][name][i].numpy(), each[1]), (name, clip_id)


def test_items_are_the_rows_second_by_second(either):
    data = FeatureDataset(either, NAMES)
    assert len(data) == len(made.IDS) - 1
    assert data.clip_ids == tuple(i for i in reversed(made.IDS) if i != made.FAILED)
    for i in range(len(data)):
        item = data[i]
        batch = {name: item[name][None] for name in NAMES} | {"clip_id": [item["clip_id"]]}
        check(batch | {"valid": {name: item["valid"][name][None] for name in NAMES}})
    assert data[-1]["clip_id"] == data[len(data) - 1]["clip_id"]
    with pytest.raises(IndexError):
        data[len(data)]
    with pytest.raises(IndexError):
        data[-len(data) - 1]


def test_batches_pad_and_use_memory_again(either):
    data = FeatureDataset(either, NAMES)
    rng = np.random.default_rng(0)
    for _ in range(40):  # memory that earlier, other batches have left must not shine through
        check(collate(data.__getitems__(rng.integers(0, len(data), rng.integers(1, 7)).tolist())))


def test_a_batch_that_is_held_is_never_overwritten(path):
    data = FeatureDataset(path, NAMES)
    kept = [data.fetch([i, i + 1]) for i in range(8)]
    views = [data.fetch([i])["pictures"][0, 0].numpy() for i in range(8)]
    before = [view.copy() for view in views]
    for _ in range(3):
        for i in range(8):
            data.fetch([7 - i, i])
    for batch in kept:
        check(batch)
    assert all(np.array_equal(a, b) for a, b in zip(views, before, strict=True))


def test_memory_is_used_again_and_does_not_grow(path):
    data = FeatureDataset(path, NAMES)
    at = {data.fetch([0, 1])["pictures"].data_ptr() for _ in range(20)}
    assert len(at) <= 2


@pytest.mark.parametrize("names", [["sound"], ["drift"], ["half"], ["pictures", "sound"]])
def test_some_keys(path, names):
    data = FeatureDataset(path, names, ids=[made.IDS[0], made.IDS[5], made.IDS[2]])
    check(data.fetch([0, 1, 2]), names)


def test_one_row_per_second_has_no_dimension_of_one(path):
    item = FeatureDataset(path, ["drift", "sound", "pictures"], ids=made.IDS[:2])[0]
    assert item["sound"].shape == (3, 3)
    assert item["valid"]["sound"].shape == (3,)
    assert item["drift"].shape == (3, 2, 2, 2)  # a hop of 0.96 s: two rows in the 13th second of other clips
    assert item["pictures"].shape == (3, 8, 5)


def test_mean_of_the_valid_rows_of_a_second(path):
    data = FeatureDataset(path, NAMES, pool="mean")
    ids = [i for i in made.IDS if i != made.FAILED]
    batch = data.fetch([data.clip_ids.index(i) for i in ids])
    for name in NAMES:
        for i, clip_id in enumerate(ids):
            rows, valid = made.second_by_second(clip_id, name, seconds(ids), PER_SECOND[name])
            for second in range(seconds(ids)):
                there = valid[second]
                assert batch["valid"][name][i, second] == there.any()
                mean = rows[second][there].mean(axis=0) if there.any() else np.zeros_like(rows[0, 0])
                np.testing.assert_allclose(batch[name][i, second].numpy(), mean, rtol=1e-5, atol=1e-6)


def test_rows_as_they_are(path):
    data = FeatureDataset(path, NAMES, per_second=False, ids=[made.IDS[0], made.IDS[5]])
    batch = data.fetch([1, 0])
    for name in NAMES:
        for i, clip_id in enumerate([made.IDS[5], made.IDS[0]]):
            rows = made.rows_of(clip_id, name)
            count = len(rows.data)
            assert np.array_equal(batch[name][i, :count].numpy(), rows.data.astype(np.float32))
            assert not batch[name][i, count:].any()
            assert np.array_equal(batch["valid"][name][i, :count].numpy(), rows.valid.astype(bool))
            assert not batch["valid"][name][i, count:].any()
    assert "targets" not in batch


def test_dtype(path):
    batch = FeatureDataset(path, ["half", "sound"], dtype="float16", ids=made.IDS[:1]).fetch([0])
    assert batch["half"].dtype == batch["sound"].dtype == torch.float16
    rows = made.rows_of(made.IDS[0], "half")
    assert np.array_equal(batch["half"][0].numpy().reshape(-1, 4), rows.data)


def test_labels_targets_and_splits(path):
    data = FeatureDataset(path, ["sound"], split="val")
    assert data.classes == llp.LABELS
    assert data.clip_ids == (made.IDS[9], made.IDS[6], made.IDS[0])  # the manifest's order, without the failed one
    batch = data.fetch([2, 0])
    assert batch["split"] == ["val", "val"]
    assert batch["labels"].shape == (2, 25)
    assert [llp.LABELS[i] for i in batch["labels"][0].nonzero()] == ["Dog"]
    assert set(batch["targets"]) == {"audio", "visual"}
    assert batch["annotated"].tolist() == [True, False]
    heard = batch["targets"]["audio"]
    assert heard.shape == (2, 3, 25)
    assert heard[0].nonzero().tolist() == [[0, 3], [1, 3], [2, 0]]
    assert batch["targets"]["visual"][0].nonzero().tolist() == [[1, 3], [2, 3]]
    assert not heard[1].any()


def test_a_target_reaches_as_far_as_the_rows(path):
    batch = FeatureDataset(path, ["sound"], ids=[made.IDS[1]]).fetch([0])
    assert batch["targets"]["audio"][0].nonzero().tolist() == [[1, 0]]  # 2 s of rows, the event ends at 9


def test_two_labels(path):
    data = FeatureDataset(path, ["sound"])
    manifest = Store(path).manifest
    batch = data.fetch(range(len(data)))
    assert max(len(clip.labels) for clip in manifest.values()) > 1
    for clip_id, row in zip(batch["clip_id"], batch["labels"], strict=True):
        assert {llp.LABELS[i] for i in row.nonzero()} == set(manifest[clip_id].labels)


def test_order_of_classes():
    def clips(*labels, ids="abcdefghijk_0_10"):
        return [Clip(ids, "a.mp4", labels=labels)]

    assert class_order(clips("Dog", "Cat")) == llp.LABELS
    assert class_order(clips("Church bell")) == ave.LABELS
    assert class_order(clips("Cat")) == llp.LABELS
    assert class_order(clips("Cat", ids="abcdefghijk_Cat")) == ave.LABELS
    assert class_order(clips("zebra", "Cat")) == ("Cat", "zebra")
    assert class_order(clips()) == ()


def test_labels_of_ones_own(path):
    data = FeatureDataset(path, ["sound"], ids=[made.IDS[0]], labels=["Cat", "Dog", "Speech"])
    assert data[0]["labels"].tolist() == [0, 1, 0]
    with pytest.raises(StoreError, match="Cat, Speech"):
        FeatureDataset(path, ["sound"], labels=["Dog"])
    without = FeatureDataset(path, ["sound"], labels=[])[0]
    assert "labels" not in without
    assert "targets" not in without


def test_a_store_without_manifest(tmp_path):
    data = FeatureDataset(made.make(tmp_path / "store", manifest=False), ["sound"])
    assert data.clip_ids == tuple(sorted(set(made.IDS) - {made.FAILED}))
    assert data[0].keys() == {"clip_id", "sound", "valid", "split"}
    assert data[0]["split"] == ""


def test_clips_beside_the_manifest_have_no_labels(tmp_path):
    path = made.make(tmp_path / "store")
    write_manifest(path / "manifest.csv", [Clip(made.IDS[0], "a.mp4", labels=("Dog",)), Clip("never_run", "b.mp4")])
    data = FeatureDataset(path, ["sound"])
    assert data.clip_ids == (made.IDS[0],)
    assert [(each.clip_id, each.why) for each in data.missing] == [("never_run", "it was not extracted yet")]
    with pytest.raises(StoreError, match=rf"does not list clip '{made.IDS[1]}'.*labels=\(\)"):
        FeatureDataset(path, ["sound"], ids=made.IDS[:2])


def test_missing_clips_are_listed_or_an_error(path):
    data = FeatureDataset(path, ["pictures", "sound"])
    (missing,) = data.missing
    assert (missing.clip_id, missing.key) == (made.FAILED, made.info("sound").key)
    assert "undecodable" in missing.why
    assert FeatureDataset(path, ["pictures"], strict=True).missing == ()
    with pytest.raises(StoreError, match=f"{made.FAILED}.*undecodable"):
        FeatureDataset(path, ["pictures", "sound"], strict=True)
    with pytest.raises(StoreError, match=r"none of 1 clips has rows.*undecodable"):
        FeatureDataset(path, ["sound"], ids=[made.FAILED])


def test_bad_questions(path):
    for words, error, match in [
        ({"keys": []}, StoreError, "at least one"),
        ({"keys": ["sound", "sound"]}, StoreError, "each once"),
        ({"keys": "sound"}, StoreError, "a list of names"),
        ({"keys": ["sounds"]}, UnknownName, "sound"),
        ({"keys": ["sound"], "split": "vel"}, UnknownName, "val"),
        ({"keys": ["sound"], "ids": [made.IDS[0] + "x"]}, UnknownName, made.IDS[0]),
        ({"keys": ["sound"], "ids": [], "split": "val"}, StoreError, "not both"),
        ({"keys": ["sound"], "ids": []}, StoreError, "none of 0 clips"),
        ({"keys": ["sound"], "pool": "max"}, StoreError, "'mean'"),
        ({"keys": ["sound"], "pool": "mean", "per_second": False}, StoreError, "per_second"),
        ({"keys": ["sound"], "dtype": "int8"}, StoreError, "float16"),
        ({"keys": ["sound"], "cache_bytes": 10}, StoreError, "does not hold one clip"),
    ]:
        with pytest.raises(error, match=match):
            FeatureDataset(path, **words)


def test_rows_off_their_grid_have_no_second(content, parts):
    content.seal(parts, content.make_records())
    with pytest.raises(StoreError, match="names no grid"):
        FeatureDataset(parts.parent, ["vggish"])
    item = FeatureDataset(parts.parent, ["vggish"], per_second=False)[0]
    assert np.array_equal(item["vggish"].numpy(), Store(parts.parent)[item["clip_id"], "vggish"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_pin_without_cuda(path):
    with pytest.raises(DeviceUnavailable, match="CUDA"):
        FeatureDataset(path, ["sound"], pin=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_pinned(path):
    data = FeatureDataset(path, NAMES, pin=True, cache_bytes=10**6)
    batch = data.fetch([0, 1])
    assert batch["pictures"].is_pinned()
    check(batch)
    assert torch.from_numpy(data.rows.cache.memory.array).is_pinned()


# ---- through a DataLoader --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_epochs_through_a_loader(path, context):
    data = FeatureDataset(path, NAMES, cache_bytes=3000 if context == "fork" else 0)
    workers = (
        {} if context is None else {"num_workers": 1 if context == "spawn" else 2, "multiprocessing_context": context}
    )
    if context is not None:
        workers["persistent_workers"] = True
    loader = DataLoader(
        data, 3, sampler=ShardSampler(data, shard_clips=2, window_clips=5), collate_fn=collate, **workers
    )
    for _ in range(1 if context == "spawn" else 3):
        seen, kept = [], []
        for batch in loader:
            check(batch)
            seen += batch["clip_id"]
            kept.append(batch)
        assert sorted(seen) == sorted(data.clip_ids)
        for batch in kept:  # each has memory of its own as long as it is held
            check(batch)
        del batch, kept


def test_workers_send_memory_that_they_use_again(path):
    data = FeatureDataset(path, NAMES)
    data.fetch([0])  # what this process has for itself is not the workers'
    for _ in range(2):
        at, pids = set(), set()
        loader = DataLoader(data, 2, sampler=[0, 1] * 40, collate_fn=collate, num_workers=1)
        for batch in loader:
            check(batch)
            at.add(batch["pictures"].data_ptr())
            pids |= set(shared._received)
            bodies = [
                block.body.__array_interface__["data"][0]
                for each in shared._received.values()
                for block in each.values()
            ]
            assert batch["pictures"].data_ptr() in bodies
        assert len(at) <= 5  # two ahead, one on its way, one in use, one being let go
        assert len(pids) == 1
    del loader, batch
    assert not shared._received  # what was mapped goes with the worker


def test_a_worker_may_change_a_batch(path):
    data = FeatureDataset(path, ["sound", "pictures"])

    def changed(fetched):
        batch = collate(fetched)
        batch["sound"] = batch["sound"] + 1
        batch["pictures"].mul_(2)
        batch["more"] = torch.zeros(3), "text"
        return batch

    ids = {}
    for batch in DataLoader(data, 4, collate_fn=changed, num_workers=1):
        ids |= {i: (s, p) for i, s, p in zip(batch["clip_id"], batch["sound"], batch["pictures"], strict=True)}
        assert batch["more"][1] == "text"
    for clip_id, (sound, pictures) in ids.items():
        one = data[data.clip_ids.index(clip_id)]
        assert torch.equal(sound[: len(one["sound"])], one["sound"] + 1)
        assert torch.equal(pictures[: len(one["pictures"])], one["pictures"] * 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_own_collate(path, workers):
    data = FeatureDataset(path, NAMES)
    for batch in DataLoader(data, 4, shuffle=True, num_workers=workers):
        check(batch)


def test_wrapped_datasets(path):
    data = FeatureDataset(path, NAMES)
    check(next(iter(DataLoader(Subset(data, [3, 1, 6]), 3, collate_fn=collate))))
    both = ConcatDataset([FeatureDataset(path, NAMES, ids=[made.IDS[i]]) for i in (2, 4, 0)])  # of 15, 1 and 3 seconds
    check(next(iter(DataLoader(both, 3, collate_fn=collate))))


def test_read_ahead_asks_for_the_rows(path):
    data = FeatureDataset(path, ["pictures", "half"])

    class Asked:
        def __init__(self):
            self.bytes = b""

        def ask(self, file, start, stop):
            self.bytes += file.read_bytes()[start:stop]

    data.rows._ahead = os.getpid(), Asked()
    data.read_ahead(np.array([0, 3]))
    found = sorted(data.store[data.clip_ids[i], name].tobytes() for i in (0, 3) for name in ("pictures", "half"))
    asked = data.rows._ahead[1].bytes
    assert len(asked) == sum(map(len, found))
    assert all(each in asked for each in found)


def test_an_error_in_a_worker_arrives(path, tmp_path):
    shutil.copytree(path, tmp_path / "store")
    data = FeatureDataset(tmp_path / "store", ["sound"])
    for part in (tmp_path / "store" / "parts").iterdir():
        os.truncate(part, part.stat().st_size // 2)
    with pytest.raises(DamagedPart, match=r"(?s)in DataLoader worker process.*\.piece\.h5"):
        list(DataLoader(data, 4, collate_fn=collate, num_workers=1))


def test_pickled_and_copied(path):
    data = pickle.loads(pickle.dumps(FeatureDataset(path, NAMES, cache_bytes=5000)))  # noqa: S301
    batch = data.fetch([0, 5])
    copied, shallow = copy.deepcopy(batch), copy.copy(batch)
    check(copied)
    check(shallow)
    assert copied["pictures"].data_ptr() != batch["pictures"].data_ptr()


# ---- cache -----------------------------------------------------------------------------------------------------------


def stop_reading(data):
    def fill(*_):
        raise AssertionError("read from disk")

    data.store.fill = fill


def test_the_cache_keeps_to_its_budget_and_serves(either):
    whole = sum(made.rows_of(i, n).data.nbytes for i in made.IDS if i != made.FAILED for n in NAMES)
    for budget in (1500, whole // 2, 2 * whole):
        data = FeatureDataset(either, NAMES, cache_bytes=budget)
        assert len(data.rows.cache.memory.array) <= budget
        assert data.cached.clips == 0
        cached = data.preload()
        assert cached.clips == cached.fit <= cached.total == len(data)
        assert cached.used_bytes <= cached.budget_bytes == budget
        assert (cached.fit == len(data)) == (budget == 2 * whole)
        for _ in range(2):
            check(data.fetch(range(len(data))))
        stop_reading(data)
        check(data.fetch(np.flatnonzero(data.rows.cache.slot >= 0).tolist()))
        if cached.fit < len(data):
            with pytest.raises(AssertionError, match="from disk"):
                data.fetch(np.flatnonzero(data.rows.cache.slot < 0).tolist())


def test_room_that_is_left_is_less_than_the_next_clip(path):
    sizes = FeatureDataset(path, NAMES, cache_bytes=10**6)
    order = np.argsort(sizes.rows.cache.slot)
    clips = [sizes.clip_ids[i] for i in order]
    bytes_of = [sum(made.rows_of(i, n).data.nbytes for n in NAMES) for i in clips]
    data = FeatureDataset(path, NAMES, cache_bytes=4000)
    fit = data.cached.fit
    assert sum(bytes_of[:fit]) <= 4000 < sum(bytes_of[: fit + 1]) + 64 * len(NAMES) + fit + 1


def test_workers_fill_one_cache(path):
    data = FeatureDataset(path, NAMES, cache_bytes=10**6)
    loader = DataLoader(data, 2, collate_fn=collate, num_workers=2)
    assert sum(len(batch["clip_id"]) for batch in loader) == len(data)
    assert data.cached.clips == len(data)
    stop_reading(data)
    for batch in loader:
        check(batch)


def test_the_first_item_of_a_million_clips_is_not_far(tmp_path, path):
    """The constructor does nothing per clip but look it up: 50,000 of them, most missing."""
    ids = [f"{i:011}_0_10" for i in range(50_000)]
    store = Store(made.make(tmp_path / "store"))
    write_manifest(
        store.path / "manifest.csv", [*(Clip(i, "a.mp4") for i in ids), *(Clip(i, "b.mp4") for i in made.IDS)]
    )
    _ = store.manifest, store.index
    started = time.process_time()
    data = FeatureDataset(store, NAMES)
    assert time.process_time() - started < 2
    assert len(data) == len(made.IDS) - 1


def test_a_forked_process_leaves_our_memory_alone(path):
    data = FeatureDataset(path, NAMES)
    batch = data.fetch([0, 1])
    context = multiprocessing.get_context("fork")

    def child():
        batch.clear()
        data.fetch([2, 3])
        os._exit(0)

    process = context.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    check(batch)
