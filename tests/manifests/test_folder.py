from __future__ import annotations

import os
from pathlib import Path

import pytest

from extract.errors import ManifestError
from manifests import folder
from manifests.clip import Clip


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def pairs(source: Path, videos: Path | None = None) -> list[tuple[str, str]]:
    return [(clip.clip_id, clip.path) for clip in folder.clips(source, videos).clips]


def test_every_media_file_sorted_with_readable_ids(tmp_path: Path) -> None:
    make(
        tmp_path, "b.MP4", "-x_y.webm", "day 1/cam/é.mkv", "day 1/z.wav", "a.txt", "b.json", "c.json", ".h.mp4", "noext"
    )
    make(tmp_path, ".hidden/x.mp4")
    built = folder.clips(tmp_path)
    assert built.clips == (
        Clip("-x_y", "-x_y.webm"),
        Clip("b", "b.MP4"),
        Clip("day 1__cam__é", "day 1/cam/é.mkv"),
        Clip("day 1__z", "day 1/z.wav"),
    )
    assert built.problems == ()
    assert built.missing == ()
    assert "passed over: 2 .json files" in built.notes
    assert "passed over: 1 hidden file" in built.notes
    assert "passed over: 1 hidden folder" in built.notes
    assert "passed over: 1 file without suffix" in built.notes


def test_linked_folders_are_not_followed_but_linked_files_are(tmp_path: Path) -> None:
    make(tmp_path, "in/a.mp4", "out/b.mp4")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "c.mp4").symlink_to(tmp_path / "out" / "b.mp4")
    built = folder.clips(tmp_path / "in")
    assert [clip.path for clip in built.clips] == ["a.mp4", "c.mp4"]
    assert "passed over: 1 linked folder" in built.notes


def test_equal_stems_keep_their_suffixes(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "a.wav", "x/a.mp4", "p__q.mp4", "p/q.webm")
    assert pairs(tmp_path) == [
        ("a.mp4", "a.mp4"),
        ("a.wav", "a.wav"),
        ("p__q.webm", "p/q.webm"),
        ("p__q.mp4", "p__q.mp4"),
        ("x__a", "x/a.mp4"),
    ]


@pytest.mark.parametrize("names", [("p__q.mp4", "p/q.mp4"), ("a.mp4", "a.wav", "a.mp4.mkv")])
def test_ids_that_still_collide_are_an_error_with_both_paths(names: tuple[str, ...], tmp_path: Path) -> None:
    make(tmp_path, *names)
    with pytest.raises(ManifestError, match="would both be the clip") as caught:
        folder.clips(tmp_path)
    assert repr(names[0]) in str(caught.value)
    assert repr(names[-1]) in str(caught.value)


def test_names_that_no_manifest_can_hold_are_reported(tmp_path: Path) -> None:
    make(tmp_path, "ok.mp4", "two\nlines.mp4")
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    built = folder.clips(tmp_path)
    assert [clip.path for clip in built.clips] == ["ok.mp4"]
    assert [problem.line for problem in built.problems] == [0, 0]
    assert "cannot be written as UTF-8" in built.problems[0].message
    assert "NUL or a line break" in built.problems[1].message
    for problem in built.problems:
        str(problem).encode("utf-8")


def test_an_empty_folder_says_what_would_count(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    with pytest.raises(ManifestError, match=r"no usable file in it; media files end in .*\.mp4"):
        folder.clips(tmp_path)


def test_a_list_keeps_its_order_and_reports_its_rows(tmp_path: Path) -> None:
    make(tmp_path, "v/b.mp4", "v/a.mp4", "v/-c.mkv")
    inside = tmp_path / "v" / "in" / "d.mp4"
    path = tmp_path / "v" / "list.txt"
    path.write_text(
        "# mine\nb.mp4\n\n-c.mkv\nb.mp4\nhttps://example.org/x.mp4\n  # indented\n../up/e.mp4\n./a.mp4 \n/\n..mp4\n"
        f"{inside}\n/elsewhere/f.mp4\n"
    )
    built = folder.clips(path)
    assert [(clip.clip_id, clip.path) for clip in built.clips] == [
        ("b", "b.mp4"),
        ("-c", "-c.mkv"),
        ("..__up__e", "../up/e.mp4"),
        ("a", "./a.mp4 "),
        ("in__d", "in/d.mp4"),
        ("elsewhere__f", "/elsewhere/f.mp4"),
    ]
    assert [(problem.line, problem.message) for problem in built.problems] == [
        (5, "the same path as on line 2 (left out)"),
        (6, "an address, not a path; only local files are read, so download it first (left out)"),
        (9, "begins or ends with a blank, which is taken as part of the path (kept)"),
        (10, "the clip id is empty (left out)"),
        (11, "the clip id is empty (left out)"),
    ]
    assert built.missing == ("../up/e.mp4", "./a.mp4 ", "in/d.mp4", "/elsewhere/f.mp4")


def test_a_list_can_count_from_another_folder(tmp_path: Path) -> None:
    make(tmp_path, "v/a.mp4")
    path = tmp_path / "list.txt"
    path.write_text("a.mp4\ngone.mp4\n")
    assert folder.clips(path, tmp_path / "v").missing == ("gone.mp4",)
    assert folder.clips(path).missing == ("a.mp4", "gone.mp4")


def test_sources_that_are_neither(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4")
    with pytest.raises(ManifestError, match="there is no folder or list of paths at"):
        folder.clips(tmp_path / "gone")
    with pytest.raises(ManifestError, match="is a media file; name its folder"):
        folder.clips(tmp_path / "a.mp4")
    with pytest.raises(ManifestError, match="--videos is for lists of paths"):
        folder.clips(tmp_path, tmp_path)
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(ManifestError, match="write one path per line"):
        folder.clips(tmp_path / "list.txt")
