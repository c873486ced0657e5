"""New videos, end to end: the answer is that of the stored features, and what cannot be parsed is said in a line."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract import api
from extract.errors import ClipError, NoAudio, NotFound, NotMedia, PlanError, SpanOutside, StoreError, UnknownName
from extract.grid import NS
from extract.job import Choices
from extract.plan import canonical_json, key_of
from extract.running import Machine
from extract.store import Store
from extract.testing import make_video, not_media
from manifests.clip import Clip, write_manifest
from manifests.dense import Event, dense_path, write_dense
from pipelines.parsing import run as running
from pipelines.parsing.config import Config
from pipelines.parsing.data import load_split
from pipelines.parsing.evaluate import predict as predict_split
from pipelines.parsing.judge import trained
from pipelines.parsing.synthetic.stand_ins import stand_in
from pipelines.parsing.task import task_of
from pipelines.parsing.video.keys import wanted
from pipelines.parsing.video.predict import ParsedVideo, predict
from pipelines.parsing.video.predicted import check_names, write_video
from pipelines.parsing.video.windows import Video, cut, look_at

T = 3
ONE = Machine(torch_threads=1)


@pytest.fixture(scope="module", autouse=True)
def zoo(way: ModuleType) -> Iterator[None]:
    """The tiny networks and one with regions, for the whole module; lanes in this process."""
    from backbones import registry
    from backbones.spec import Backbone, Frames

    registry.names()
    before = dict(registry._zoo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(registry.PLUGINS, str(way.PLUGINS))
        patch.setattr("extract.engine.local.LocalEngine", way.InlineEngine)
        registry._load_folder(way.PLUGINS)
        view = Frames(count=1, resize=28, crop=28)
        registry.register(
            Backbone(
                name="tiny_regions", view=view, dims=(7, 7, 8), build=_regions, weights=(), batch=4, params=1, gmacs=1
            )
        )
        yield
    registry._zoo.clear()
    registry._zoo.update(before)
    for name in [name for name in sys.modules if name.startswith("extract_plugin_tiny_")]:
        del sys.modules[name]


def _regions() -> Any:
    from torch import nn

    class Last(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).contiguous()

    return nn.Sequential(nn.Flatten(0, 1), nn.Conv2d(3, 8, 4, stride=4), Last())


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole clips ``c0`` to ``c5`` of T seconds, ``long`` of 23, ``mute``, ``sound`` and ``text``."""
    folder = tmp_path_factory.mktemp("films")
    small: dict[str, Any] = {"width": 64, "height": 48, "fps": 10, "gop": 5}
    for i in range(6):
        make_video(folder / f"c{i}.mp4", duration_s=T, **small, picture=lambda k, t_s, i=i: _blink(i, t_s))
    make_video(folder / "long.mp4", duration_s=23, **small)
    make_video(folder / "mute.mp4", duration_s=T, audio=None, **small)
    make_video(folder / "sound.mp4", video=None, duration_s=T)
    not_media(folder / "text.mp4")
    return folder


def _blink(i: int, t_s: float) -> np.ndarray:
    return np.full((48, 64, 3), int(60 + 25 * i + 40 * (int(t_s) % 2)), np.uint8)


def _store(
    folder: Path, films: Path, visual: str, labels: tuple[str, str], modality: Any, recipe: str = "per-second"
) -> Path:
    """Features made in two extractions with different choices; labels for all splits."""
    splits = ("train", "train", "train", "val", "test", "test")
    clips = [
        Clip(f"c{i}", str(films / f"c{i}.mp4"), 0, None, (labels[i % 2],), split) for i, split in enumerate(splits)
    ]
    write_manifest(folder / "m.csv", clips)
    events = [
        Event(clip.clip_id, modality, 0, 2, clip.labels[0])
        for clip in clips
        if modality == "both" or clip.split != "train"
    ]
    write_dense(dense_path(folder / "m.csv"), events)
    api.run(folder / "m.csv", Choices(backbones=(visual,), weights="random:0", recipe=recipe), ONE, folder / "s")
    other = Choices(backbones=("tiny_sound",), weights="random:1", recipe=recipe, storage="float16")
    api.run(folder / "m.csv", other, ONE, folder / "s")
    return folder / "s"


