"""Shards, read with tarfile under webdataset's own rules, and killed while they are written."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import re
import signal
import tarfile
import time
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import PlanError, StoreUnwritable
from extract.store.export.webdataset import export, sample_key


def samples(path):
    """What webdataset makes of a shard: files of one key that follow each other, the key up to the name's first dot."""
    found = []
    with tarfile.open(path, "r|*") as stream:
        for member in stream:
            assert member.isreg()
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            key, suffix = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member.name).groups()
            assert suffix == suffix.lower(), "webdataset reads suffixes in lower case"
            assert not re.match(r"__[^/]*__($|/)", member.name), "webdataset takes such files for its own"
            if not found or found[-1]["__key__"] != key:
                found.append({"__key__": key})
            assert suffix not in found[-1]
            data = stream.extractfile(member).read()
            found[-1][suffix] = json.loads(data) if suffix == "json" else np.load(io.BytesIO(data))
    return found


def test_every_clip_is_one_sample_in_order(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path, shard_clips=3)
    shards = [samples(tmp_path / f"{n:06d}.tar") for n in range(3)]
    assert [len(shard) for shard in shards] == [3, 3, 1]
    there = [clip_id for clip_id in shelf.IDS if clip_id != "failed"]
    assert [unquote(each["__key__"]) for shard in shards for each in shard] == there
    names = {info.key.partition("@")[0]: info.key for info in shelf.ALONE}
    for clip_id, sample in zip(there, itertools.chain(*shards), strict=True):
        about = sample.pop("json")
        clip = store.manifest[clip_id]
        assert (about["clip_id"], about["path"], about["split"]) == (clip_id, clip.path, clip.split)
        assert (tuple(about["labels"]), about["keys"]) == (clip.labels, names)
        assert sample.pop("__key__").isascii()
        assert set(sample) == {f"{name}.npy" for name in names}
        for name in names:
            rows = store.rows(clip_id, name)
            np.testing.assert_array_equal(sample[f"{name}.npy"], rows.data)
            assert sample[f"{name}.npy"].dtype == rows.data.dtype
            assert about["window_ns"][name] == rows.window_ns.tolist()
            assert about["valid"][name] == rows.valid.astype(bool).tolist()
    assert (done.files, done.kept, done.notes, len(done.missing)) == (4, 0, (), 5)
    index = json.loads((tmp_path / "shards.json").read_text())
    assert [each["nsamples"] for each in index["shardlist"]] == [3, 3, 1]
    for each in index["shardlist"]:
        assert each["filesize"] == (tmp_path / each["url"]).stat().st_size


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=2, unique=True))
def test_keys_are_reversible_and_never_split(ids):
    keys = [sample_key(each) for each in ids]
    assert [unquote(key) for key in keys] == ids
    assert len(set(keys)) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_~%-]+", key) for key in keys)


def test_long_names_and_slashes(shelf, tmp_path):
    ids = ("ü" * 120, "a/b.c/d", "x")
    store = shelf.make(tmp_path / "store", [shelf.HEARD], ids, manifest=False)
    export(store, shelf.keys(store), ids, tmp_path)
    found = samples(tmp_path / "000000.tar")
    assert [each["json"]["clip_id"] for each in found] == list(ids)
    assert [unquote(each["__key__"]) for each in found] == list(ids)
    assert found[0]["json"]["labels"] == []


def test_a_clip_with_some_of_the_keys_has_those(shelf, tmp_path):
    store = shelf.make(tmp_path / "store", [shelf.HEARD])
    from extract.store.part import seal_piece

    seal_piece(store.path / "parts", "c" * 16, ["x"], [shelf.STILL], [shelf.rows("x", shelf.STILL)], [], [], {})
    store.refresh()
    done = export(store, shelf.keys(store), ("plain", "x"), tmp_path)
    found = samples(tmp_path / "000000.tar")
    assert [set(each) for each in found] == [
        {"__key__", "json", "vggish.npy"},
        {"__key__", "json", "resnet152.npy"},
    ]
    assert {(each.clip_id, each.key) for each in done.missing} == {("plain", shelf.STILL.key), ("x", shelf.HEARD.key)}


def test_a_shard_that_is_there_stays_and_the_index_is_whole(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    for name in ("out", "other"):
        (tmp_path / name).mkdir()
        export(store, shelf.keys(store), shelf.IDS, tmp_path / name, shard_clips=2)
    whole = shelf.files(tmp_path / "out")
    assert shelf.files(tmp_path / "other") == whole
    (tmp_path / "out" / "000001.tar").unlink()
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out", shard_clips=2)
    assert (done.files, done.kept) == (1, 4)
    assert shelf.files(tmp_path / "out") == whole


def test_no_clips_per_shard(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    with pytest.raises(PlanError, match="--shard-clips must be at least 1, got 0"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path, shard_clips=0)


def test_a_full_disk_says_what_is_needed_and_leaves_no_half_shard(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    export(store, shelf.keys(store), shelf.IDS, _made(tmp_path / "whole"), shard_clips=3)
    out = _made(tmp_path / "out")
    pid = os.fork()
    if pid == 0:  # a limit on the size of files fails as a full disk does, from some byte on
        code = 1
        try:
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            export(store, shelf.keys(store), shelf.IDS, out, shard_clips=3)
        except StoreUnwritable as error:
            code = 0 if re.search(r"000000.tar \([\d,]+ bytes needed, [\d,]+ free\)", str(error)) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert shelf.files(out) == {}
    export(store, shelf.keys(store), shelf.IDS, out, shard_clips=3)
    assert shelf.files(out) == shelf.files(tmp_path / "whole")


def test_killed_at_any_time_it_goes_on_where_it_was(shelf, tmp_path):
    ids = tuple(f"clip.{n}" for n in range(40))
    store = shelf.make(tmp_path / "store", ids=ids)
    started = time.monotonic()
    export(store, shelf.keys(store), ids, _made(tmp_path / "whole"), shard_clips=4)
    took = time.monotonic() - started
    whole = shelf.files(tmp_path / "whole")
    rng = random.Random(0)
    there_at_death = set()
    for n in range(12):
        out = _made(tmp_path / f"out{n}")
        pid = os.fork()
        if pid == 0:
            export(store, shelf.keys(store), ids, out, shard_clips=4)
            os._exit(0)
        time.sleep(rng.uniform(0, took))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        there = {name: data for name, data in shelf.files(out).items() if not name.startswith(".")}
        there_at_death.add(len(there))
        assert there.items() <= whole.items(), "a file is there that is not whole"
        done = export(store, shelf.keys(store), ids, out, shard_clips=4)
        assert done.kept == len(there)
        left = {name: data for name, data in shelf.files(out).items() if not name.startswith(".")}
        assert left == whole
    assert len(there_at_death) > 2, "the kills all hit the same moment"


def _made(folder):
    folder.mkdir()
    return folder
