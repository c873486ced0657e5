from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from extract.commands.manifest import manifest
from extract.errors import ManifestError
from manifests.clip import missing_files, read_manifest
from manifests.dense import read_dense

WEAK = "filename\tevent_labels\n"


def extract(*words: str | Path) -> Result:
    return CliRunner().invoke(manifest, [str(word) for word in words])


def annotate(folder: Path, rows: int = 2, dirty: int = 0) -> Path:
    path = folder / "AVVP_dataset_full.csv"
    lines = [f"-{row:010d}_0_10\tDog" for row in range(rows)] + [f"bad{row}\tDog" for row in range(dirty)]
    path.write_text(WEAK + "\n".join(lines) + "\n")
    (folder / "AVVP_train.csv").write_text(WEAK + "-0000000000_0_10\tDog\n")
    (folder / "AVVP_eval_audio.csv").write_text("filename\tonset\toffset\tevent_labels\n-0000000001_0_10\t0\t4\tDog\n")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "-0000000000.mp4").touch()
    return tmp_path


def test_llp_writes_and_says_everything(here: Path) -> None:
    result = extract("llp", "--annotations", annotate(here, rows=2, dirty=1), "--videos", "videos")
    assert result.exit_code == 0, result.output
    clips = read_manifest("manifests/llp.csv")
    assert [(clip.path, clip.split) for clip in clips] == [
        ("../videos/-0000000000.mp4", "train"),
        ("../videos/-0000000001.mp4", ""),
    ]
    assert "manifests/llp.csv: 2 clips (split: train 1, none 1)" in result.output
    assert [event.clip_id for event in read_dense("manifests/llp.dense.csv")] == ["-0000000001_0_10"]
    assert "manifests/llp.dense.csv: 1 events" in result.output
    assert "1 of 2 files are not in videos: -0000000001.mp4" in result.output
    assert "1 problems, all of them in manifests/llp.problems.txt:" in result.output
    assert "AVVP_dataset_full.csv:4: the filename must be" in result.output
    lines = result.output.splitlines()
    assert lines[-2:] == ["missing files: 1", "next: extract plan manifests/llp.csv"]  # finds the files by itself
    assert sorted(os.listdir("manifests")) == ["llp.csv", "llp.dense.csv", "llp.problems.txt"]


def test_only_twenty_problems_are_shown_and_all_are_written(here: Path) -> None:
    result = extract("llp", "--annotations", annotate(here, dirty=25), "-o", "x.csv")
    assert result.output.count("the filename must be") == 20
    assert "  ... and 5 more\n" in result.output
    assert len((here / "x.problems.txt").read_text().splitlines()) == 25
    assert "missing files: not looked for" in result.output
    assert result.output.splitlines()[-1] == "next: extract plan x.csv"


def test_a_second_build_leaves_no_stale_problems(here: Path) -> None:
    extract("llp", "--annotations", annotate(here, dirty=1), "-o", "x.csv")
    assert (here / "x.problems.txt").exists()
    annotate(here)
    (here / "AVVP_eval_audio.csv").unlink()
    result = extract("llp", "--annotations", here / "AVVP_dataset_full.csv", "-o", "x.csv")
    assert not (here / "x.problems.txt").exists()
    assert "no problems\n" in result.output
    assert "x.dense.csv: left as it was; these annotations have no events" in result.output


def test_paths_from_the_manifest_need_no_videos_later(here: Path) -> None:
    words = ("llp", "--annotations", annotate(here, rows=1), "--paths", "manifest", "-o", "deep/er/llp.csv")
    result = extract(*words, "--videos", "videos")
    (clip,) = read_manifest("deep/er/llp.csv")
    assert clip.path == "../../videos/-0000000000.mp4"
    assert missing_files([clip], "deep/er/llp.csv") == ()
    assert result.output.splitlines()[-1] == "next: extract plan deep/er/llp.csv"
    with pytest.raises(ManifestError, match="--paths manifest needs --videos"):
        raise extract(*words).exception or AssertionError


