"""Archives as openl3 writes those of videos."""

from __future__ import annotations

import os

import numpy as np
import pytest

from extract.errors import PlanError
from extract.store.export.openl3 import default_keys, export

SUFFIX = {
    "resnet152": "image_resnet152",
    "r2plus1d_18": "image_r2plus1d_18",
    "vgg19_ave": "image_vgg19_ave",
    "clip_vit_b32": "image_clip_vit_b32",
    "vggish": "audio_vggish",
}


def test_names_arrays_and_times(shelf, tmp_path):
    heard = shelf.info("openl3_audio_mel256_env_512", (4,), shelf.SOUND)
    seen = shelf.info("openl3_image_mel256_env_512", (4,), shelf.PICTURES)
    store = shelf.make(tmp_path / "store", (*shelf.ALONE, heard, seen))
    (tmp_path / "out").mkdir()
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    suffixes = {**SUFFIX, heard.key: "audio_mel256_env_512", seen.key: "image_mel256_env_512"}
    there = [clip_id for clip_id in shelf.IDS if clip_id != "failed"]
    assert set(shelf.files(tmp_path / "out")) == {f"{i} v_{suffix}.npz" for i in there for suffix in suffixes.values()}
    for name, suffix in suffixes.items():
        for clip_id in there:
            rows = store.rows(clip_id, name)
            with np.load(tmp_path / "out" / f"{clip_id} v_{suffix}.npz") as data:
                assert sorted(data) == ["embedding", "timestamps", "valid"]
                np.testing.assert_array_equal(data["embedding"], rows.data.reshape(len(rows.data), -1))
                assert data["embedding"].dtype == rows.data.dtype
                hop_s = {"resnet152": 1 / 8, "vgg19_ave": 1 / 2}.get(name, 1)
                np.testing.assert_array_equal(data["timestamps"], np.arange(len(rows.data)) * hop_s)
                assert data["timestamps"].dtype == np.float64
                np.testing.assert_array_equal(data["valid"], rows.valid == 1)
    assert (done.files, done.kept, len(done.missing), done.notes) == (49, 0, 7, ())


def test_a_network_that_sees_and_hears_has_no_place(shelf, tmp_path):
    store = shelf.make(tmp_path / "store", [shelf.JOINT, shelf.HEARD])
    assert default_keys(store) == (shelf.HEARD.key,)
    with pytest.raises(PlanError, match=r"joint@\w+ sees and hears.*leave it out with --keys"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path)


def test_imported_features_are_placed_by_their_network(shelf, tmp_path):
    imported = [shelf.info(name, (3,), '[{"kind":"imported"}]') for name in ("vggish", "res")]
    store = shelf.make(tmp_path / "store", imported)
    assert default_keys(store) == (imported[0].key,)
    with pytest.raises(PlanError, match=r"res@\w+ does not say whether it sees or hears"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path)


def test_given_again_it_writes_what_is_absent_or_cut_and_equal_bytes(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    for name in ("out", "other"):
        (tmp_path / name).mkdir()
        export(store, shelf.keys(store), shelf.IDS, tmp_path / name)
    whole = shelf.files(tmp_path / "out")
    assert shelf.files(tmp_path / "other") == whole
    (tmp_path / "out" / "mute v_audio_vggish.npz").unlink()
    os.truncate(tmp_path / "out" / "plain v_audio_vggish.npz", 10)
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    assert (done.files, done.kept) == (2, 33)
    assert shelf.files(tmp_path / "out") == whole


def test_two_keys_of_one_network_have_full_names(shelf, tmp_path):
    other = shelf.info("vggish", (3,), shelf.SOUND, more=1)
    store = shelf.make(tmp_path / "store", [shelf.HEARD, other])
    export(store, shelf.keys(store), ("plain",), tmp_path, dtype="float16")
    names = [f"plain v_audio_{key}.npz" for key in sorted((shelf.HEARD.key, other.key))]
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == names
    assert np.load(tmp_path / names[0])["embedding"].dtype == np.float16
