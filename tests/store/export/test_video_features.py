"""Names, types and times as v-iashin/video_features writes them."""

from __future__ import annotations

import os

import numpy as np
import pytest

from extract.errors import PlanError, StoreError, StoreUnwritable
from extract.store.export.video_features import export, place


@pytest.mark.parametrize(
    ("backbone", "folder", "suffixes"),
    [
        ("resnet152", "resnet/resnet152", ("resnet", "fps", "timestamps_ms")),
        ("r2plus1d_18", "r21d/r2plus1d_18_16_kinetics", ("r21d",)),
        ("vgg19_ave", "vgg19_ave", ("vgg19_ave", "fps", "timestamps_ms")),
        ("clip_vit_b32", "clip/ViT-B_32", ("clip", "fps", "timestamps_ms")),
        ("vggish", "vggish", ("vggish",)),
    ],
)
def test_names_and_numbers(shelf, tmp_path, backbone, folder, suffixes):
    store = shelf.make(tmp_path / "store")
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    there = [clip_id for clip_id in shelf.IDS if clip_id != "failed"]
    assert {path.name for path in (tmp_path / "out" / folder).iterdir()} == {
        f"{clip_id} v_{suffix}.npy" for clip_id in there for suffix in suffixes
    }
    for clip_id in there:
        array = np.load(tmp_path / "out" / folder / f"{clip_id} v_{suffixes[0]}.npy")
        expected = store[clip_id, backbone]
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    assert done.files == 7 * 11
    assert sorted((each.clip_id, each.key) for each in done.missing) == [
        ("failed", key) for key in sorted(shelf.keys(store))
    ]
    assert "not_found" in done.missing[0].why
    assert done.size_bytes == sum(map(len, shelf.files(tmp_path / "out").values()))


def test_times_are_those_of_the_grid_as_the_tool_counts_them(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    for folder, rate in (("resnet/resnet152", 8), ("vgg19_ave", 2)):
        for clip_id in ("mute", "plain"):  # plain has one row
            stem = tmp_path / "out" / folder / f"{clip_id} v"
            fps, times = np.load(f"{stem}_fps.npy"), np.load(f"{stem}_timestamps_ms.npy")
            assert (fps.shape, fps.dtype, float(fps)) == ((), np.float64, rate)
            assert times.dtype == np.float64
            count = len(store[clip_id, folder.rpartition("/")[2]])
            np.testing.assert_array_equal(times, np.arange(count) / rate * 1000)


def test_an_identity_without_a_grid_leaves_the_windows_to_tell_the_rate(content, store_path, tmp_path):
    from extract.store import Store

    content.seal(store_path / "parts", content.make_records())
    store = Store(store_path)
    export(store, [content.STILL.key], content.ORDER, tmp_path / "out")
    paths = list((tmp_path / "out").rglob("*_fps.npy"))
    assert {len(np.load(str(path).replace("_fps", "_timestamps_ms"))) for path in paths} >= {1, 2}
    assert {float(np.load(path)) for path in paths} == {1.0}


def test_masked_rows_are_counted_in_a_note(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    assert any("masked rows: 1; " in note for note in done.notes)
    assert export(store, [shelf.STILL.key], shelf.IDS, tmp_path / "other").notes == ()


def test_given_again_it_writes_what_is_absent_or_cut(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    whole = shelf.files(tmp_path / "out")
    (tmp_path / "out" / "vggish" / "mute v_vggish.npy").unlink()
    os.truncate(tmp_path / "out" / "clip" / "ViT-B_32" / "plain v_fps.npy", 0)  # a power cut
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    assert (done.files, done.kept) == (2, 75)
    assert shelf.files(tmp_path / "out") == whole


def test_shared_stems_are_named_after_clips_in_every_part_of_the_manifest(shelf, tmp_path):
    store = shelf.make(tmp_path / "store", [shelf.HEARD], ("one", "two", "three"), ("1/v.mp4", "2/v.mp4", "w.mp4"))
    done = export(store, shelf.keys(store), ("three",), tmp_path / "out")
    assert list(shelf.files(tmp_path / "out")) == ["vggish/three_vggish.npy"]
    assert "2 clips are of videos called 'v'" in done.notes[0]


def test_without_a_manifest_files_are_named_after_clips(shelf, tmp_path):
    ids = ("a/b", "a.b")
    store = shelf.make(tmp_path / "store", [shelf.HEARD], ids, manifest=False)
    done = export(store, shelf.keys(store), ids, tmp_path / "out")
    assert list(shelf.files(tmp_path / "out")) == ["vggish/a%2Fb_vggish.npy", "vggish/a.b_vggish.npy"]
    assert "does not have 'a/b'" in done.notes[0]


def test_ids_that_would_be_one_file_are_refused(shelf, tmp_path):
    ids = ("a/b", "a%2Fb")
    store = shelf.make(tmp_path / "store", [shelf.HEARD], ids, manifest=False)
    with pytest.raises(PlanError, match="'a/b' and 'a%2Fb' would both be written as 'a%2Fb'"):
        export(store, shelf.keys(store), ids, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_keys_of_one_place_are_refused(shelf, tmp_path):
    other = shelf.info("vggish", (3,), shelf.SOUND, more=1)
    store = shelf.make(tmp_path / "store", [shelf.HEARD, other])
    with pytest.raises(PlanError, match=r"both belong into vggish/; choose one of them with --keys"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")


def test_cast_on_request_and_never_to_infinity(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    export(store, [shelf.STILL.key], ("plain",), tmp_path / "out", dtype="float16")
    array = np.load(tmp_path / "out" / "resnet" / "resnet152" / "plain v_resnet.npy")
    np.testing.assert_array_equal(array, store["plain", "resnet152"].astype(np.float16))
    assert array.dtype == np.float16
    store.rows = lambda clip_id, key, read=store.rows: _scaled(read(clip_id, key))
    with pytest.raises(
        StoreError, match=r"clip 'plain', resnet152@\w+: 1.* does not fit into float16.*--dtype float32"
    ):
        export(store, [shelf.STILL.key], ("plain",), tmp_path / "big", dtype="float16")
    assert shelf.files(tmp_path / "big") == {}


def _scaled(rows):
    rows.data[:] = 0
    rows.data[0, 0] = 100_000
    return rows


def test_a_folder_that_cannot_be_made(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(StoreUnwritable, match="out"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")


def test_every_network_has_a_place_of_its_own():
    from backbones import registry

    folders = [place(name).folder for name in (*registry.names(), "timm:resnet50.a1_in1k", "timm:resnet50")]
    assert len(set(folders)) == len(folders)
    assert place("timm:resnet50.a1_in1k").folder == "timm/resnet50.a1_in1k"