def test_names_that_look_like_options_or_hold_blanks_are_quoted(here: Path) -> None:
    (here / "my videos").mkdir()
    result = extract(
        "llp", "--annotations", annotate(here), "--videos", "my videos", "--output=-x.csv", "--paths", "videos"
    )
    assert result.output.splitlines()[-1] == "next: extract plan ./-x.csv --videos 'my videos'"


def test_options_reach_the_builder(here: Path) -> None:
    annotations = annotate(here, rows=1)
    extract("llp", "--annotations", annotations, "--full-videos", "--extension", ".mkv", "-o", "x.csv")
    (clip,) = read_manifest("x.csv")
    assert (clip.path, clip.stop_ns) == ("-0000000000.mkv", 10_000_000_000)
    extract(
        "llp", "--annotations", annotations, "--val", here / "AVVP_train.csv", "--train", annotations, "-o", "x.csv"
    )
    assert "already in the split train" in (here / "x.problems.txt").read_text()


def test_ave(here: Path) -> None:
    (here / "Annotations.txt").write_text("Bark&-bbbbbbbbbb&good&2&4\nGoat&-bbbbbbbbbb&good&0&0\n")
    result = extract("ave", "--annotations", "Annotations.txt")
    assert result.exit_code == 0, result.output
    assert [clip.clip_id for clip in read_manifest("manifests/ave.csv")] == ["-bbbbbbbbbb_Bark", "-bbbbbbbbbb_Goat"]
    assert len(read_dense("manifests/ave.dense.csv")) == 1
    assert "Annotations.txt:2: the event from 0 to 0 is empty" in result.output


def test_audioset(here: Path) -> None:
    (here / "vggsound.csv").write_text('---g-f_I2yQ,1,"people marching",test\n')
    result = extract("audioset", "--annotations", "vggsound.csv", "--pattern", "{ytid}_{start:06d}.mp4")
    assert result.exit_code == 0, result.output
    assert [clip.path for clip in read_manifest("manifests/audioset.csv")] == ["---g-f_I2yQ_000001.mp4"]
    assert not (here / "manifests/audioset.dense.csv").exists()


def test_folder_paths_are_found_from_the_manifest(here: Path) -> None:
    result = extract("folder", "videos", "-o", "manifests/mine.csv")
    clips = read_manifest("manifests/mine.csv")
    assert [(clip.clip_id, clip.path) for clip in clips] == [("-0000000000", "../videos/-0000000000.mp4")]
    assert missing_files(clips, "manifests/mine.csv") == ()
    assert result.output.splitlines()[-2:] == ["missing files: 0", "next: extract plan manifests/mine.csv"]


def test_a_list_with_a_folder(here: Path) -> None:
    (here / "list.txt").write_text("-0000000000.mp4\n/abs/x.mp4\n")
    result = extract("folder", "list.txt", "--videos", "videos", "-o", "manifests/mine.csv")
    assert [clip.path for clip in read_manifest("manifests/mine.csv")] == ["-0000000000.mp4", "/abs/x.mp4"]
    assert result.output.splitlines()[-1] == "next: extract plan manifests/mine.csv --videos videos"


def test_errors_write_nothing(here: Path) -> None:
    result = extract("llp", "--annotations", "gone.csv")
    assert isinstance(result.exception, ManifestError)
    assert "there is no annotation file at gone.csv" in str(result.exception)
    assert not (here / "manifests").exists()


def test_official_llp(here: Path, shared: Path) -> None:
    result = extract("llp", "--annotations", shared / "data/llp/AVVP_dataset_full.csv", "--videos", "videos")
    assert result.exit_code == 0, result.output
    assert "manifests/llp.csv: 11849 clips (split: train 10000, val 649, test 1200)" in result.output
    assert "40 problems, all of them in" in result.output
    assert "missing files: 11849" in result.output
    assert len(read_manifest("manifests/llp.csv")) == 11_849
    assert len(read_dense("manifests/llp.dense.csv")) == 6_596
    assert len((here / "manifests/llp.problems.txt").read_text().splitlines()) == 40


def test_manifests_need_the_standard_library_only() -> None:
    code = (
        "import sys, manifests.llp, manifests.ave, manifests.audioset, manifests.folder, extract.commands.manifest\n"
        "print(sorted({'numpy', 'h5py', 'torch', 'av', 'ray'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
