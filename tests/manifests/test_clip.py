from __future__ import annotations

import csv
import gc
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extract.errors import DuplicateClip, ManifestError, MissingManifest
from manifests.clip import (
    Clip,
    builder_command,
    fault,
    missing_files,
    read_manifest,
    read_splits,
    resolve,
    shell_word,
    write_manifest,
)

HEADER = "clip_id,path,start,end,labels,split\n"
TEXT = st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r\n")
NAMES = st.one_of(
    st.text(st.sampled_from("-_aZ0 ,\"';é雪\u2028\x85\t#="), min_size=1, max_size=6),
    st.text(TEXT, min_size=1, max_size=12),
)
IDS = NAMES.filter(lambda text: "/" not in text and text not in (".", ".."))
LABEL = NAMES.map(lambda text: text.replace(";", ",") or ",")


@st.composite
def some_clips(draw: st.DrawFn) -> list[Clip]:
    made = []
    for clip_id in draw(st.lists(IDS, min_size=1, max_size=6, unique=True)):
        start_ns = draw(st.integers(0, 2**62))
        stop_ns = draw(st.none() | st.integers(start_ns + 1, 2**63 - 1))
        labels = tuple(draw(st.lists(LABEL, max_size=3)))
        made.append(Clip(clip_id, draw(NAMES), start_ns, stop_ns, labels, draw(st.just("train") | st.text(TEXT))))
    return made


@given(clips=some_clips())
@example(clips=[Clip('-a_b,"c"', "-x/../é.mp4", 1, None, ("a,b", '"'), "val"), Clip("_", " ", 0, 10**9 + 1)])
@example(clips=[Clip("#", "#"), Clip("\ufeff", "x"), Clip("clip_id", "path")])
def test_round_trip_is_lossless(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round.csv"
    write_manifest(path, clips)
    assert read_manifest(path) == clips


def test_what_is_written_is_the_documented_csv(tmp_path: Path) -> None:
    path = tmp_path / "new" / "llp.csv"
    write_manifest(path, [Clip("-a_20_30", "a.mp4", 101_800_000_000, 111_800_000_000, ("Speech", "Dog"), "val")])
    write_manifest(path, [*read_manifest(path), Clip("b", "b.mp4")])
    assert path.read_bytes() == f"{HEADER}-a_20_30,a.mp4,101.8,111.8,Speech;Dog,val\nb,b.mp4,0,,,\n".encode()
    assert os.listdir(path.parent) == ["llp.csv"]


def test_a_refused_write_leaves_the_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_manifest(path, [Clip("a", "a.mp4")])
    before = path.read_bytes()
    with pytest.raises(DuplicateClip, match=r"clips 1 and 3 .* 'x'"):
        write_manifest(path, [Clip("x", "a"), Clip("y", "b"), Clip("x", "c")])
    with pytest.raises(ManifestError, match="no clips to write"):
        write_manifest(path, [])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.csv"]


def test_a_failed_replace_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ManifestError, match=r"cannot write .*No space left"):
        write_manifest(tmp_path / "m.csv", [Clip("a", "a.mp4")])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("clip", "says"),
    [
        (Clip("", "a"), "clip id is empty"),
        (Clip("a", ""), "path is empty"),
        (Clip("a/b", "a"), "'a/b' is not safe as a name: no '/', NUL or line break"),
        (Clip("..", "a"), "not safe as a name"),
        (Clip("a\0", "a"), "NUL or a line break"),
        (Clip("a\nb", "a"), "NUL or a line break"),
        (Clip("a", "a\rb"), "path 'a\\\\rb' holds"),
        (Clip("a", "a", labels=("x;y",)), "label 'x;y' must be non-empty and without ';'"),
        (Clip("a", "a", labels=("",)), "label '' must be"),
        (Clip("a", "a", split="x\n"), "split"),
        (Clip("a", "a\udcff"), "cannot be written as UTF-8"),
        (Clip("a", "a", start_ns=-1), "start is -1 ns; it must be from 0"),
        (Clip("a", "a", 5 * 10**9, 5 * 10**9), "end 5 must be after start 5"),
        (Clip("a", "a", 0, -7), "end is -7 ns; it must be from 0"),
        (Clip("a", "a", 0, 2**63), "end is 9223372036854775808 ns"),
    ],
)
def test_clips_that_no_manifest_can_hold(clip: Clip, says: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=says) as caught:
        write_manifest(tmp_path / "m.csv", [Clip("ok", "ok"), clip])
    assert "clip 2" in str(caught.value)
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("clip_id,path,start,end,labels\na,b,0,,\n", 1, "header of a manifest must be exactly 'clip_id,path,start,end"),
        ("filename\tevent_labels\nx\tSpeech\n", 1, "extract manifest --help"),
        ("a,a.mp4,0,,,\n", 1, "header"),
        (HEADER + "a,a.mp4,0,\n", 2, "4 columns, must be 6"),
        (HEADER + "a,a.mp4,0,,,,\n", 2, "7 columns, must be 6"),
        (HEADER + "a,a.mp4,0,,,\nb,b.mp4,x,,,\n", 3, "start 'x' is not a number"),
        (HEADER + "\n\na,a.mp4,0,1e1,,\n", 4, "end '1e1' is not a number"),
        (HEADER + "a,a.mp4,,,,\n", 2, "start '' is not a number"),
        (HEADER + "a,a.mp4,-1,,,\n", 2, "'-1' is negative"),
        (HEADER + "a,a.mp4,0.0123456789,,,\n", 2, "10 places"),
        (HEADER + "a,a.mp4,3,2.5,,\n", 2, "end 2.5 must be after start 3"),
        (HEADER + "a,a.mp4,3,3,,\n", 2, "end 3 must be after start 3"),
        (HEADER + ",a.mp4,0,,,\n", 2, "clip id is empty"),
        (HEADER + "a,,0,,,\n", 2, "path is empty"),
        (HEADER + "a/b,a.mp4,0,,,\n", 2, "not safe as a name"),
        (HEADER + "a\0,a.mp4,0,,,\n", 2, "NUL"),
        (HEADER + "a,a.mp4,0,,x;;y,\n", 2, "label '' must be"),
        (HEADER + 'a,a.mp4,0,,,\n"b\nc",b,0,,,\n', 3, "line break"),
        (HEADER + 'a,"a.mp4,0,,,\nb,b,0,,,\n', 2, "broken CSV"),
        (HEADER + 'a,"a"x,0,,,\n', 2, "broken CSV"),
    ],
)
def test_bad_manifests_are_refused_with_their_line(text: str, line: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(text.encode())
    with pytest.raises(ManifestError, match=says) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}: line {line}: ")


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(HEADER + "a,a.mp4,0,,,\n\n-b,b.mp4,0,,,\na,c.mp4,0,,,\n")
    with pytest.raises(DuplicateClip, match=r"line 5: clip id 'a' is already that of line 2"):
        read_manifest(path)


