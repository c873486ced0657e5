"""The store as one thing: lookup, names, damage, concurrent runs, processes."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
import random
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from extract.errors import DamagedPart, StoreError, StoreUnwritable, UnknownName
from extract.store.catalog import Store, create_store
from extract.store.part import index_part, merge_chunk, seal_piece
from extract.store.rows import Remark


@pytest.fixture
def store(content, parts):
    """Three pieces of one chunk."""
    records = content.make_records()
    for start in (0, 9, 18):
        content.seal(parts, records[start : start + 9])
    return Store(parts.parent)


def all_rows(content):
    return {(item.clip_id, item.key): item for kind, item in content.make_records() if kind == "rows"}


def test_have_failed_masked_keys_clips(content, store):
    rows = all_rows(content)
    have = store.have()
    assert {(clip, key) for clip, keys in have.items() for key in keys} == set(rows)
    assert [(each.clip_id, each.reason) for each in store.failed()] == [
        *[("delta", "not_found")] * 3,
        ("eta", "undecodable"),
    ]
    assert [each.clip_id for each in store.masked()] == ["beta", "theta"]
    assert store.keys() == tuple(sorted(content.KEYS, key=lambda key: key.key))
    assert store.clips("vggish") == tuple(sorted(set(content.ORDER) - {"delta", "eta"}))
    assert ("beta", content.STILL.key) in store
    assert ("delta", content.STILL.key) not in store
    assert ("beta", "nothing") not in store


def test_rows_by_name_and_by_key(content, store):
    for (clip, key), rows in all_rows(content).items():
        read = store.rows(clip, key)
        for field in dataclasses.fields(rows):
            assert np.array_equal(getattr(read, field.name), getattr(rows, field.name))
        assert np.array_equal(store[clip, key.split("@")[0]], rows.data)
    assert store["beta", "resnet152"].dtype == np.float32


def test_only_the_clips_span_is_read(content, parts, monkeypatch):
    store = Store(parts.parent)
    key = content.info("big", (2048,))
    seal_piece(
        parts, content.CHUNK, content.ORDER, [key], [content.make_rows(c, key, 9) for c in content.ORDER], [], [], {}
    )
    read = []
    original = h5py.Dataset.__getitem__

    def spy(self, *args, **kwargs):
        found = original(self, *args, **kwargs)
        read.append(getattr(found, "nbytes", 0))
        return found

    store.clips("big")
    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    assert store.rows("beta", "big").data.shape == (9, 2048)
    assert sum(read) < 9 * 2048 * 4 + 1000


def test_ambiguous_names_list_the_keys(content, parts, store):
    other = content.info("resnet152", (6,), precision="bfloat16")
    seal_piece(parts, "e" * 16, content.ORDER, [other], [content.make_rows("beta", other)], [], [], {})
    store.refresh()
    with pytest.raises(StoreError, match="2 features of resnet152; say which") as error:
        store["beta", "resnet152"]
    assert other.key in str(error.value)
    assert content.STILL.key in str(error.value)
    assert store["beta", other.key].shape[1:] == (6,)


def test_unknown_names_are_answered_with_near_ones(content, store):
    with pytest.raises(UnknownName, match=r"feature of .* is called 'resnet15'.*resnet152"):
        store["beta", "resnet15"]
    with pytest.raises(UnknownName, match=r"clip of .* is called 'gama_ä'.*gamma_ä"):
        store["gama_ä", "resnet152"]
    with pytest.raises(
        StoreError, match=r"'delta' has no rows of resnet152@\w+: not_found \(open\): delta.mp4 is not there"
    ):
        store["delta", "resnet152"]
    content.seal(store.path / "parts", [("rows", content.make_rows("delta", content.JOINT))])
    store.refresh()
    with pytest.raises(StoreError, match="not_found"):
        store["delta", "resnet152"]


def test_a_clip_with_other_features_only(content, parts):
    content.seal(
        parts, [("rows", content.make_rows("beta", content.JOINT)), ("rows", content.make_rows("eta", content.STILL))]
    )
    with pytest.raises(StoreError, match=r"'beta' has no rows of resnet152@.*, only of joint@"):
        Store(parts.parent)["beta", "resnet152"]


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match=r"no feature store at .*`extract run` makes one"):
        Store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnwritable):
        create_store(tmp_path / "file" / "store")


def test_an_empty_store(content, store_path):
    store = Store(store_path)
    assert (dict(store.have()), store.failed(), store.keys()) == ({}, (), ())
    with pytest.raises(UnknownName):
        store["beta", "resnet152"]
    assert store.digest() == Store(store_path).digest()


def test_digest_does_not_depend_on_parts(content, store, tmp_path):
    create_store(tmp_path / "other")
    content.seal(tmp_path / "other" / "parts", content.make_records(), {"device": "another"})
    before = store.digest()
    assert Store(tmp_path / "other").digest() == before
    merge_chunk(store.path / "parts", content.CHUNK, content.ORDER)
    assert Store(store.path).digest() == before


@pytest.mark.parametrize("i", [0, 5, 9, 12])
def test_digest_depends_on_every_record(content, store, tmp_path, i):
    records = content.make_records()
    create_store(tmp_path / "other")
    content.seal(tmp_path / "other" / "parts", records[:i] + records[i + 1 :])
    assert Store(tmp_path / "other").digest() != store.digest()


def test_a_failure_made_up_for_later_is_gone(content, parts, store):
    content.seal(parts, [("rows", content.make_rows("delta", content.STILL))])
    store.refresh()
    assert [each.key for each in store.failed() if each.clip_id == "delta"] == sorted(
        [content.JOINT.key, content.SOUND.key]
    )


FOREIGN = {
    "text": lambda path: path.write_text("not hdf5"),
    "empty": lambda path: path.write_bytes(b""),
    "other hdf5": lambda path: h5py.File(path, "w").close(),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_named(content, parts, store, make):
    make(parts / "stranger.h5")
    with pytest.raises(DamagedPart, match=r"stranger\.h5"):
        store.refresh()
    lenient = Store(store.path, strict=False)
    assert [path.name for path, _ in lenient.damaged()] == ["stranger.h5"]
    assert set(lenient.have()) == set(content.ORDER) - {"delta"}


def test_a_newer_schema_is_refused(content, parts):
    path = content.seal(parts, content.make_records())
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 3
    with pytest.raises(DamagedPart, match="has schema 3, this version reads 1 to 2"):
        Store(parts.parent).keys()


def test_parts_that_disagree_are_named(content, parts):
    rows = content.make_rows("beta", content.STILL)
    other = dataclasses.replace(rows, data=rows.data + 1)
    for chunk, each in (("a" * 16, rows), ("b" * 16, other)):
        seal_piece(parts, chunk, content.ORDER, content.KEYS, [each], [], [], {})
    with pytest.raises(DamagedPart, match=r"aaaa.* and .*bbbb.* hold different rows of clip 'beta'"):
        Store(parts.parent).keys()
    assert len(Store(parts.parent, strict=False).damaged()) == 1


def test_other_files_are_not_minded(content, parts, store):
    before = store.digest()
    (parts / f".{content.CHUNK}.h5.1.tmp").write_bytes(b"half")
    (parts / ".hidden.h5").write_bytes(b"half")
    (parts / "notes.txt").write_text("mine")
    assert Store(store.path).digest() == before


# ---- while a run writes ----------------------------------------------------------------------------------------------


def test_a_merge_under_the_reader(content, parts, store):
    rows = all_rows(content)
    assert len(store.have()) == len(content.ORDER) - 1  # indexed as three pieces
    merge_chunk(parts, content.CHUNK, content.ORDER)
    assert all(np.array_equal(store[name], rows[name].data) for name in rows)


def test_a_part_replaced_under_the_reader(content, parts):
    """The merged part has its clips elsewhere than the one that was indexed, under the same name."""
    rows = all_rows(content)
    late = [("rows", each) for each in rows.values() if each.clip_id in ("theta", "eta")]
    content.seal(parts, late)
    merge_chunk(parts, content.CHUNK, content.ORDER)
    store = Store(parts.parent)
    assert set(store.have()) == {"theta", "eta"}
    content.seal(parts, [record for record in content.make_records() if record[1].clip_id not in ("theta", "eta")])
    merge_chunk(parts, content.CHUNK, content.ORDER)
    for _, each in late:
        assert np.array_equal(store[each.clip_id, each.key], each.data)


def test_refresh_opens_new_files_only(content, parts, store, monkeypatch):
    store.keys()
    opened = []
    monkeypatch.setattr("extract.store.scan.index_part", lambda path: opened.append(path) or index_part(path))
    store.refresh()
    assert opened == []
    new = seal_piece(parts, "e" * 16, ["new"], content.KEYS, [content.make_rows("new", content.STILL)], [], [], {})
    store.refresh()
    assert opened == [new]
    assert "new" in store.have()


def _write(content, parts, rounds):
    records = content.make_records()
    for i in range(rounds):
        chunk = f"{i:016x}"
        ids = {clip: f"{clip}.{i}" for clip in content.ORDER}
        rows = [dataclasses.replace(each, clip_id=ids[each.clip_id]) for kind, each in records if kind == "rows"]
        for start in range(0, len(rows), 5):
            seal_piece(parts, chunk, list(ids.values()), content.KEYS, rows[start : start + 5], [], [], {})
        merge_chunk(parts, chunk, list(ids.values()))


def test_reading_while_another_process_seals_and_merges(content, parts):
    writer = multiprocessing.get_context("fork").Process(target=_write, args=(content, parts, 12))
    writer.start()
    rows, reads, rng, store = all_rows(content), 0, random.Random(0), Store(parts.parent)
    deadline = time.monotonic() + 60
    while writer.is_alive() and time.monotonic() < deadline:
        store.refresh()
        have = store.have()
        for clip in rng.sample(sorted(have), min(6, len(have))):
            for key in have[clip]:
                assert np.array_equal(store[clip, key], rows[clip.rsplit(".", 1)[0], key].data)
                reads += 1
    writer.join()
    assert writer.exitcode == 0
    assert reads > 50
    store.refresh()
    assert len(store.have()) == 12 * 7


# ---- processes -------------------------------------------------------------------------------------------------------


def test_forked_and_pickled_stores_read(content, store):
    expected = store["beta", "joint"].sum()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if store["beta", "joint"].sum() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301  (how a spawned worker gets it)
    assert copy["beta", "joint"].sum() == expected


def test_reading_imports_neither_torch_nor_av_nor_ray():
    code = (
        "import sys; sys.modules.update(torch=None, av=None, ray=None, librosa=None, PIL=None)\n"
        "import extract.store.catalog, extract.store.part, extract.store.verify, extract.store.runs"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_copied_store_is_the_same_store(content, store, tmp_path):
    shutil.copytree(store.path, tmp_path / "copy")
    assert Store(tmp_path / "copy").digest() == store.digest()


def test_remarks_about_unknown_keys_are_kept(content, parts):
    remark = Remark("beta", "later@0123456789ab", "engine", "crash", "signal 11")
    content.seal(parts, [("failed", remark)])
    assert Store(parts.parent).failed() == (remark,)
