from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from extract.errors import ManifestError
from manifests import llp
from manifests.clip import Clip, read_manifest, write_manifest
from manifests.dense import Event, by_clip

WEAK = "filename\tevent_labels\n"
DENSE = "filename\tonset\toffset\tevent_labels\n"
A, B, C = "-a_cdefghij_20_30", "BBBBBBBBBBB_101.8_111.8", "CCCCCCCCCCC_0_10"


def small(tmp_path: Path, rows: str = "") -> Path:
    """An annotation folder of three clips, one per split, with events."""
    path = tmp_path / "AVVP_dataset_full.csv"
    path.write_text(f"{WEAK}{A}\tSpeech,Dog\n{B}\tFrying_(food)\n{C}\tCat\n{rows}")
    (tmp_path / "AVVP_train.csv").write_text(f"{WEAK}{A}\tSpeech,Dog\n")
    (tmp_path / "AVVP_val_pd.csv").write_text(f"{WEAK}{B}\tFrying_(food)\n")
    (tmp_path / "AVVP_test_pd.csv").write_text(f"{WEAK}{C}\tCat\n")
    (tmp_path / "AVVP_eval_audio.csv").write_text(f"{DENSE}{B}\t0\t4\tFrying_(food)\n{C}\t8\t10\tCat\n")
    (tmp_path / "AVVP_eval_visual.csv").write_text(f"{DENSE}{B}\t0\t10\tFrying_(food)\n")
    return path


def test_ids_keep_their_span_and_files_are_used_whole(tmp_path: Path) -> None:
    built = llp.clips(small(tmp_path))
    assert built.clips == (
        Clip(A, "-a_cdefghij.mp4", 0, None, ("Speech", "Dog"), "train"),
        Clip(B, "BBBBBBBBBBB.mp4", 0, None, ("Frying_(food)",), "val"),
        Clip(C, "CCCCCCCCCCC.mp4", 0, None, ("Cat",), "test"),
    )
    assert built.problems == ()
    assert built.missing is None
    assert built.events == (
        Event(B, "audio", 0, 4, "Frying_(food)"),
        Event(C, "audio", 8, 10, "Cat"),
        Event(B, "visual", 0, 10, "Frying_(food)"),
    )
    digest = hashlib.sha256((tmp_path / "AVVP_eval_audio.csv").read_bytes()).hexdigest()
    assert any("AVVP_eval_audio.csv (not an official version)" in note and digest in note for note in built.notes)
    assert "1 of 2 val and test clips have no visual event" in built.notes


def test_full_videos_and_other_extensions(tmp_path: Path) -> None:
    built = llp.clips(small(tmp_path), full_videos=True, extension=".mkv")
    assert built.clips[1] == Clip(B, "BBBBBBBBBBB.mkv", 101_800_000_000, 111_800_000_000, ("Frying_(food)",), "val")
    with pytest.raises(ManifestError, match="extension 'mkv' must begin with a dot"):
        llp.clips(small(tmp_path), extension="mkv")


