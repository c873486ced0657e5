from __future__ import annotations

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from extract.errors import ManifestError
from manifests import ave
from manifests.clip import Clip, read_manifest, write_manifest
from manifests.dense import Event

ROWS = "Church bell&-aaaaaaaaa_&good&6&8\nMale speech, man speaking&bbbbbbbbbbb&good&0&10\nBark&-aaaaaaaaa_&good&0&4\n"


def small(tmp_path: Path, rows: str = "", **orders: list[int]) -> Path:
    """Three rows over two files, the last two of them with one video under two categories."""
    path = tmp_path / "Annotations.txt"
    path.write_text(ROWS + rows)
    for split, order in ({"train": [2, 0], "test": [1]} | orders).items():
        with h5py.File(tmp_path / f"{split}_order.h5", "w") as file:
            file["order"] = np.array(order, dtype=np.int64)
    return path


def test_one_clip_per_row_with_its_event(tmp_path: Path) -> None:
    built = ave.clips(small(tmp_path))
    assert built.clips == (
        Clip("-aaaaaaaaa__Church-bell", "-aaaaaaaaa_.mp4", labels=("Church bell",), split="train"),
        Clip(
            "bbbbbbbbbbb_Male-speech-man-speaking",
            "bbbbbbbbbbb.mp4",
            labels=("Male speech, man speaking",),
            split="test",
        ),
        Clip("-aaaaaaaaa__Bark", "-aaaaaaaaa_.mp4", labels=("Bark",), split="train"),
    )
    assert built.events == (
        Event("-aaaaaaaaa__Church-bell", "both", 6, 8, "Church bell"),
        Event("bbbbbbbbbbb_Male-speech-man-speaking", "both", 0, 10, "Male speech, man speaking"),
        Event("-aaaaaaaaa__Bark", "both", 0, 4, "Bark"),
    )
    assert built.problems == ()
    assert ave.categories(built.clips) == ("Church bell", "Male speech, man speaking", "Bark")
    assert "no val_order.h5 beside the annotations: no clip is in the split val" in built.notes
    assert "3 clips over 2 files: 1 rows name a file again, for another category" in built.notes


def test_the_header_of_the_other_version_is_no_row(tmp_path: Path) -> None:
    path = small(tmp_path)
    plain = ave.clips(path)
    path.write_text("Category&VideoID&Quality&StartTime&EndTime\n" + ROWS)
    assert ave.clips(path).clips == plain.clips


def test_a_row_left_out_keeps_its_number(tmp_path: Path) -> None:
    path = tmp_path / "Annotations.txt"
    small(tmp_path, train=[3], test=[1])
    path.write_text("broken row\n" + ROWS.replace("Church", "&Church") + "Goat&ccccccccccc&good&1&2\n")
    with pytest.raises(ManifestError, match="holds no rows Category&VideoID"):
        ave.clips(path)
    path.write_text(ROWS.replace("Church bell&", "Church&bell&") + "Goat&ccccccccccc&good&1&2\n")
    built = ave.clips(path)
    assert [(clip.clip_id, clip.split) for clip in built.clips] == [
        ("bbbbbbbbbbb_Male-speech-man-speaking", "test"),
        ("-aaaaaaaaa__Bark", ""),
        ("ccccccccccc_Goat", "train"),
    ]
    assert "1 clips are in no order file; their split is empty" in built.notes


@pytest.mark.parametrize(
    ("row", "says", "kept", "events"),
    [
        ("Goat&ccccccccccc&good&0&0", "the event from 0 to 0 is empty (kept: all of it is background)", True, 0),
        ("Goat&ccccccccccc&good&5&2", "the event from 5 to 2 is empty", True, 0),
        ("Goat&ccccccccccc&good&0.5&2", "start '0.5' and end '2' must be whole seconds (kept", True, 0),
        ("Goat&ccccccccccc&good&8&11", "the event ends at 11, beyond the clip's 10 s (kept)", True, 1),
        ("Goat&cccc&good&0&2", "'cccc' is not an 11-character YouTube id (kept)", True, 1),
        ("Goat&ccccccccccc&good&0", "4 columns separated by &, must be 5 (left out)", False, 0),
        ("Goat&&good&0&2", "must not be empty (left out)", False, 0),
        ("Goat&cccc/cccccc&good&0&2", "not safe as a name", False, 0),
        ("Goat;Dog&ccccccccccc&good&0&2", "without ';'", False, 0),
        ("Bark&-aaaaaaaaa_&good&5&6", "this video has this category on line 3 already (left out)", False, 0),
    ],
)
def test_dirty_rows_are_reported(row: str, says: str, kept: bool, events: int, tmp_path: Path) -> None:
    path = small(tmp_path, row + "\n")
    built = ave.clips(path)
    (problem,) = built.problems
    assert (problem.file, problem.line, problem.text) == (str(path), 4, row)
    assert says in problem.message
    assert (len(built.clips), len(built.events)) == (3 + kept, 3 + events)


