"""Files and the list as HowTo100M's extractor writes them, read as its users do."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from extract.errors import StoreError
from extract.store.export.howto100m import export

THERE = ("a.b c", "ü ß_0_10", "-dash", "__x__", "50%", "plain", "mute")


def read_list(path):
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["video_path", "feature_path"]
        return list(reader)


def test_the_list_leads_to_the_features(shelf, tmp_path, monkeypatch):
    store = shelf.make(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    done = export(store, shelf.keys(store), shelf.IDS, Path("out"))
    monkeypatch.chdir("/")  # the list must hold wherever it is read from
    for info in shelf.ALONE:
        lines = read_list(tmp_path / "out" / f"{info.key.partition('@')[0]}.csv")
        assert [line["video_path"] for line in lines] == [f"videos/{clip_id} v.mp4" for clip_id in THERE]
        for clip_id, line in zip(THERE, lines, strict=True):
            array = np.load(line["feature_path"])
            rows = store[clip_id, info.key].astype(np.float32)
            assert (array.dtype, array.shape) == (np.float16, (len(rows), np.prod(info.dims)))
            flat = rows.reshape(len(rows), -1)
            length = np.sqrt((flat.astype(np.float64) ** 2).sum(1, keepdims=True))
            np.testing.assert_allclose(array, flat / np.maximum(length, 1e-12), atol=6e-4)
            filled = length[:, 0] > 0
            np.testing.assert_allclose(np.linalg.norm(array.astype(np.float64), axis=1)[filled], 1, atol=2e-3)
    assert (done.files, done.kept, len(done.missing)) == (7 * 5 + 5, 0, 5)


def test_a_masked_row_of_zeros_stays_zeros_and_is_counted(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    done = export(store, [shelf.HEARD.key], shelf.IDS, tmp_path / "out")
    array = np.load(tmp_path / "out" / "vggish" / "mute v.npy")
    assert (array[1] == 0).all()
    assert np.isfinite(array).all()
    assert any("masked rows: 1; " in note for note in done.notes)


def test_as_stored_when_both_rules_are_switched_off(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    export(store, [shelf.STILL.key], shelf.IDS, tmp_path / "out", dtype="float32", l2_normalize=False)
    for clip_id in THERE:
        array = np.load(tmp_path / "out" / "resnet152" / f"{clip_id} v.npy")
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, store[clip_id, "resnet152"])


def test_the_same_numbers_as_torch_normalize(shelf, tmp_path):
    torch = pytest.importorskip("torch")
    store = shelf.make(tmp_path / "store")
    export(store, [shelf.STILL.key], ("mute",), tmp_path / "out", dtype="float32")
    ours = np.load(tmp_path / "out" / "resnet152" / "mute v.npy")
    theirs = torch.nn.functional.normalize(torch.from_numpy(store["mute", "resnet152"]), dim=1).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=3e-7)


def test_what_float16_cannot_hold_is_refused(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    store.rows = lambda clip_id, key, read=store.rows: _large(read(clip_id, key))
    export(store, [shelf.STILL.key], ("plain",), tmp_path / "unit")
    with pytest.raises(StoreError, match="70000 does not fit into float16"):
        export(store, [shelf.STILL.key], ("plain",), tmp_path / "raw", l2_normalize=False)


def _large(rows):
    rows.data[:] = 70_000
    return rows


def test_two_keys_of_one_network_have_full_names(shelf, tmp_path):
    other = shelf.info("vggish", (3,), shelf.SOUND, more=1)
    store = shelf.make(tmp_path / "store", [shelf.HEARD, other, shelf.STILL])
    export(store, shelf.keys(store), ("plain",), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        name + end for name in (shelf.HEARD.key, other.key, "resnet152") for end in ("", ".csv")
    }


def test_without_a_manifest_the_list_has_ids(shelf, tmp_path):
    store = shelf.make(tmp_path / "store", [shelf.HEARD], ("x.y", "a/b"), manifest=False)
    export(store, shelf.keys(store), ("a/b", "x.y"), tmp_path / "out")
    lines = read_list(tmp_path / "out" / "vggish.csv")
    assert [line["video_path"] for line in lines] == ["a/b", "x.y"]
    assert [os.path.basename(line["feature_path"]) for line in lines] == ["a%2Fb.npy", "x.y.npy"]


def test_given_again_it_keeps_the_features(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    whole = shelf.files(tmp_path / "out")
    (tmp_path / "out" / "vggish" / "plain v.npy").unlink()
    (tmp_path / "out" / "vggish.csv").unlink()
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    assert (done.files, done.kept) == (1 + 5, 34)  # lists are always written anew
    assert shelf.files(tmp_path / "out") == whole