def test_missing_files_are_counted_and_nothing_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "-a_cdefghij.mp4").touch()
    built = llp.clips(small(tmp_path), tmp_path / "v")
    assert len(built.clips) == 3
    assert built.missing == ("BBBBBBBBBBB.mp4", "CCCCCCCCCCC.mp4")
    assert built.notes[-1].startswith(f"2 of 3 files are not in {tmp_path / 'v'}: BBBBBBBBBBB.mp4, ")
    with pytest.raises(ManifestError, match="is not a folder"):
        llp.clips(small(tmp_path), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("row", "says", "kept"),
    [
        ("DDDDDDDDDDD_0_10", "1 TAB-separated columns, must be 2", False),
        ("DDDDDDDDDDD_0_10\tCat\tDog", "3 TAB-separated columns", False),
        ("DDDDDDDDDD_0_10\tCat", "must be <11-character YouTube id>_<start>_<end>", False),
        ("DDDDDDDDDDD_0\tCat", "must be <11-character YouTube id>", False),
        ("DDDDDDDDDDD_0_10`\tCat", "must be <11-character YouTube id>", False),
        ("DDDDDDDDDDD_0.0123456789_10\tCat", "10 places", False),
        ("DDDDDDDDDDD_0_10\tCat,Cow", "not among the 25 labels of LLP: 'Cow'", False),
        ("DDDDDDDDDDD_0_10\tCat, Dog", "not among the 25 labels of LLP: ' Dog'", False),
        ("DDDDDDDDDDD_0_10\t", "not among the 25 labels of LLP: ''", False),
        (f"{C}\tDog", "id already on line 4", False),
        ("DDDDDDDDDDD_0_10\tCat,Cat", "a label is there twice", True),
        ("DDDDDDDDDDD_30_400\tCat", "the span is not 10 s", True),
        ("CCCCCCCCCCC_50_60\tCat", "its file CCCCCCCCCCC.mp4 is also that of line 4", True),
    ],
)
def test_dirty_rows_are_reported_and_never_repaired(row: str, says: str, kept: bool, tmp_path: Path) -> None:
    path = small(tmp_path, f"\n{row}\n")
    built = llp.clips(path)
    (problem,) = built.problems
    assert (problem.file, problem.line, problem.text) == (str(path), 6, row)
    assert says in problem.message
    assert ("(kept)" if kept else "(left out)") in problem.message or "(kept);" in problem.message
    assert str(problem).startswith(f"{path}:6: ")
    assert len(built.clips) == 3 + kept
    if kept:
        clip_id, labels = row.split("\t")
        assert built.clips[-1].clip_id == clip_id
        assert built.clips[-1].labels == tuple(labels.split(","))


def test_full_videos_whose_span_is_empty_are_left_out(tmp_path: Path) -> None:
    built = llp.clips(small(tmp_path, "DDDDDDDDDDD_30_20\tCat\n"), full_videos=True)
    assert [problem.message for problem in built.problems] == ["the span ends before it begins (left out)"]
    assert len(built.clips) == 3


def test_splits_that_disagree_are_reported(tmp_path: Path) -> None:
    path = small(tmp_path)
    (tmp_path / "AVVP_val_pd.csv").write_text(f"{WEAK}{B}\tCat\n{A}\tSpeech,Dog\n")
    built = llp.clips(path)
    assert [clip.split for clip in built.clips] == ["train", "val", "test"]
    assert [(p.file, p.line) for p in built.problems] == [(str(tmp_path / "AVVP_val_pd.csv"), 3), (str(path), 3)]
    assert "already in the split train" in built.problems[0].message
    assert "differ from 'Cat' in the val split" in built.problems[1].message


def test_split_files_can_be_absent_or_elsewhere(tmp_path: Path) -> None:
    path = small(tmp_path)
    other = tmp_path / "mine.csv"
    (tmp_path / "AVVP_test_pd.csv").rename(other)
    built = llp.clips(path)
    assert [clip.split for clip in built.clips] == ["train", "val", ""]
    assert "no AVVP_test_pd.csv beside the annotations: no clip is in the split test" in built.notes
    assert "1 clips are in no split file; their split is empty" in built.notes
    assert [clip.split for clip in llp.clips(path, test=other).clips] == ["train", "val", "test"]
    with pytest.raises(ManifestError, match=r"there is no annotation file at .*gone"):
        llp.clips(path, test=tmp_path / "gone.csv")


def test_a_split_file_alone_does_not_call_the_rest_unknown(tmp_path: Path) -> None:
    small(tmp_path)
    built = llp.clips(tmp_path / "AVVP_val_pd.csv")
    assert [(clip.clip_id, clip.split) for clip in built.clips] == [(B, "val")]
    assert built.problems == ()
    assert {event.clip_id for event in built.events} == {B}
    assert "1 events belong to clips that are not in the annotations" in built.notes