def test_orders_that_cannot_be(tmp_path: Path) -> None:
    path = small(tmp_path, train=[0, 7, -1], test=[1, 0])
    built = ave.clips(path)
    assert [clip.split for clip in built.clips] == ["train", "test", ""]
    assert [(p.text, p.message.split(" (")[0]) for p in built.problems] == [
        ("7", "entry 2 is no row of the annotations, which have 3"),
        ("-1", "entry 3 is no row of the annotations, which have 3"),
        ("0", "entry 2 names a row that is in the split train already, where it stays"),
    ]


def test_leaks_are_said_and_kept(tmp_path: Path) -> None:
    built = ave.clips(small(tmp_path, train=[0], test=[1, 2]))
    assert "1 files are in both train and test, as published: -aaaaaaaaa_.mp4" in built.notes
    assert len(built.clips) == 3


def test_order_files_of_another_form(tmp_path: Path) -> None:
    path = small(tmp_path)
    bad = tmp_path / "bad.h5"
    with pytest.raises(ManifestError, match=r"no order file at .*bad.h5"):
        ave.clips(path, val=bad)
    bad.write_text("not HDF5")
    with pytest.raises(ManifestError, match=r"bad.h5 is no HDF5 file with a dataset 'order'"):
        ave.clips(path, val=bad)
    for name, value in (("other", np.arange(3)), ("order", np.zeros(3)), ("order", np.zeros((2, 2), dtype=int))):
        with h5py.File(bad, "w") as file:
            file[name] = value
        with pytest.raises(ManifestError, match="'order'"):
            ave.clips(path, val=bad)


def test_nothing_usable(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("")
    with pytest.raises(ManifestError, match=r"holds no rows Category&VideoID&Quality&Start&End"):
        ave.clips(path)
    path.write_text("a&b\n")
    with pytest.raises(ManifestError, match=r"no usable row; the first problem: .*a.txt:1: 2 columns"):
        ave.clips(path)


def test_official_list(shared: Path, tmp_path: Path) -> None:
    built = ave.clips(shared / "data/ave/Annotations.txt")
    assert len(built.clips) == 4_143
    assert len({clip.path for clip in built.clips}) == 4_097
    assert Counter(clip.split for clip in built.clips) == {"train": 3_339, "val": 402, "test": 402}
    (problem,) = built.problems
    assert (problem.line, problem.text) == (27, "Church bell&VWi2ENBuTbw&good&0&0")
    assert built.clips[26].path == "VWi2ENBuTbw.mp4"
    write_manifest(tmp_path / "ave.csv", built.clips)
    assert tuple(read_manifest(tmp_path / "ave.csv")) == built.clips
    assert any(note.startswith("8 files are in both train and test") for note in built.notes)
    assert any(note.startswith("10 files are in both train and val") for note in built.notes)
    for split in ("train", "val", "test"):
        with h5py.File(shared / f"data/ave/{split}_order.h5") as file:
            rows = file["order"][()]
        assert {built.clips[row].split for row in rows} == {split}


def test_official_classes_and_events_agree_with_the_official_arrays(shared: Path) -> None:
    built = ave.clips(shared / "data/ave/Annotations.txt")
    classes = ave.categories(built.clips)
    assert len(classes) == 28
    assert (classes[0], classes[6], classes[27]) == ("Church bell", "Helicopter", "Mandolin")
    with h5py.File(shared / "data/ave/mil_labels.h5") as file:
        mil = file["avadataset"][()]
    assert [classes.index(clip.labels[0]) for clip in built.clips] == mil.argmax(axis=1).tolist()
    with h5py.File(shared / "data/ave/labels_closs.h5") as file:
        segments = file["avadataset"][()]
    rows = {clip.clip_id: row for row, clip in enumerate(built.clips)}
    ours = np.zeros((4_143, 10))
    for event in built.events:
        ours[rows[event.clip_id], event.onset_s : event.offset_s] = 1
    assert np.array_equal(ours, segments)