@pytest.fixture(scope="module")
def avvp(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avvp")
    store = _store(folder, films, "tiny_frames", ("Speech", "Dog"), "audio")
    config = Config("avvp", "han", "tiny_sound", "tiny_frames", epochs=1, gate="none")
    running.run(config, store, folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture(scope="module")
def ave(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ave")
    store = _store(folder, films, "tiny_regions", ("Church bell", "Bark"), "both")
    running.run(Config("ave", "avel", "tiny_sound", "tiny_regions", epochs=1), store, folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture(scope="module")
def llp(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on clips whose pictures were spread over ten rows."""
    folder = tmp_path_factory.mktemp("llp")
    store = _store(folder, films, "tiny_frames", ("Speech", "Dog"), "audio", "llp")
    running.run(Config("avvp", "han", "tiny_sound", "tiny_frames", epochs=1), store, folder / "run", device="cpu")
    return folder / "run"


def one(run: Path, video: Path, **more: Any) -> ParsedVideo:
    told = predict(run, [video], device="cpu", threads=1, **more)
    for _, error in told.failed:
        raise error
    return told.videos[0]


def stored(run: Path, clip_id: str) -> np.ndarray:
    """What the parser says of features in the store."""
    config, model, told = trained(run)
    split = load_split(Store(Path(told["store"])), task_of(config.task), told["keys"], "test")
    found = predict_split(model, split.part(np.array([split.ids.index(clip_id)])))
    return found.probabilities.frame[0] if found.probabilities is not None else found.score[0]  # type: ignore[index]


def moved(run: Path, to: Path, **changes: Any) -> Path:
    """A copy of a run whose ``config.json`` says something else."""
    shutil.copytree(run, to)
    told = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(told | changes))
    return to


def _identity(run: Path, slot: str = "visual") -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.loads((run / "config.json").read_text())["infos"][slot]["identity"])
    return told


def _told(run: Path, slot: str = "visual", **changes: Any) -> dict[str, Any]:
    """``config.json`` with something else in the identity of a slot."""
    told: dict[str, Any] = json.loads((run / "config.json").read_text())
    changed = canonical_json(_identity(run, slot) | changes)
    told["infos"][slot]["identity"], told["keys"][slot] = changed, key_of(changed)
    return told


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_a_clip_gets_the_answer_of_its_stored_features_to_the_bit(avvp: Path, films: Path) -> None:
    for name in ("c4", "c5"):
        video = one(avvp, films / f"{name}.mp4")
        assert (video.seconds, video.probability.shape) == (T, (T, 2, 25))
        assert video.probability.tobytes() == stored(avvp, name).tobytes()
    assert one(avvp, films / "c4.mp4").probability.tobytes() != stored(avvp, "c5").tobytes()


def test_ave_has_one_row_and_probabilities_that_sum_to_one(ave: Path, films: Path) -> None:
    video = one(ave, films / "c4.mp4")
    score = stored(ave, "c4")
    assert video.probability.shape == (T, 29)
    assert np.allclose(video.probability.sum(axis=1), 1, atol=1e-6)
    assert [row.name for row in video.rows] == ["AV predicted"]
    shown = np.full(T, 28)
    for event in video.events:
        assert event.modality == "both"
        shown[event.onset_s : event.offset_s] = video.classes.index(event.label)
        mean = video.probability[event.onset_s : event.offset_s, video.classes.index(event.label)].mean()
        assert event.probability == pytest.approx(float(mean))
    assert shown.tolist() == score.argmax(axis=1).tolist()
    with pytest.raises(PlanError, match="--gate is for avvp"):
        one(ave, films / "c4.mp4", gate="none")


def test_a_long_video_is_cut_into_windows_that_are_parsed_apart_and_joined(avvp: Path, films: Path) -> None:
    told: list[tuple[int, int]] = []
    video = one(avvp, films / "long.mp4", on_window=lambda done, of: told.append((done, of)))
    assert (video.seconds, len(video.probability), told[-1]) == (23, 23, (8, 8))
    for start, stop in ((3, 6), (18, 21), (21, 23)):
        part = one(avvp, films / "long.mp4", start_ns=start * NS, stop_ns=stop * NS)
        assert part.probability.tobytes() == video.probability[start:stop].tobytes()
    assert any("the last window holds 2 of the 3 seconds" in note and "zeros" in note for note in video.notes)
    assert not any("no sound" in note or "no pictures" in note for note in video.notes)
    assert any("RANDOM" in note for note in video.notes)
    heard = video.probability[:, 0] >= 0.5
    assert sum(e.offset_s - e.onset_s for e in video.events if e.modality == "audio") == heard.sum()
    joined = [event for event in video.events if event.onset_s // T != (event.offset_s - 1) // T]
    assert joined, "events that meet at an edge are one"
    assert max(event.offset_s for event in video.events) <= 23
    assert "23 s" in video.text


def test_where_the_recipe_stretches_pictures_the_last_window_is_a_whole_one(llp: Path, films: Path) -> None:
    video = one(llp, films / "long.mp4")
    assert len(video.probability) == 23
    last = one(llp, films / "long.mp4", start_ns=13 * NS)
    assert last.probability[7:].tobytes() == video.probability[20:].tobytes()
    assert any("the last window begins at 13 s" in note for note in video.notes)
    short = one(llp, films / "c4.mp4")
    assert short.probability.tobytes() == stored(llp, "c4")[:T].tobytes()
    assert any("holds 3 of the 10 seconds" in note and "pictures are spread" in note for note in short.notes)


def test_a_stretch_of_a_video(avvp: Path, films: Path) -> None:
    video = one(avvp, films / "long.mp4", start_ns=NS * 41 // 2, stop_ns=30 * NS)
    assert (video.seconds, video.title) == (3, "long.mp4 from 20.5 s")
    assert any(note.startswith("the video ends at 23") and "--stop 30" in note for note in video.notes)
    with pytest.raises(PlanError, match="--stop 2 must be after --start 3"):
        predict(avvp, [films / "long.mp4"], start_ns=3 * NS, stop_ns=2 * NS)
    with pytest.raises(SpanOutside, match="starts at 99 s"):
        one(avvp, films / "long.mp4", start_ns=99 * NS)


def test_the_gate_decides_what_is_told(avvp: Path, films: Path) -> None:
    open_, shut = (one(avvp, films / "c4.mp4", gate=gate) for gate in ("none", "global"))
    assert open_.probability.tobytes() == shut.probability.tobytes()
    assert set(shut.events) <= set(open_.events)
    assert predict(avvp, [films / "c4.mp4"], device="cpu", threads=1, gate="global").gate.startswith("global: ")
    with pytest.raises(UnknownName, match="did you mean global"):
        one(avvp, films / "c4.mp4", gate="globl")


# ---- windows ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300 * NS), st.integers(1, 20), st.booleans(), st.integers(0, 50 * NS))
def test_windows_hold_each_second_once(length_ns: int, seconds: int, stretched: bool, start_ns: int) -> None:
    video = Video(Path("v.mp4"), start_ns, None, length_ns)
    windows = list(cut(video, "v", seconds, stretched=stretched))
    told = [s for w in windows for s in range(w.first, w.first + w.count)]
    assert told == list(range(video.seconds))
    assert abs(video.seconds * NS - length_ns) <= NS // 2 or video.seconds == 1
    assert windows[-1].clip.stop_ns is None, "as a clip of a whole file has it"
    for window in windows:
        clip = window.clip
        assert clip.start_ns == start_ns + (window.first - window.skip) * NS
        assert window.skip + window.count <= seconds
        assert clip.stop_ns is None or clip.stop_ns - clip.start_ns == seconds * NS
        if stretched and video.seconds >= seconds:
            assert window.skip + window.count == seconds
        if not stretched:
            assert window.skip == 0


def test_features_of_other_lengths_than_the_runs_are_refused(avvp: Path, films: Path, tmp_path: Path) -> None:
    grid = _identity(avvp, "audio")["grid"] | {"hop_ns": 4 * NS}
    run = moved(avvp, tmp_path / "run", **_told(avvp, "audio", grid=grid))
    with pytest.raises(
        PlanError, match=r"audio: clips of the run have 3 seconds of tiny_sound@\w+, and 3 seconds of a video have 5"
    ):
        one(run, films / "c4.mp4")


def test_the_length_is_that_of_the_packets(films: Path) -> None:
    assert look_at(films / "long.mp4").seconds == 23
    assert look_at(films / "long.mp4", 20 * NS).seconds == 3
    assert look_at(films / "long.mp4", 0, 5 * NS).length_ns == 5 * NS


# ---- which features --------------------------------------------------------------------------------------------------


def test_the_choices_are_found_without_the_store(avvp: Path, films: Path, tmp_path: Path) -> None:
    run = moved(avvp, tmp_path / "run", store=str(tmp_path / "gone"))
    assert one(run, films / "c4.mp4").probability.tobytes() == stored(avvp, "c4").tobytes()
    told = json.loads((run / "config.json").read_text())
    sound, frames = wanted(told)
    assert (sound.slot, sound.choices.weights, sound.choices.storage) == ("audio", "random:1", "float16")
    assert (frames.slot, frames.choices.weights, frames.choices.storage) == ("visual", "random:0", "float32")
    assert {each.slot: each.feature.key for each in (sound, frames)} == told["keys"]


def test_other_weights_or_another_recipe_are_refused_with_what_to_give(avvp: Path, films: Path) -> None:
    with pytest.raises(
        PlanError,
        match=r"audio: .* tiny_sound with the weights random:1, and --weights random:0 gives random:0; give --weights random:1$",
    ):
        one(avvp, films / "c4.mp4", weights="random:0")
    with pytest.raises(
        PlanError,
        match=r"--recipe llp-clean does not make tiny_sound@.*: grid.count is 10, the run's None; leave it out, or give native",
    ):
        one(avvp, films / "c4.mp4", recipe="llp-clean")
    with pytest.raises(UnknownName, match="did you mean per-second"):
        one(avvp, films / "c4.mp4", recipe="per-sec")
    with pytest.raises(PlanError, match="the seed must be a whole number"):
        one(avvp, films / "c4.mp4", weights="random:x")


def test_features_that_nothing_here_makes_are_refused(avvp: Path) -> None:
    with pytest.raises(UnknownName, match=r"tiny_framed.*EXTRACT_PLUGINS"):
        wanted(_told(avvp, backbone="tiny_framed"))
    views = _identity(avvp)["views"]
    with pytest.raises(PlanError, match=r"no recipe here makes tiny_frames@.*; nearest is .*: views\[0\]"):
        wanted(_told(avvp, views=[views[0] | {"resize": 99}]))
    with pytest.raises(PlanError, match="give --weights DIR, the folder of those files"):
        wanted(_told(avvp, weights="file:12ab"), weights="random:1")
    hop = _identity(avvp)["grid"] | {"hop_ns": NS // 2}
    assert wanted(_told(avvp, grid=hop))[1].choices.hop_ns == NS // 2


def test_synthetic_and_imported_features_are_refused(avvp: Path) -> None:
    from extract.store.importing.released import column

    info = stand_in("resnet152", "visual", strength=1.0).info({"seed": 0}, 10)
    told = json.loads((avvp / "config.json").read_text())
    told["keys"]["visual"], told["infos"]["visual"] = info.key, {"identity": info.identity}
    with pytest.raises(PlanError, match="visual: the run was trained on synthetic features"):
        wanted(told)
    imported = column("resnet152", (2048,), 80, NS // 8, "llp", "official").info
    told["keys"]["visual"], told["infos"]["visual"] = imported.key, {"identity": imported.identity}
    with pytest.raises(PlanError, match="visual: the run was trained on imported features"):
        wanted(told)


# ---- videos that cannot be parsed ------------------------------------------------------------------------------------


def test_a_mute_video_is_parsed_with_a_note_or_refused_as_the_store_was_made(
    avvp: Path, films: Path, tmp_path: Path
) -> None:
    video = one(avvp, films / "mute.mp4")
    assert any(note.startswith(f"no sound from 0 to {T} s") for note in video.notes)
    told = json.loads((avvp / "config.json").read_text())
    shutil.copytree(told["store"], tmp_path / "s")
    for ledger in (tmp_path / "s" / "runs").glob("*.jsonl"):
        ledger.write_text(ledger.read_text().replace('"missing_audio": "mask"', '"missing_audio": "skip"'))
    run = moved(avvp, tmp_path / "run", store=str(tmp_path / "s"))
    with pytest.raises(NoAudio, match=r"mute\.mp4: no audio stream; .* leave out clips without sound") as told_why:
        one(run, films / "mute.mp4")
    assert "--stop" not in str(told_why.value), "nothing would be left"


def test_one_bad_video_does_not_cost_the_others(avvp: Path, films: Path) -> None:
    names = ["nowhere", "c4", "text", "sound", "c5"]
    told = predict(avvp, [films / f"{name}.mp4" for name in names], device="cpu", threads=1)
    assert [video.path.stem for video in told.videos] == ["c4", "c5"]
    assert told.videos[1].probability.tobytes() == stored(avvp, "c5").tobytes()
    failed = {path.stem: error for path, error in told.failed}
    assert list(failed) == ["nowhere", "text", "sound"]
    assert isinstance(failed["nowhere"], NotFound)
    assert isinstance(failed["text"], NotMedia)
    assert "no video stream" in str(failed["sound"])
    assert all("\n" not in str(error) for error in failed.values())


def test_what_only_the_extraction_finds_becomes_the_message(avvp: Path, films: Path, tmp_path: Path) -> None:
    video = tmp_path / "late.mp4"
    make_video(video, width=64, height=48, fps=10, gop=5, duration_s=4, audio_duration_s=9)
    with pytest.raises(ClipError, match=r"late\.mp4.*; that is behind 6 s, which --stop can leave out$"):
        one(avvp, video)
    both = predict(avvp, [video, films / "c4.mp4"], device="cpu", threads=1)
    assert ([each.path.stem for each in both.videos], len(both.failed)) == (["c4"], 1)
    assert one(avvp, video, stop_ns=4 * NS).seconds == 4


# ---- files and the command -------------------------------------------------------------------------------------------


def test_what_is_written_can_be_read_and_nothing_else_is_replaced(avvp: Path, films: Path, tmp_path: Path) -> None:
    video = replace(one(avvp, films / "long.mp4", start_ns=NS * 3 // 2, stop_ns=9 * NS))
    for _ in range(2):
        picture, table = write_video(video, tmp_path / "out")
    assert (picture.name, table.name) == ("long.svg", "long.csv")
    assert "long.mp4 from 1.5 s" in picture.read_text()
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == len(video.events) > 0
    assert rows[0]["onset"] == f"{1.5 + video.events[0].onset_s:g}"
    assert (rows[0]["modality"], rows[0]["label"]) == (video.events[0].modality, video.events[0].label)
    assert float(rows[0]["probability"]) == pytest.approx(video.events[0].probability, abs=1e-4)
    for name in ("long.svg", "long.csv"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(StoreError, match="did not write it"):
            write_video(video, tmp_path)
        with pytest.raises(StoreError, match="did not write it"):
            check_names([video.path], tmp_path)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    with pytest.raises(PlanError, match=r"would both be drawn as a\.svg"):
        check_names([Path("x/a.mp4"), Path("b.mp4"), Path("y/a.mkv")], tmp_path)


@pytest.fixture
def extract(way: ModuleType, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    return lambda *args: way.invoke(capsys, monkeypatch, "parse", "predict", *args)


def test_the_command(extract: Callable[..., Any], avvp: Path, films: Path, tmp_path: Path) -> None:
    plain = ("--threads", 1, "--device", "cpu", "-o", tmp_path / "out")
    done = extract(avvp, films / "c4.mp4", films / "text.mp4", films / "long.mp4", "--stop", "7.0", *plain)
    assert done.returncode == 2, "one of them failed"
    assert done.stderr.count("extract: ") == 1
    assert "text.mp4: no known demuxer" in done.stderr
    assert "c4.mp4 (3 s)" in done.stdout
    assert "long.mp4 (7 s)" in done.stdout
    assert "A predicted" in done.stdout
    assert "gate: none" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["c4.csv", "c4.svg", "long.csv", "long.svg"]
    wrong = extract(avvp, films / "c4.mp4", "--weights", "random:7", *plain)
    assert wrong.returncode == 2
    assert "give --weights random:1" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    assert "--start: '1e3'" in extract(avvp, films / "c4.mp4", "--start", "1e3").stderr
    assert "is not there; is" in extract(tmp_path, films / "c4.mp4").stderr


def test_the_temporary_store_is_gone_afterwards(
    avvp: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one(avvp, films / "c4.mp4")
    with pytest.raises(PlanError):
        one(avvp, films / "c4.mp4", weights="random:7")
    assert list(tmp_path.iterdir()) == []