@pytest.mark.parametrize(
    ("row", "says", "kept"),
    [
        (f"{C}\t9\t9\tCat", "offset 9 is not after onset 9", False),
        (f"{C}\t9\t0\tCat", "offset 0 is not after onset 9", False),
        (f"{C}\t8\t10\tCat", "the same as line 3 (kept)", True),
        (f"{C}\t8\t12\tCat", "offset 12 is beyond the clip's 10 s", True),
        ("CCCCCCCCC_0_10\t0\t9\tCat", "no clip has this filename", False),
        (f"{C}\t0\t9\tCow", "'Cow' is not among the 25", False),
        (f"{C}\t0.5\t9\tCat", "whole seconds", False),
        (f"{C}\t0\tCat", "3 TAB-separated columns, must be 4", False),
    ],
)
def test_dirty_events_are_reported(row: str, says: str, kept: bool, tmp_path: Path) -> None:
    path = small(tmp_path)
    audio = tmp_path / "AVVP_eval_audio.csv"
    with audio.open("a") as file:
        file.write(row + "\n")
    built = llp.clips(path)
    (problem,) = built.problems
    assert (problem.file, problem.line, problem.text) == (str(audio), 4, row)
    assert says in problem.message
    assert len(built.events) == 3 + kept


@pytest.mark.parametrize("text", ["", "filename,event_labels\nx,y\n", f"{A}\tCat\n"])
def test_another_header_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(ManifestError, match=r"line 1: the header must be 'filename\\tevent_labels'"):
        llp.clips(path)


def test_no_usable_row_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{WEAK}bad\tCat\n")
    with pytest.raises(ManifestError, match=r"no usable row; the first problem: .*x.csv:2: the filename must be"):
        llp.clips(path)
    path.write_text(WEAK)
    with pytest.raises(ManifestError, match="there are no rows"):
        llp.clips(path)
    with pytest.raises(ManifestError, match="there is no annotation file at"):
        llp.clips(tmp_path / "gone.csv")


def test_one_download_may_hold_two_clips(tmp_path: Path) -> None:
    built = llp.clips(small(tmp_path, "CCCCCCCCCCC_50_60\tCat\n"), full_videos=True)
    assert built.problems == ()
    assert [clip.start_ns for clip in built.clips if clip.path == "CCCCCCCCCCC.mp4"] == [0, 50_000_000_000]


def test_the_third_of_a_kind_names_the_first(tmp_path: Path) -> None:
    path = small(tmp_path)
    with (tmp_path / "AVVP_eval_audio.csv").open("a") as file:
        file.write(f"{C}\t8\t10\tCat\n" * 2)
    assert [problem.message for problem in llp.clips(path).problems] == ["the same as line 3 (kept)"] * 2


def test_classes_have_the_official_index() -> None:
    official = (
        "Speech,Car,Cheering,Dog,Cat,Frying_(food),Basketball_bounce,Fire_alarm,Chainsaw,Cello,Banjo,Singing,"
        "Chicken_rooster,Violin_fiddle,Vacuum_cleaner,Baby_laughter,Accordion,Lawn_mower,Motorcycle,Helicopter,"
        "Acoustic_guitar,Telephone_bell_ringing,Baby_cry_infant_cry,Blender,Clapping"
    )
    assert ",".join(llp.LABELS) == official


def test_is_llp() -> None:
    good = [Clip(A, "a", labels=("Speech",)), Clip(B, "b", labels=("Dog", "Cat"))]
    assert llp.is_llp(good)
    assert not llp.is_llp([])
    assert not llp.is_llp([*good, Clip(C, "c", labels=("Cow",))])
    assert not llp.is_llp([*good, Clip(C, "c")])
    assert not llp.is_llp([*good, Clip("demo_0_10", "c", labels=("Dog",))])
    assert not llp.is_llp([*good, Clip("CCCCCCCCCCC", "c", labels=("Dog",))])


# ---- the real files ---------------------------------------------------------------------------------------------------

EMPTY_EVENTS = [48, 66, 100, 129, 137, 3770]
REPEATED = [223, 224, 289, 3404, 3553, 3554, 4005, 4006]
UNKNOWN = [19, 20, 53, 54, 60, 64, 65, 66, 91, 92, 1007, 1008, 3046, 3790]
UNKNOWN_SEEN = [11, 31, 32, 39, 55, 56, 620, 621, 1879, 1880, 2302]


