"""Choices become a job: which clips, from where, under which limits; and they survive a ledger."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from extract.commands import options
from extract.errors import MissingManifest, PlanError, UnknownName
from extract.job import Choices, limits_of, make_job
from extract.plan import Limits
from extract.todo import headers, remembered_choices
from manifests.clip import Clip, write_manifest


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    (tmp_path / "lists").mkdir()
    write_manifest(tmp_path / "lists" / "m.csv", [Clip(f"c{i}", f"v/c{i}.mp4") for i in range(5)])
    return tmp_path / "lists" / "m.csv"


def test_paths_are_absolute_and_the_store_has_the_manifests_name(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(listed.parent.parent)
    job = make_job(Path("lists/m.csv"), Choices(weights="random:0"))
    assert job.paths["c3"] == str(listed.parent / "v" / "c3.mp4")
    assert job.store == Path("features/m")
    assert len(job.missing) == 5
    (listed.parent / "v").mkdir()
    (listed.parent / "v" / "c3.mp4").touch()
    assert [clip.clip_id for clip in job.missing] == ["c0", "c1", "c2", "c4"]
    elsewhere = make_job(listed, Choices(weights="random:0", videos=str(listed.parent.parent)))
    assert elsewhere.paths["c3"] == str(listed.parent.parent / "v" / "c3.mp4")


def test_some_clips(listed: Path) -> None:
    def chosen(**choices: object) -> list[str]:
        job = make_job(listed, Choices(weights="random:0", **choices))  # type: ignore[arg-type]
        assert [clip.clip_id for clip in job.listed] == [f"c{i}" for i in range(5)]
        assert list(job.paths) == [clip.clip_id for clip in job.clips]
        return list(job.paths)

    assert chosen() == ["c0", "c1", "c2", "c3", "c4"]
    assert chosen(limit=2) == ["c0", "c1"]
    assert chosen(limit=9) == ["c0", "c1", "c2", "c3", "c4"]
    assert chosen(only=("c4", "c1")) == ["c1", "c4"], "in the manifest's order"
    assert chosen(only=("c4", "c1"), limit=1) == ["c1"]
    with pytest.raises(UnknownName, match="no clip of the manifest is called 'c9'"):
        chosen(only=("c9",))


def test_the_recipe_is_that_of_the_whole_manifest(tmp_path: Path) -> None:
    """Else `--only` of one clip could change the recipe, and with it every key."""
    long = Clip("holiday", "x.mp4", 0, 60 * 10**9)
    write_manifest(tmp_path / "m.csv", [Clip("BjCEufrlXm4_20_30", "b.mp4", 0, 10 * 10**9, ("Speech",), "train"), long])
    whole = make_job(tmp_path / "m.csv", Choices(weights="random:0"))
    one = make_job(tmp_path / "m.csv", Choices(weights="random:0", only=("BjCEufrlXm4_20_30",)))
    assert one.plan.keys == whole.plan.keys


def test_limits() -> None:
    assert limits_of(Choices()) == Limits()
    assert limits_of(Choices(max_pixels=7, max_seconds=0.5, max_frames=3)) == Limits(7, 0.5, 3)


def test_choices_survive_a_ledger() -> None:
    choices = Choices(backbones=("a", "b"), only=("-x",), limit=3, max_seconds=2.5, weights="/w", precision="bfloat16")
    header = json.loads(json.dumps({"choices": asdict(choices)}))
    assert remembered_choices(header) == choices
    assert remembered_choices(json.loads(json.dumps({"choices": asdict(Choices())}))) == Choices()


def test_the_last_ledger_that_says_something(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    assert list(headers(tmp_path)) == []
    for number, text in enumerate(['{"line":"header","n":0}\n', '{"line":"header","n":1}\n{"li', "", '{"line":"hea']):
        (runs / f"2026010{number}T000000Z-0000.jsonl").write_text(text)
    assert [header["n"] for header in headers(tmp_path)] == [1, 0]


def test_what_cannot_be_a_job(listed: Path) -> None:
    with pytest.raises(MissingManifest, match="extract manifest ave"):
        make_job(listed.parent / "ave.csv", Choices())
    with pytest.raises(PlanError, match="there is no such folder"):
        make_job(listed, Choices(videos=str(listed.parent / "nowhere"), weights="random:0"))


# ---- what the command line makes of its options ----------------------------------------------------------------------


def test_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {**asdict(Choices()), "backbones": " resnet18, vggish,", "weights": "files", "videos": "clips"}
    choices = options.choices(given)
    assert given == {}
    assert choices.backbones == ("resnet18", "vggish")
    assert choices.weights == str(tmp_path / "files")
    assert choices.videos == str(tmp_path / "clips")
    for text in ("official", "random:3"):
        assert options.choices({**asdict(Choices()), "backbones": "", "weights": text}).weights == text


def test_devices_are_shared_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_cuda_count", lambda: 2)
    assert options.devices("auto", None, "local") == ("cuda:0", "cuda:1")
    assert options.devices("auto", 3, "ray") == ("cuda:0", "cuda:1", "cuda:0")
    assert options.devices("auto", None, "ray", "10.0.0.1:6379") == ("cpu",)
    assert options.devices("cuda:1, cpu", 3, "local") == ("cuda:1", "cpu", "cuda:1")
    assert options.devices("cpu", None, "local") == ("cpu",)
    monkeypatch.setattr(options, "_cuda_count", lambda: 0)
    assert options.devices("auto", 2, "local") == ("cpu", "cpu")
    assert options.devices("cuda", None, "local") == ("cuda:0",), "asked for and absent: the lane says so"
    with pytest.raises(PlanError, match="names no device"):
        options.devices(" ,", None, "local")
