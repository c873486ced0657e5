"""The layout of AVE: names, shapes, types, order, labels, what stands for missing rows, memory, kills, full disks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from extract.errors import ManifestError, PlanError, StoreError, StoreUnwritable
from extract.store import Store
from extract.store.export import ave, export
from extract.store.export.ave_rows import from_annotations, from_store
from extract.store.rows import Remark
from manifests import ave as corpus
from manifests.clip import write_manifest
from manifests.dense import write_dense

HELPER = Path(__file__).parents[1] / "ave_store.py"
IDS = (
    "-aaaaaaaaa__Church-bell",
    "bbbbbbbbbbb_Male-speech-man-speaking",
    "-aaaaaaaaa__Bark",
    "ccccccccccc_Mandolin",
    "ddddddddddd_Bark",
)


@pytest.fixture(scope="session")
def made(ave_store):
    return ave_store


@pytest.fixture
def data(made, tmp_path):
    return made.official(tmp_path / "official")


def both(made):
    return made.AUDIO.key, made.VISUAL.key


def write(store, out, made, ids=(), **options):
    return ave.export(store, both(made), ids or (*store.manifest, *store.clip_ids()), out, **options)


def test_the_folder_is_what_the_official_code_opens(made, data, tmp_path):
    store = Store(made.full(tmp_path / "store", data))
    done = write(store, tmp_path / "out", made, annotations=data)
    assert (done.files, done.kept, done.missing) == (11, 0, ())
    assert done.size_bytes == sum(path.stat().st_size for path in (tmp_path / "out" / "data").iterdir())
    shapes = {
        "audio_feature.h5": ("avadataset", (5, 10, 128), "<f8"),
        "visual_feature.h5": ("avadataset", (5, 10, 7, 7, 512), "<f8"),
        "labels.h5": ("avadataset", (5, 10, 29), "<f4"),
        "right_labels.h5": ("avadataset", (5, 10, 29), "<f4"),
        "mil_labels.h5": ("avadataset", (5, 29), "<f4"),
        "labels_closs.h5": ("avadataset", (5, 10), "<f4"),
        "prob_label.h5": ("avadataset", (5, 29), "<f4"),
        "train_order.h5": ("order", (3,), "<i8"),
        "val_order.h5": ("order", (1,), "<i8"),
        "test_order.h5": ("order", (1,), "<i8"),
    }
    folder = tmp_path / "out" / "data"
    assert {path.name for path in folder.iterdir()} == {*shapes, "Annotations.txt"}
    for file, (name, shape, dtype) in shapes.items():
        with h5py.File(folder / file, "r") as h5:
            assert list(h5) == [name], file
            assert (h5[name].shape, h5[name].dtype) == (shape, np.dtype(dtype)), file
            assert h5[name].chunks is h5[name].compression is None, file
            assert len(h5[name].attrs) + len(h5.attrs) == 0, file
    assert (folder / "Annotations.txt").read_bytes() == (data / "Annotations.txt").read_bytes()
    found = made.arrays(folder)
    for row, clip in enumerate(IDS):
        assert (found["audio_feature.h5"][row] == store[clip, "vggish"]).all()
        assert (found["visual_feature.h5"][row] == store[clip, "vgg19_ave"]).all()
    assert (found["visual_feature.h5"][0] == found["visual_feature.h5"][2]).all(), "one video under two categories"
    assert {name: found[f"{name}_order.h5"].tolist() for name in made.ORDERS} == made.ORDERS
    closs = [[6, 7], list(range(10)), [0, 1, 2, 3], [], [9]]
    assert [np.flatnonzero(row).tolist() for row in found["labels_closs.h5"]] == closs
    assert found["mil_labels.h5"].argmax(1).tolist() == [0, 1, 2, 27, 2]
    assert found["labels.h5"][3].argmax(1).tolist() == [28] * 10
    np.testing.assert_array_equal(found["prob_label.h5"], found["labels.h5"].mean(axis=1))
    assert any("402" in note for note in done.notes)


def test_the_official_labels_are_rebuilt(shared):
    table = from_annotations(shared / "data" / "ave")
    with h5py.File(shared / "data/derived/ave_labels_rebuilt.h5", "r") as file:
        labels, prob = file["avadataset"][...], file["prob"][...]
    assert table.labels().dtype == labels.dtype
    np.testing.assert_array_equal(table.labels(), labels)
    np.testing.assert_array_equal(table.prob_labels(), prob)
    for name, ours in (("mil_labels", table.mil_labels()), ("labels_closs", table.closs_labels())):
        with h5py.File(shared / f"data/ave/{name}.h5", "r") as file:
            assert ours.dtype == file["avadataset"].dtype
            np.testing.assert_array_equal(ours, file["avadataset"][...])
    for split in ("train", "val", "test"):
        with h5py.File(shared / f"data/ave/{split}_order.h5", "r") as file:
            np.testing.assert_array_equal(table.orders[split], file["order"][...])
    assert len(set(table.video_ids)) == 4097
    assert table.notes == ()


def test_the_store_alone_gives_the_same_table(made, shared, tmp_path):
    """The manifest and its events hold all that Annotations.txt says, but for the shuffled order."""
    data = shared / "data" / "ave"
    built = corpus.clips(data / "Annotations.txt")
    path = made.store(tmp_path / "store", [built.clips[0].clip_id], [made.AUDIO])
    write_manifest(path / "manifest.csv", built.clips)
    write_dense(path / "manifest.dense.csv", built.events)
    ours, theirs = from_store(Store(path)), from_annotations(data)
    assert ours.annotations == (data / "Annotations.txt").read_bytes()
    assert (ours.clip_ids, ours.video_ids) == (theirs.clip_ids, theirs.video_ids)
    np.testing.assert_array_equal(ours.labels(), theirs.labels())
    for split, order in theirs.orders.items():
        np.testing.assert_array_equal(ours.orders[split], np.sort(order))


def test_rows_that_are_missing(made, data, tmp_path):
    path = made.full(
        tmp_path / "store",
        data,
        without=[(IDS[4], made.VISUAL.key), (IDS[1], made.AUDIO.key), (IDS[1], made.VISUAL.key)],
        failed=[Remark(IDS[4], made.VISUAL.key, "decode", "truncated", "at 3 s")],
    )
    store = Store(path)
    done = write(store, tmp_path / "out", made, annotations=data)
    found = made.arrays(tmp_path / "out" / "data")
    assert found["visual_feature.h5"].shape[0] == 5
    assert not found["visual_feature.h5"][[1, 4]].any()
    assert (found["audio_feature.h5"][4] == store[IDS[4], "vggish"]).all(), "what is there is written"
    assert [found[f"{split}_order.h5"].tolist() for split in made.ORDERS] == [[0, 2], [3], []]
    assert [(each.clip_id, each.key.split("@")[0], each.why) for each in done.missing] == [
        (IDS[1], "vggish", "the store has no rows of it"),
        (IDS[1], "vgg19_ave", "the store has no rows of it"),
        (IDS[4], "vgg19_ave", "truncated: at 3 s"),
    ]
    assert any(note.startswith("2 row(s) lack features") for note in done.notes)
    write(store, tmp_path / "zero", made, annotations=data, missing="zero")
    zero = made.arrays(tmp_path / "zero" / "data")
    assert [zero[f"{split}_order.h5"].tolist() for split in made.ORDERS] == list(made.ORDERS.values())
    assert not zero["visual_feature.h5"][[1, 4]].any()
    with pytest.raises(StoreError, match=r"2 of 5 rows have no features.*bbbbbbbbbbb"):
        write(store, tmp_path / "error", made, annotations=data, missing="error")
    assert not (tmp_path / "error").exists()


def test_a_row_takes_the_features_of_its_video(made, data, tmp_path):
    """Of another category's clip, or of a clip under the video's bare id; a clip of other length does not fit."""
    path = made.store(
        tmp_path / "store",
        [IDS[2], "bbbbbbbbbbb", "ccccccccccc", IDS[4]],
        counts={(IDS[4], made.AUDIO.key): 9},
    )
    store = Store(path)
    done = write(store, tmp_path / "out", made, annotations=data)
    found = made.arrays(tmp_path / "out" / "data")
    for row, clip in enumerate((IDS[2], "bbbbbbbbbbb", IDS[2], "ccccccccccc")):
        assert (found["audio_feature.h5"][row] == store[clip, "vggish"]).all(), row
        assert (found["visual_feature.h5"][row] == store[clip, "vgg19_ave"]).all(), row
    assert [(each.clip_id, each.why) for each in done.missing] == [(IDS[4], "9 rows; the layout holds 10")]
    assert found["train_order.h5"].tolist() == [0, 2]
    assert any(note.startswith("3 row(s) have the features that the store keeps of their video") for note in done.notes)


def test_clips_that_were_not_asked_for(made, data, tmp_path):
    store = Store(made.full(tmp_path / "store", data))
    done = write(store, tmp_path / "out", made, ids=store.split_ids("train"))
    found = made.arrays(tmp_path / "out" / "data")
    assert done.missing == ()
    assert not found["audio_feature.h5"][[1, 3]].any()
    assert found["audio_feature.h5"][[0, 2, 4]].any(axis=(1, 2)).all()
    assert [found[f"{split}_order.h5"].tolist() for split in made.ORDERS] == [[0, 2, 4], [], []]
    assert "2 row(s) were not asked for: they are zeros and in no order file" in done.notes


def test_keys_that_do_not_fit(made, data, tmp_path):
    second = made.info("vggish", (128,), hop=2)
    other = made.info("panns", (128,))
    keys = [made.AUDIO, second, other, made.VISUAL]
    path = made.store(tmp_path / "store", IDS[:1], keys)
    store = Store(path)
    with pytest.raises(PlanError, match=r"2 features fit audio_feature.h5: vggish@.*--keys"):
        ave.default_keys(store)
    with pytest.raises(PlanError, match="3 features fit"):
        ave.export(store, [key.key for key in keys], IDS, tmp_path / "out", annotations=data)
    with pytest.raises(PlanError, match=r"visual_feature\.h5 holds 10 rows of"):
        ave.export(store, [made.AUDIO.key], IDS, tmp_path / "out", annotations=data)
    only = Store(made.store(tmp_path / "only", IDS[:1], [made.AUDIO, other, made.VISUAL]))
    assert ave.default_keys(only) == both(made)
    third = Store(made.store(tmp_path / "third", IDS[:1], [made.AUDIO, made.VISUAL, made.info("clip", (512,))]))
    with pytest.raises(PlanError, match="no file for clip@"):
        ave.export(third, list(third.columns), IDS, tmp_path / "out", annotations=data)
    assert not (tmp_path / "out").exists()


def test_annotations_that_cannot_be_used(made, data, tmp_path):
    store = Store(made.full(tmp_path / "store", data))
    made.official(tmp_path / "short", made.LINES[:3])
    with pytest.raises(ManifestError, match=r"names rows from 0 to 4; the annotations have 3"):
        write(store, tmp_path / "out", made, annotations=tmp_path / "short")
    made.official(tmp_path / "broken", ["Bark&ccc", *made.LINES])
    with pytest.raises(ManifestError, match="cannot be used, and without them all others"):
        write(store, tmp_path / "out", made, annotations=tmp_path / "broken")
    made.official(tmp_path / "other", ["Barking&ccccccccccc&good&0&10", *made.LINES[1:]])
    with pytest.raises(ManifestError, match="'Barking', which is none of AVE's 28"):
        write(store, tmp_path / "out", made, annotations=tmp_path / "other")
    (store.path / "manifest.dense.csv").unlink()
    with pytest.raises(StoreError, match=r"no manifest.dense.csv.*--annotations"):
        write(Store(store.path), tmp_path / "out", made)
    (store.path / "manifest.csv").unlink()
    with pytest.raises(StoreError, match=r"is not AVE's.*--annotations"):
        write(Store(store.path), tmp_path / "out", made)
    assert not (tmp_path / "out").exists()


def test_equal_content_equal_bytes_and_what_is_whole_is_kept(made, data, tmp_path):
    store = Store(made.full(tmp_path / "store", data))
    write(store, tmp_path / "one", made, annotations=data)
    time.sleep(1.1)  # or a time in a header would be the same
    write(store, tmp_path / "two", made, annotations=data)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "data").iterdir()} for name in ("one", "two")
    )
    assert one == two
    for cut in (100, 5 * 10 * 128 * 8, len(one["visual_feature.h5"]) - 1):
        (tmp_path / "two/data/visual_feature.h5").write_bytes(one["visual_feature.h5"][:cut])
        done = write(store, tmp_path / "two", made, annotations=data)
        assert (done.files, done.kept) == (10, 1)
        assert (tmp_path / "two/data/visual_feature.h5").read_bytes() == one["visual_feature.h5"]
    assert write(store, tmp_path / "two", made, annotations=data).kept == 2


def test_full_disk(made, data, tmp_path, small_disk):
    """Every page at which the disk can be full; nothing broken stays, and the same export then finishes."""
    store = Store(made.store(tmp_path / "store", IDS))
    disk = small_disk("11m")
    free = os.statvfs(disk).f_bavail * 4096
    for leave in (*range(0, 120_000, 8192), 4_000_000, 10_030_000):
        (disk / "filler").write_bytes(b"x" * (free - leave))
        with pytest.raises(StoreUnwritable, match=r"bytes needed, .* free\): .*the disk is full"):
            write(store, disk / "out", made, annotations=data)
        for path in (disk / "out").rglob("*"):
            if path.suffix == ".h5":
                with h5py.File(path, "r"):
                    pass
            else:
                assert path.name in ("data", "Annotations.txt"), path
        (disk / "filler").unlink()
    done = write(store, disk / "out", made, annotations=data)
    assert done.files + done.kept == 11
    write(store, tmp_path / "out", made, annotations=data)
    for path in (tmp_path / "out/data").iterdir():
        assert (disk / "out/data" / path.name).read_bytes() == path.read_bytes()


LARGE = """
import resource, sys
from pathlib import Path
import ave_store
from extract.store import Store
from extract.store.export import export
store, data, out = map(Path, sys.argv[1:])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export(Store(store), "ave", out, annotations=data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.fixture(scope="module")
def large(made, tmp_path_factory):
    """160 rows over 8 videos, each under 20 categories: a visual file of 321 MB out of a store of 8 MB."""
    folder = tmp_path_factory.mktemp("large")
    videos = [f"video{i:06d}" for i in range(8)]
    lines = [f"{label}&{video}&good&0&10" for label in corpus.LABELS[:20] for video in videos]
    data = made.official(folder / "data", lines, {"train": list(range(len(lines)))[::-1]})
    return made.store(folder / "store", videos), data


def start(script, *args):
    env = {**os.environ, "PYTHONPATH": str(HELPER.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_memory_is_bounded(large, tmp_path):
    said, errors = (done := start(LARGE, *large, tmp_path / "out")).communicate(timeout=120)
    assert done.returncode == 0, errors
    assert (tmp_path / "out/data/visual_feature.h5").stat().st_size > 320_000_000
    assert int(said) < 64_000_000


def test_killed_at_any_time(made, large, tmp_path):
    """Files are whole or absent, and the same export given again finishes, with the bytes of an undisturbed one."""
    dice, out = random.Random(4), tmp_path / "out"
    for _ in range(4):
        process = start(LARGE, *large, out)
        time.sleep(0.4 + dice.random() * 0.8)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for path in (out / "data").glob("[!.]*.h5") if out.exists() else ():
            with h5py.File(path, "r") as file:
                (name,) = file
                assert file[name].id.get_offset() + file[name].id.get_storage_size() <= path.stat().st_size
    export(Store(large[0]), "ave", out, annotations=large[1])
    assert not [path for path in out.rglob("*") if path.suffix == ".tmp"]
    found = made.arrays(out / "data")
    store = Store(large[0])
    for row in (0, 7, 8, 159):
        assert (found["visual_feature.h5"][row] == store[f"video{row % 8:06d}", "vgg19_ave"]).all()
    assert found["train_order.h5"].tolist() == list(range(160))[::-1]
