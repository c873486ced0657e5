"""The demo set: what its labels say is what can be seen and heard in the files."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.commands.demo import demo
from extract.demo import CLASSES, RATE_HZ, Made, Story, make_demo, picture_of, sound_of, story
from extract.demo_looks import LOOKS, Patch
from extract.demo_sounds import SOUNDS
from extract.errors import ManifestError
from manifests.clip import Clip, read_manifest, resolve, write_manifest
from manifests.dense import read_dense
from manifests.llp import LABELS, is_llp

SECONDS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    base = tmp_path_factory.mktemp("demo")
    return make_demo(base / "clips", base / "lists" / "demo.csv", clips=4, seconds=SECONDS)


def at(spans: tuple[tuple[int, int], ...], second: int) -> bool:
    return any(onset <= second < offset for onset, offset in spans)


def decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(frames, h, w, 3) uint8 and (samples, channels) float."""
    frames, blocks = [], []
    with av.open(str(path)) as file:
        for frame in file.decode(file.streams.video[0], file.streams.audio[0]):
            if isinstance(frame, av.VideoFrame):
                frames.append(frame.to_ndarray(format="rgb24"))
            else:
                blocks.append(frame.to_ndarray())
    return np.stack(frames), np.concatenate(blocks, axis=1).T


# ---- stories ---------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(number=st.integers(0, 999_999), seconds=st.integers(2, 40), seed=st.integers(0, 35))
def test_a_story_is_always_well_formed(number: int, seconds: int, seed: int) -> None:
    told = story(number, seconds, seed)
    assert told == story(number, seconds, seed)
    assert re.fullmatch(rf"demo[_1-9a-z]{number:06d}_0_{seconds}", told.clip_id)
    assert len(told.clip_id.removesuffix(f"_0_{seconds}")) == 11
    assert 2 <= len(told.labels) <= 3
    assert set(told.labels) == set(told.heard) | set(told.seen)
    assert list(told.labels) == sorted(told.labels, key=LABELS.index)
    for spans in (*told.heard.values(), *told.seen.values()):
        edges = [edge for span in spans for edge in span]
        assert edges[0] >= 0
        assert edges[-1] <= seconds
        assert all(b > a for a, b in pairwise(edges))
    assert told.disagrees == any(told.heard.get(label) != told.seen.get(label) for label in told.labels)


def test_eight_clips_show_every_class_and_every_disagreement() -> None:
    told = [story(number) for number in range(8)]
    assert {label for one in told for label in one.labels} == set(CLASSES)
    assert Counter(one.split for one in told) == {"train": 5, "test": 2, "val": 1}
    pairs = [(label, one) for one in told for label in one.labels]
    assert any(label not in one.seen for label, one in pairs), "nothing is off screen"
    assert any(label not in one.heard for label, one in pairs), "nothing is silent"
    assert any(one.heard.get(x) and one.seen.get(x) and one.heard[x] != one.seen[x] for x, one in pairs), "no shift"
    assert any(one.heard.get(label) == one.seen.get(label) for label, one in pairs), "nothing agrees"


def test_four_clips_have_every_split() -> None:
    assert {story(number).split for number in range(4)} == {"train", "val", "test"}


def test_seeds_give_other_stories_under_other_ids() -> None:
    ids = {story(number, 10, seed).clip_id for number in range(3) for seed in range(36)}
    assert len(ids) == 3 * 36
    assert story(0, 10, 0).heard != story(0, 10, 1).heard


def test_classes_are_official_names() -> None:
    assert set(CLASSES) == set(SOUNDS) == set(LOOKS)
    assert set(CLASSES) <= set(LABELS)
    assert len(CLASSES) == 12


# ---- looks and sounds ------------------------------------------------------------------------------------------------


def test_every_class_looks_like_nothing_else() -> None:
    patch = Patch(104)
    clips = {}
    for label, paint in LOOKS.items():
        seen = []
        for t_s in np.arange(0, 1, 0.1):
            patch.clear()
            paint(patch, t_s)
            assert patch.alpha.min() >= 0
            assert patch.alpha.max() <= 1.0001
            assert patch.alpha.mean() > 0.08, f"{label} is too small to see"
            seen.append((120 * (1 - patch.alpha) + patch.rgb).copy())
        clips[label] = np.stack(seen)
        assert np.abs(np.diff(clips[label], axis=0)).max() > 30, f"{label} does not move"
    coarse = {label: c.mean(axis=0).reshape(13, 8, 13, 8, 3).mean(axis=(1, 3)) for label, c in clips.items()}
    for a in CLASSES:
        for b in CLASSES:
            if a < b:
                assert np.abs(coarse[a] - coarse[b]).mean() > 12, f"{a} looks like {b}"


