from __future__ import annotations

from pathlib import Path

import pytest

from extract.errors import ManifestError
from manifests import audioset
from manifests.clip import Clip, read_manifest, write_manifest

AUDIOSET = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
-0RWZT-miFs, 420.500, 428.000, "/m/03v3yw"
aaaaaaaaaaa, 0.000, 10.000, "/m/0zzz"
"""
VGGSOUND = """---g-f_I2yQ,1,"people marching",test
--0PQM4-hqg,30,"waterfall burbling, water",train
"""
NAMES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n451,/t/dd00088,"Gush"\n5,/m/03v3yw,"Keys jangling, metal"\n'


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_audioset(tmp_path: Path) -> None:
    path = write(tmp_path, "balanced_train_segments.csv", AUDIOSET)
    built = audioset.clips(path)
    assert built.problems == ()
    assert built.clips == (
        Clip("--PJHxphWEs_30_40", "--PJHxphWEs.mp4", labels=("/m/09x0r", "/t/dd00088"), split="train"),
        Clip("-0RWZT-miFs_420.5_428", "-0RWZT-miFs.mp4", labels=("/m/03v3yw",), split="train"),
        Clip("aaaaaaaaaaa_0_10", "aaaaaaaaaaa.mp4", labels=("/m/0zzz",), split="train"),
    )
    assert built.notes[0] == "read as an AudioSet CSV"
    assert built.notes[1].startswith("split train, because the file is called balanced_train_segments.csv")
    write_manifest(tmp_path / "m.csv", built.clips)
    assert tuple(read_manifest(tmp_path / "m.csv")) == built.clips


def test_audioset_names_and_spans(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.csv", AUDIOSET)
    names = write(tmp_path, "class_labels_indices.csv", NAMES)
    built = audioset.clips(path, class_labels=names, full_videos=True, split="val")
    assert built.clips[0] == Clip(
        "--PJHxphWEs_30_40", "--PJHxphWEs.mp4", 30 * 10**9, 40 * 10**9, ("Speech", "Gush"), "val"
    )
    assert (built.clips[1].start_ns, built.clips[1].stop_ns) == (420_500_000_000, 428_000_000_000)
    assert built.clips[1].labels == ("Keys jangling, metal",)
    (problem,) = built.problems
    assert (problem.line, problem.message) == (6, "no display name for /m/0zzz (kept as it is)")
    assert built.clips[2].labels == ("/m/0zzz",)
    assert {clip.split for clip in audioset.clips(path).clips} == {""}
    with pytest.raises(
        ManifestError, match="header of a table of class labels must be exactly 'index,mid,display_name'"
    ):
        audioset.clips(path, class_labels=path)


def test_vggsound(tmp_path: Path) -> None:
    path = write(tmp_path, "vggsound.csv", VGGSOUND)
    built = audioset.clips(path, pattern="video/{ytid}_{start:06d}.mp4")
    assert built.clips == (
        Clip("---g-f_I2yQ_1_11", "video/---g-f_I2yQ_000001.mp4", labels=("people marching",), split="test"),
        Clip("--0PQM4-hqg_30_40", "video/--0PQM4-hqg_000030.mp4", labels=("waterfall burbling, water",), split="train"),
    )
    assert built.notes[0] == "read as a VGGSound CSV"
    assert {clip.split for clip in audioset.clips(path, split="test").clips} == {"test"}


@pytest.mark.parametrize(
    ("row", "says", "kept"),
    [
        ('bbbbbbbbbbb, 1.000, 11.000, "/m/1", x', "5 columns, must be 4 (left out)", False),
        ('bbbbbbbbbbb, 1.000, 11.000, "/m/1', "broken CSV", False),
        ('bbbbbbbbbbb, x, 11.000, "/m/1"', "'x' is not a number of seconds", False),
        ('bbbbbbbbbbb, -1.000, 9.000, "/m/1"', "'-1.000' is negative", False),
        ('bbbbbbbbbbb, 11.000, 11.000, "/m/1"', "end 11 must be after start 11", False),
        ('bbbb/bbbbbb, 1.000, 11.000, "/m/1"', "not safe as a name", False),
        ('bbbbbbbbbbb, 1.000, 11.000, "a;b"', "without ';'", False),
        ('--PJHxphWEs, 30.0, 40.0, "/m/1"', "the same span of the same video is on line 4 already", False),
        ('bbbb, 1.000, 11.000, "/m/1"', "'bbbb' is not an 11-character YouTube id (kept)", True),
        ("bbbbbbbbbbb, 1.000, 11.000, ", "no labels (kept)", True),
        ('--PJHxphWEs, 50.000, 60.000, "/m/1"', "its file --PJHxphWEs.mp4 is also that of line 4", True),
    ],
)
def test_dirty_rows_are_reported(row: str, says: str, kept: bool, tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", AUDIOSET + row + "\n")
    built = audioset.clips(path)
    (problem,) = built.problems
    assert (problem.file, problem.line, problem.text) == (str(path), 7, row)
    assert says in problem.message
    assert len(built.clips) == 3 + kept


def test_an_odd_first_row_does_not_decide_the_form(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", 'bad\nccccccccccc,1,"dog",eval\n' + VGGSOUND)
    built = audioset.clips(path)
    assert built.notes[0] == "read as a VGGSound CSV"
    assert [problem.line for problem in built.problems] == [1, 2]
    assert "split 'eval' is neither train nor test (kept)" in built.problems[1].message


@pytest.mark.parametrize("text", ["", "# only comments\n", "filename\tevent_labels\nx\ty\n", "a,b,c,d\n"])
def test_other_files_are_refused_with_both_forms(text: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"is no AudioSet CSV \(rows like: .* and no VGGSound CSV"):
        audioset.clips(write(tmp_path, "x.csv", text))


@pytest.mark.parametrize(
    ("pattern", "start_ns", "stop_ns", "name"),
    [
        ("{ytid}.mp4", 0, 10**10, "-a.mp4"),
        ("{ytid}_{start}_{end}.webm", 1_500_000_000, 11_500_000_000, "-a_1.5_11.5.webm"),
        ("{ytid}_{start_ms}_{end_ms}.flac", 1_500_000_000, 11_500_000_000, "-a_1500_11500.flac"),
        ("{ytid}_{start:06d}.mp4", 30 * 10**9, 40 * 10**9, "-a_000030.mp4"),
        ("{{x}}/{ytid}_{start:d}.mp4", 30 * 10**9, 40 * 10**9, "{x}/-a_30.mp4"),
    ],
)
def test_file_names(pattern: str, start_ns: int, stop_ns: int, name: str) -> None:
    audioset.check_pattern(pattern)
    assert audioset.file_name(pattern, "-a", start_ns, stop_ns) == name


@pytest.mark.parametrize("pattern", ["{ytid}_{start:06d}.mp4", "{ytid}_{end_ms}.mp4"])
def test_a_pattern_for_whole_numbers_and_a_row_that_is_not(pattern: str, tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", AUDIOSET + 'bbbbbbbbbbb, 1.5, 2.0005, "/m/1"\n')
    built = audioset.clips(path, pattern=pattern)
    assert [p.line for p in built.problems if "the pattern needs a whole number for" in p.message][-1] == 7
    assert "bbbbbbbbbbb.mp4" not in {clip.path for clip in built.clips}


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("video.mp4", "would name one file for all clips"),
        ("{start}.mp4", "would name one file for all clips"),
        ("{id}.mp4", "no field 'id'"),
        ("{}.mp4", "no field ''"),
        ("{ytid.__class__}.mp4", "no field 'ytid.__class__'"),
        ("{ytid[0]}.mp4", "no field"),
        ("{ytid!r}.mp4", "'ytid' cannot be written as 'r'"),
        ("{ytid:>20}.mp4", "cannot be written as '>20'"),
        ("{ytid}_{start:6d}.mp4", "cannot be written as '6d'"),
        ("{ytid}_{start:.2f}.mp4", "cannot be written as '.2f'"),
        ("{ytid}_{start:0999999999d}.mp4", "cannot be written as"),
        ("{ytid", "pattern '{ytid'"),
        ("/data/{ytid}.mp4", "must be a path relative to --videos"),
        ("{ytid}\n.mp4", "without NUL and line breaks"),
    ],
)
def test_patterns_that_are_refused(pattern: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        audioset.clips(write(tmp_path, "x.csv", AUDIOSET), pattern=pattern)
    assert says in str(caught.value)
