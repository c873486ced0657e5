"""Shards, read with the library."""

from __future__ import annotations

import csv
import json
import os
import re

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from extract.errors import PlanError, StoreUnwritable
from extract.store.export import safetensors as layout
from extract.store.export.safetensors import export

THERE = ("a.b c", "ü ß_0_10", "-dash", "__x__", "50%", "plain", "mute")
NAMES = ("resnet152", "r2plus1d_18", "vgg19_ave", "clip_vit_b32", "vggish")


def read_list(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_is_found_through_the_list(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path, shard_clips=3)
    lines = read_list(tmp_path / "clips.csv")
    assert [line["clip_id"] for line in lines] == list(THERE)
    assert [line["file"] for line in lines] == [f"00000{n}.safetensors" for n in (0, 0, 0, 1, 1, 1, 2)]
    for line in lines:
        clip_id = line["clip_id"]
        assert line["split"] == store.manifest[clip_id].split
        assert line["labels"] == ";".join(store.labels(clip_id))
        with safe_open(tmp_path / line["file"], framework="np") as shard:
            for name in NAMES:
                rows = store.rows(clip_id, name)
                tensor = shard.get_tensor(f"{clip_id}/{name}")
                assert tensor.dtype == rows.data.dtype
                np.testing.assert_array_equal(tensor, rows.data)
                np.testing.assert_array_equal(shard.get_tensor(f"{clip_id}/{name}/valid"), rows.valid == 1)
                np.testing.assert_array_equal(shard.get_tensor(f"{clip_id}/{name}/window_ns"), rows.window_ns)
            assert len(shard.keys()) == 3 * len(NAMES) * sum(each["file"] == line["file"] for each in lines)
            about = json.loads(shard.metadata()["features"])
    assert {name: each["key"] for name, each in about.items()} == {
        key.partition("@")[0]: key for key in shelf.keys(store)
    }
    assert about["vggish"]["identity"] == json.loads(shelf.HEARD.identity)
    assert (done.files, done.kept, done.notes, len(done.missing)) == (4, 0, (), 5)


def test_cast_on_request(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    export(store, shelf.keys(store), ("plain",), tmp_path, dtype="float32")
    tensors = load_file(tmp_path / "000000.safetensors")
    assert tensors["plain/clip_vit_b32"].dtype == np.float32
    np.testing.assert_array_equal(tensors["plain/clip_vit_b32"], store["plain", "clip_vit_b32"])


def test_a_shard_ends_before_it_is_too_large_for_memory(shelf, tmp_path, monkeypatch):
    store = shelf.make(tmp_path / "store", [shelf.STILL])  # 16 rows of 6 float32, "plain" 1 row
    for limit, sizes in ((3 * 16 * 24, [3, 3, 1]), (3 * 16 * 24 - 1, [2, 2, 3]), (10, [1] * 7)):
        monkeypatch.setattr(layout, "SHARD_BYTES", limit)
        folder = tmp_path / str(limit)
        folder.mkdir()
        export(store, shelf.keys(store), shelf.IDS, folder)
        lines = read_list(folder / "clips.csv")
        files = [line["file"] for line in lines]
        assert [files.count(f"{n:06d}.safetensors") for n in range(len(sizes))] == sizes
        assert [line["clip_id"] for line in lines] == list(THERE)


def test_a_shard_that_is_there_stays_and_bytes_are_equal(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    for name in ("out", "other"):
        (tmp_path / name).mkdir()
        export(store, shelf.keys(store), shelf.IDS, tmp_path / name, shard_clips=2)
    whole = shelf.files(tmp_path / "out")
    assert shelf.files(tmp_path / "other") == whole
    (tmp_path / "out" / "000001.safetensors").unlink()
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out", shard_clips=2)
    assert (done.files, done.kept) == (2, 3)
    assert shelf.files(tmp_path / "out") == whole


def test_ids_with_slashes_and_without_a_manifest(shelf, tmp_path):
    ids = ("a/b.c", "ü")
    store = shelf.make(tmp_path / "store", [shelf.HEARD], ids, manifest=False)
    export(store, shelf.keys(store), ids, tmp_path)
    tensors = load_file(tmp_path / "000000.safetensors")
    for clip_id in ids:
        np.testing.assert_array_equal(tensors[f"{clip_id}/vggish"], store[clip_id, "vggish"])


def test_no_clips_per_shard(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    with pytest.raises(PlanError, match="--shard-clips must be at least 1, got -1"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path, shard_clips=-1)


def test_a_full_disk_leaves_nothing_half(shelf, tmp_path, monkeypatch):
    store = shelf.make(tmp_path / "store")

    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(
            StoreUnwritable, match=r"000000.safetensors \([\d,]+ bytes needed, [\d,]+ free\).*disk is full"
        ):
            export(store, shelf.keys(store), shelf.IDS, tmp_path / "store")
    assert not [name for name in shelf.files(tmp_path / "store") if re.search(r"safetensors|\.tmp", name)]