def test_every_class_sounds_like_nothing_else() -> None:
    t_s = np.arange(4 * RATE_HZ) / RATE_HZ
    edges = np.geomspace(50, 12_000, 25)
    hz = np.fft.rfftfreq(RATE_HZ // 10, 1 / RATE_HZ)
    prints = {}
    for label, sound in SOUNDS.items():
        wave = sound(t_s)
        assert wave.shape == t_s.shape
        assert np.abs(wave).max() <= 1.0, label
        per_second = np.sqrt((wave.reshape(4, -1) ** 2).mean(axis=1))
        assert per_second.min() > 0.05, f"{label} is not heard in each second"
        power = np.abs(np.fft.rfft(wave.reshape(-1, RATE_HZ // 10), axis=1)) ** 2
        bands = [power[:, (hz >= a) & (hz < b)].sum(axis=1) for a, b in pairwise(edges)]
        bands = np.log10(np.stack(bands, axis=1) + 1e-2)
        prints[label] = np.concatenate([bands.mean(axis=0), bands.std(axis=0)])
    for a in CLASSES:
        for b in CLASSES:
            if a < b:
                assert np.abs(prints[a] - prints[b]).mean() > 0.3, f"{a} sounds like {b}"


def test_sound_does_not_depend_on_the_pieces_it_is_made_in() -> None:
    sound = sound_of(story(3))
    t_s = np.arange(10 * RATE_HZ) / RATE_HZ
    whole = sound(t_s)
    pieces = np.concatenate([sound(part) for part in np.split(t_s, [1000, 5096, 200_000])])
    np.testing.assert_array_equal(whole, pieces)
    assert np.abs(whole).max() <= 1.0


def test_every_object_is_inside_the_centre_crop() -> None:
    """256 -> 224 on 320x240 keeps columns 55 to 265 and rows 15 to 225."""
    for number in range(24):
        told = story(number)
        nothing = Story(told.clip_id, told.seconds, told.split, told.heard, {})
        with_things, without = picture_of(told), picture_of(nothing)
        for t_s in (0.5, 2.5, 4.5, 6.5, 8.5):
            difference = np.abs(with_things(0, t_s).astype(int) - without(0, t_s)).sum(axis=2) > 60
            inside = difference[15:225, 55:265].sum()
            assert inside >= 0.8 * difference.sum()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_the_manifest_lists_what_was_written(made: Made) -> None:
    clips = read_manifest(made.manifest)
    assert is_llp(clips)
    assert [clip.clip_id for clip in clips] == [story(k, SECONDS).clip_id for k in range(4)]
    assert [clip.labels for clip in clips] == [story(k, SECONDS).labels for k in range(4)]
    assert all(clip.start_ns == 0 and clip.stop_ns is None for clip in clips)
    assert clips[0].path == "../clips/demo_000000.mp4"
    assert all(resolve(clip, made.manifest).is_file() for clip in clips)
    assert sum(made.splits.values()) == 4
    assert made.size_bytes == sum(path.stat().st_size for path in made.folder.iterdir())
    assert {path.name for path in made.folder.iterdir()} == {f"{clip.clip_id[:11]}.mp4" for clip in clips}


def test_dense_and_weak_labels_agree(made: Made) -> None:
    assert made.dense == made.manifest.with_name("demo.dense.csv")
    assert made.dense.read_text().splitlines()[0] == "clip_id,modality,onset,offset,label"
    events = read_dense(made.dense)
    assert len(events) == made.events > 0
    for clip in read_manifest(made.manifest):
        mine = [event for event in events if event.clip_id == clip.clip_id]
        assert {event.label for event in mine} == set(clip.labels)
        assert {event.modality for event in mine} <= {"audio", "visual"}
        assert max(event.offset_s for event in mine) <= SECONDS


def test_the_files_are_what_the_command_says(made: Made) -> None:
    for path in made.folder.iterdir():
        with av.open(str(path)) as file:
            (video,), (audio,) = file.streams.video, file.streams.audio
            assert (video.codec_context.name, video.width, video.height) == ("h264", 320, 240)
            assert (video.average_rate, video.frames) == (30, 30 * SECONDS)
            assert (audio.codec_context.name, audio.rate, audio.codec_context.channels) == ("aac", 44_100, 2)
            assert file.duration / 1e6 == pytest.approx(SECONDS, abs=0.03)


def test_what_is_labelled_is_seen_and_heard_and_nothing_else_is(made: Made) -> None:
    quiet, empty = 0, 0
    for number in range(4):
        told = story(number, SECONDS)
        frames, sound = decode(made.folder / f"{told.clip_id[:11]}.mp4")
        assert frames.shape == (30 * SECONDS, 240, 320, 3)
        assert SECONDS * RATE_HZ <= len(sound) < SECONDS * RATE_HZ + 2048
        backdrop = picture_of(Story(told.clip_id, SECONDS, told.split, {}, {}))
        scene = picture_of(told)
        heard_alone = {
            label: sound_of(Story(told.clip_id, SECONDS, "", {label: s}, {})) for label, s in told.heard.items()
        }
        for second in range(SECONDS):
            # the codec smears a little sound over the edges of a second
            t_s = np.arange(int((second + 0.05) * RATE_HZ), int((second + 0.95) * RATE_HZ)) / RATE_HZ
            loud = np.sqrt((sound[int((second + 0.05) * RATE_HZ) :][: len(t_s)] ** 2).mean())
            active = [label for label, spans in told.heard.items() if at(spans, second)]
            if active:
                alone = min(np.sqrt((heard_alone[label](t_s) ** 2).mean()) for label in active)
                assert loud > 0.6 * alone > 0.004, f"{told.clip_id}: {active} cannot be heard in second {second}"
            else:
                quiet += 1
                assert loud < 0.002, f"{told.clip_id}: sound in second {second} that no label names"
            for k in (30 * second, 30 * second + 29):
                changed = (np.abs(frames[k].astype(int) - backdrop(k, k / 30)).max(axis=2) > 40).sum()
                if any(at(spans, second) for spans in told.seen.values()):
                    assert changed > 400, f"{told.clip_id}: nothing to see in frame {k}"
                    assert np.abs(frames[k].astype(int) - scene(k, k / 30)).mean() < 4
                else:
                    empty += 1
                    assert changed < 50, f"{told.clip_id}: frame {k} shows what no label names"
    assert quiet > 3
    assert empty > 3


def test_same_arguments_same_files(tmp_path: Path) -> None:
    def everything(name: str, **options: int) -> dict[str, bytes]:
        folder = tmp_path / name
        make_demo(folder / "clips", folder / "demo.csv", clips=2, seconds=2, **options)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first = everything("a")
    assert set(first) == {"clips/demo_000000.mp4", "clips/demo_000001.mp4", "demo.csv", "demo.dense.csv"}
    assert everything("b") == first
    assert everything("a") == first
    other = everything("c", seed=1)
    assert set(other) == {"clips/demo1000000.mp4", "clips/demo1000001.mp4", "demo.csv", "demo.dense.csv"}
    assert not set(first.values()) & set(other.values())


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_made_and_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(demo, ["--clips", "1", "--seconds", "2", "--manifest", "my lists/demo.csv"])
    assert result.exit_code == 0, result.output
    assert "made 1 clip of 2 s (train 1) in demo: 320x240, 30 fps, H.264 + AAC 44.1 kHz stereo" in result.output
    assert "next: extract run 'my lists/demo.csv' --weights random:0" in result.output
    assert "NO MEANING" in result.output
    assert "extract backbones fetch" in result.output
    assert "--weights official" in result.output
    assert "--weights DIR" in result.output
    assert [clip.path for clip in read_manifest("my lists/demo.csv")] == ["../demo/demo_000000.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips", "0"], "0 is not in the range 1<=x<=1000000"),
        (["--seconds", "1"], "1 is not in the range 2<=x<=3600"),
        (["--seed", "36"], "36 is not in the range 0<=x<=35"),
    ],
)
def test_wrong_options_of_the_command(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(demo, arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 0}, "clips must be 1..1000000, got 0"),
        ({"seconds": 1}, "seconds must be 2..3600, got 1"),
        ({"seed": -1}, "seed must be 0..35, got -1"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_written(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)):
        make_demo(tmp_path / "demo", tmp_path / "demo.csv", **options)
    assert list(tmp_path.iterdir()) == []


def test_another_manifest_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "llp.csv"
    write_manifest(path, [Clip("BjCEufrlXm4_20_30", "BjCEufrlXm4.mp4")])
    before = path.read_bytes()
    with pytest.raises(ManifestError, match=r"llp\.csv lists clips that are not of the demo; give another name"):
        make_demo(tmp_path / "demo", path, clips=1, seconds=2)
    assert path.read_bytes() == before
    assert not (tmp_path / "demo").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file in the way")
    with pytest.raises(ManifestError, match=r"cannot write the demo clips to .*demo"):
        make_demo(tmp_path / "demo", tmp_path / "demo.csv", clips=1, seconds=2)
    assert not (tmp_path / "demo.csv").exists()