def lines_of(problems: tuple[llp.Problem, ...], file: str, says: str) -> list[int]:
    return [p.line for p in problems if p.file.endswith(file) and says in p.message]


def test_official_list(shared: Path, tmp_path: Path) -> None:
    built = llp.clips(shared / "data/llp/AVVP_dataset_full.csv", shared / "clips/YapengTian__AVVP-ECCV20")
    assert len(built.clips) == 11_849
    assert Counter(clip.split for clip in built.clips) == {"train": 10_000, "val": 649, "test": 1_200}
    assert built.clips[0] == Clip("BjCEufrlXm4_20_30", "BjCEufrlXm4.mp4", 0, None, ("Speech", "Dog"), "train")
    assert sum("_" in clip.clip_id[:11] for clip in built.clips) == 1_470
    assert sum(clip.clip_id.startswith("-") for clip in built.clips) == 151
    assert {label for clip in built.clips for label in clip.labels} == set(llp.LABELS)
    assert llp.is_llp(built.clips)
    assert built.missing is not None
    assert len(built.missing) == 11_848
    assert [str(p).rpartition("/")[2] for p in built.problems if "full" in p.file] == [
        "AVVP_dataset_full.csv:11543: a label is there twice (kept): 'LcFWKgFphXI_20_30\\tClapping,Clapping'"
    ]
    write_manifest(tmp_path / "llp.csv", built.clips)
    assert tuple(read_manifest(tmp_path / "llp.csv")) == built.clips


def test_official_full_videos(shared: Path) -> None:
    built = llp.clips(shared / "data/llp/AVVP_dataset_full.csv", full_videos=True)
    assert len(built.clips) == 11_849
    assert {(clip.stop_ns or 0) - clip.start_ns for clip in built.clips} == {10_000_000_000}
    assert sum(clip.start_ns % 10**9 > 0 for clip in built.clips) == 5
    assert sum("span" in p.message for p in built.problems) == 0


@pytest.mark.parametrize(
    ("name", "md5", "more_unknown"),
    [
        ("AVVP_eval_audio.csv", "98d8ce2369078d43aa1df26d3ef2894c", []),
        ("AVVP_eval_audio.pre-2024-04.csv", "a8b6b747e59a4ea2501e51cd717f3b4f", [930, 931, 2449]),
    ],
)
def test_official_events_heard(name: str, md5: str, more_unknown: list[int], shared: Path) -> None:
    folder = shared / "data/llp"
    built = llp.clips(folder / "AVVP_dataset_full.csv", audio=folder / name)
    problems = built.problems
    assert lines_of(problems, name, "is not after onset") == EMPTY_EVENTS
    assert lines_of(problems, name, "the same as line") == REPEATED
    assert lines_of(problems, name, "no clip has this filename") == sorted(UNKNOWN + more_unknown)
    assert len([p for p in problems if p.file.endswith(name)]) == 28 + len(more_unknown)
    # row 66 is both unknown and empty
    heard = [event for event in built.events if event.modality == "audio"]
    assert len(heard) == 4_131 - 5 - 14 - len(more_unknown)
    assert any(name in note and md5 in note and "the official file" in note for note in built.notes)
    val_and_test = {clip.clip_id for clip in built.clips if clip.split in ("val", "test")}
    assert {event.clip_id for event in built.events} <= val_and_test


def test_official_events_seen(shared: Path) -> None:
    folder = shared / "data/llp"
    dense = llp.dense_labels(None, folder / "AVVP_eval_visual.csv")
    assert dense.problems == ()
    assert len(dense.events) == 2_495
    assert dense.sources[0].md5 == "3d25e5a6033e2ef7c7e391cfbfdc01f9"
    built = llp.clips(folder / "AVVP_dataset_full.csv")
    assert lines_of(built.problems, "visual.csv", "no clip has this filename") == UNKNOWN_SEEN
    assert by_clip(built.events)["CFzJQ6eje0Y_30_40"]["visual"][0] == (1, 10, "Motorcycle")
    assert "191 of 1849 val and test clips have no visual event" in built.notes
    # nine have no row at all; the tenth has one, and that is empty
    assert "10 of 1849 val and test clips have no audio event" in built.notes
