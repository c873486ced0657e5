from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manifests import files
from manifests.clip import Clip, resolve
from manifests.files import absent, locate

ODD = (
    "a.mp4",
    ".",
    "..",
    "./a",
    "a/.",
    "a/",
    "a//b",
    "../x/a.mp4",
    "a/./b",
    "/v/a.mp4",
    "/v/./a",
    "//v/a",
    "/",
    ".a",
    "a.",
    " ",
)


@given(
    path=st.sampled_from(ODD) | st.text(st.sampled_from("a./ é"), min_size=1, max_size=8),
    manifest=st.sampled_from(["m.csv", "lists/m.csv", "/m.csv", "/data/m.csv", "../m.csv"]),
    videos=st.sampled_from([None, "videos", "/", "//net/v", "/v/"]),
)
@example(path="a.mp4", manifest="m.csv", videos="/")
@example(path="a.mp4", manifest="m.csv", videos="//net/v")
def test_many_paths_resolve_as_one_does(path: str, manifest: str, videos: str | None) -> None:
    assert locate([path, "b"], manifest, videos) == [
        str(resolve(Clip("x", each), manifest, videos)) for each in (path, "b")
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4", "c.mp4", "unasked.mp4"):
        (tmp_path / "v" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "v" / name).touch()
    (tmp_path / "v" / "link.mp4").symlink_to("a.mp4")
    (tmp_path / "v" / "broken.mp4").symlink_to("nowhere")
    (tmp_path / "v" / "folder.mp4").mkdir()
    return tmp_path / "v"


NAMES = (
    "a.mp4",
    "b.mp4",
    "link.mp4",
    "broken.mp4",
    "folder.mp4",
    "gone.mp4",
    "folder.mp4/x",
    "gone/x",
    "a.mp4/x",
    "a.mp4/y",
)


def missing(folder: Path) -> list[str]:
    gone = absent(f"{folder}/{name}" for name in NAMES)
    return [name for name in NAMES if f"{folder}/{name}" in gone]


EXPECTED = [name for name in NAMES if name not in ("a.mp4", "b.mp4", "link.mp4")]


def test_what_is_no_plain_file_is_absent(folder: Path) -> None:
    assert missing(folder) == EXPECTED
    assert [name for name in NAMES if not (folder / name).is_file()] == EXPECTED


def test_files_that_a_listing_shows_are_not_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(Path(path).name))
    assert absent(f"{folder}/{name}" for name in ("a.mp4", "b.mp4", "gone.mp4", "gone/x", "gone/y")) == {
        f"{folder}/gone.mp4",
        f"{folder}/gone/x",
        f"{folder}/gone/y",
    }
    assert asked == ["gone.mp4"]


@pytest.mark.parametrize("limit", [0, 1])
def test_a_folder_of_many_other_files_is_not_listed_to_its_end(
    folder: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LISTED_PER_WANTED", limit)
    assert missing(folder) == EXPECTED


def test_a_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert missing(folder) == EXPECTED


def test_files_at_the_root() -> None:
    assert absent(["/nowhere.mp4", "/no.mp4"]) == {"/nowhere.mp4", "/no.mp4"}