def test_not_utf8_says_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEADER.encode() + b"a,a.mp4,0,,,\nb,caf\xe9.mp4,0,,,\n")
    with pytest.raises(ManifestError, match="line 3: byte 0xe9 is not UTF-8"):
        read_manifest(path)


def test_byte_order_mark_and_windows_line_ends_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + "a,a.mp4,0,1.5,x;y,test\n").replace("\n", "\r\n").encode())
    assert read_manifest(path) == [Clip("a", "a.mp4", 0, 1_500_000_000, ("x", "y"), "test")]


@pytest.mark.parametrize(("text", "says"), [("", "is empty"), ("\n\n", "is empty"), (HEADER, "lists no clips")])
def test_empty_manifests(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(ManifestError, match=says):
        read_manifest(path)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("llp.csv", "extract manifest llp --annotations AVVP_dataset_full.csv --videos DIR -o "),
        ("LLP-small.csv", "extract manifest llp --annotations AVVP_dataset_full.csv --videos DIR -o "),
        ("ave.csv", "extract manifest ave --annotations Annotations.txt --videos DIR -o "),
        ("audioset.csv", "extract manifest audioset --annotations balanced_train_segments.csv --videos DIR -o "),
        ("vggsound.csv", "extract manifest audioset --annotations vggsound.csv --videos DIR -o "),
        ("mine.csv", "extract manifest folder DIR -o "),
        ("llpx.csv", "extract manifest folder DIR -o "),
    ],
)
def test_a_missing_manifest_shows_the_command_that_makes_it(name: str, command: str, tmp_path: Path) -> None:
    with pytest.raises(MissingManifest) as caught:
        read_manifest(tmp_path / name)
    assert str(caught.value).endswith(f"make it with: {command}{tmp_path / name}")


def test_the_demo_and_odd_names_in_commands() -> None:
    assert builder_command("manifests/demo.csv") == "extract demo"
    assert builder_command("-x.csv") == "extract manifest folder DIR -o ./-x.csv"
    assert shell_word(Path("a b's.csv")) == "'a b'\"'\"'s.csv'"


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"is a folder, not a manifest; make one: extract manifest folder"):
        read_manifest(tmp_path)


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clip = Clip("a", "sub/a.mp4")
    assert resolve(clip, "manifests/m.csv") == tmp_path / "manifests/sub/a.mp4"
    assert resolve(clip, "manifests/m.csv", Path("videos")) == tmp_path / "videos/sub/a.mp4"
    assert resolve(Clip("a", "/data/a.mp4"), "m.csv", Path("videos")) == Path("/data/a.mp4")
    above = resolve(Clip("a", "../a.mp4"), "manifests/m.csv")
    assert above.is_absolute()
    assert os.path.normpath(above) == str(tmp_path / "a.mp4")


def test_dots_follow_links_as_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "disk" / "inner").mkdir(parents=True)
    (tmp_path / "disk" / "a.mp4").touch()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "inner")
    assert resolve(Clip("a", "link/../a.mp4"), tmp_path / "m.csv").is_file()


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "here.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    clips = [Clip("a", "here.mp4"), Clip("b", "gone.mp4"), Clip("c", "folder.mp4"), Clip("d", "gone.mp4")]
    missing = missing_files(clips, tmp_path / "m.csv")
    assert [(clip.clip_id, path.name) for clip, path in missing] == [
        ("b", "gone.mp4"),
        ("c", "folder.mp4"),
        ("d", "gone.mp4"),
    ]
    assert len(missing_files(clips, tmp_path / "m.csv", tmp_path / "elsewhere")) == 4


# ---- very many clips -------------------------------------------------------------------------------------------------

CELLS = st.text(st.sampled_from(["a", ".", "/", ";", ",", '"', "\0", "\r", "\n", "\u2028", "é", "\ud800"]), max_size=4)


@given(
    clip_id=CELLS,
    path=CELLS,
    labels=CELLS,
    split=CELLS,
    span=st.sampled_from([("0", ""), ("3", "3"), ("3", "2.5"), ("1", "2")]),
)
@example(clip_id="..", path="a", labels="", split="", span=("0", ""))
@example(clip_id="a", path="a", labels="a;", split="", span=("0", ""))
def test_no_fault_is_overlooked_for_speed(
    clip_id: str, path: str, labels: str, split: str, span: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The rows of a million clips are looked at in passing; whatever `fault` would say of one is said."""
    start, stop = (int(float(text) * 10**9) if text else None for text in span)
    clip = Clip(clip_id, path, start or 0, stop, tuple(labels.split(";")) if labels else (), split)
    file = tmp_path_factory.getbasetemp() / "cells.csv"
    with file.open("w", newline="", encoding="utf-8", errors="replace") as text:
        csv.writer(text).writerows([HEADER.strip().split(","), [clip_id, path, *span, labels, split]])
    if why := fault(clip):
        if "UTF-8" not in why:  # no UTF-8 file holds such a text
            with pytest.raises(ManifestError, match="line 2: "):
                read_manifest(file)
    else:
        assert read_manifest(file) == [clip]


def test_clips_share_what_is_equal(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_manifest(path, [Clip(f"c{i}", "a.mp4", 5, 10**15, ("Speech", "Dog"), "train") for i in range(2)])
    one, two = read_manifest(path)
    assert all(getattr(one, name) is getattr(two, name) for name in ("start_ns", "stop_ns", "labels", "split"))


def test_the_collector_is_on_again_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(HEADER + "a,a.mp4,x,,,\n")
    with pytest.raises(ManifestError):
        read_manifest(path)
    assert gc.isenabled()
    gc.disable()
    try:
        path.write_text(HEADER + "a,a.mp4,0,,,\n")
        read_manifest(path)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_splits(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(HEADER + '"b,",b.mp4,0,,x,test\n\na,a.mp4,0,,,\n')
    assert list(read_splits(path).items()) == [("b,", "test"), ("a", "")]
    path.write_text(HEADER + "a,a.mp4,0\n")
    with pytest.raises(ManifestError, match="line 2: 3 columns"):
        read_splits(path)
    path.write_text(HEADER + '"b\nc",b.mp4,0,,x,test\na,a.mp4,0\n')
    with pytest.raises(ManifestError, match="line 4: 3 columns"):
        read_splits(path)
