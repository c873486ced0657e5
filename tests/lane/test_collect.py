"""From events to rows: failures keep to the feature they concern, and nothing is left unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from backbones.spec import Backbone, Frames, Sound
from extract.chunk import Todo
from extract.decode.events import Block, Broken, Event, Opened
from extract.errors import DeviceUnavailable, NoAudio, Truncated, Undecodable
from extract.grid import NS, Grid
from extract.lane.collect import Result, collect
from extract.lane.lane import key_info
from extract.plan import Feature, Plan
from manifests.clip import Clip

EYE = Frames(count=2, resize=(4, 4), crop=None)
EAR = Sound(rate_hz=100, samples=100)
GRID = Grid()


def feature(name: str, *views: Any) -> Feature:
    backbone = Backbone(name, tuple(views) if len(views) > 1 else views[0], (3,), lambda: None, ())  # type: ignore[arg-type, return-value]
    return Feature(backbone, backbone.views, GRID, "random:0")


SEES, HEARS, BOTH = feature("sees", EYE), feature("hears", EAR), feature("both", EYE, EAR)
PLAN = Plan("test", (SEES, HEARS, BOTH))
TAPS = PLAN.taps(PLAN.keys)
WINDOWS = GRID.windows_ns(3 * NS)


@dataclass
class FakeModel:
    """Rows are the mean of the first view, in batches of two."""

    feature: Feature
    batch: int = 2
    calls: list[tuple[int, ...]] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, views: Sequence[Any]) -> Any:
        self.calls.append(tuple(len(view) for view in views))
        if self.error:
            raise self.error
        means = views[0].reshape(len(views[0]), -1).astype(np.float32).mean(axis=1)
        return np.repeat(means[:, None], 3, axis=1)


def run(events: Any, plan: Plan = PLAN, **errors: Exception) -> tuple[Result, dict[str, FakeModel]]:
    models = {each.key: FakeModel(each, error=errors.get(each.backbone.name)) for each in plan.features}
    infos = {each.key: key_info(each) for each in plan.features}
    todo = Todo(Clip("c", "c.mp4"), "c.mp4", plan.keys)
    result = collect(todo, plan.taps(plan.keys), events, plan, models, infos)  # type: ignore[arg-type]
    return result, {key.split("@")[0]: model for key, model in models.items()}


def pictures(first: int, count: int, blank: bool = False) -> Block:
    data = np.stack([np.full((2, 4, 4, 3), 10 * (first + i), np.uint8) for i in range(count)])
    source = (
        np.full((count, 2), -1) if blank else np.arange(first, first + count)[:, None] * NS + np.array([0, NS // 2])
    )
    return Block(0, first, data, np.full(count, int(not blank), np.uint8), source)


def sounds(first: int, count: int, valid: int = 1) -> Block:
    data = np.full((count, 100), 0.5, np.float32)
    return Block(1, first, data, np.full(count, valid, np.uint8), np.arange(first, first + count)[:, None] * NS)


def opened(**errors: Any) -> Opened:
    return Opened((WINDOWS, WINDOWS), {0 if name == "eye" else 1: error for name, error in errors.items()})


def names(result: Result) -> list[str]:
    return [rows.key.split("@")[0] for rows in result.rows]


def test_rows_of_every_feature_in_batches_of_one_size() -> None:
    result, models = run([opened(), pictures(0, 1), sounds(0, 3), pictures(1, 2)])
    assert names(result) == ["sees", "hears", "both"]
    assert result.failed == result.masked == []
    assert models["sees"].calls == [(2,), (1,)]
    assert models["both"].calls == [(2, 2), (1, 1)]
    sees, hears, both = result.rows
    assert sees.data[:, 0].tolist() == [0.0, 10.0, 20.0]
    assert (sees.source_ns.shape, hears.source_ns.shape, both.source_ns.shape) == ((3, 2), (3, 1), (3, 2))
    assert sees.source_ns[1].tolist() == [NS, NS + NS // 2]


def test_rows_that_show_nothing_stay_zero_and_never_reach_the_network() -> None:
    result, models = run([opened(), pictures(0, 2), pictures(2, 1, blank=True), sounds(0, 2), sounds(2, 1, valid=0)])
    sees, hears, both = result.rows
    assert models["sees"].calls == [(2,)]
    assert models["hears"].calls == [(2,), (1,)], "repeated sound is heard, and marked"
    assert models["both"].calls == [(2, 2)]
    for rows in (sees, hears, both):
        assert rows.valid.tolist() == [1, 1, 0]
    assert not sees.data[2].any()
    assert {(remark.reason, remark.stage) for remark in result.masked} == {("too_short", "decode")}
    assert len(result.masked) == 3
    assert "1 of 3 rows" in result.masked[0].message


@pytest.mark.parametrize("policy", ["mask", "skip", "error"])
def test_missing_sound(policy: Any) -> None:
    plan = Plan("test", PLAN.features, missing_audio=policy)
    result, models = run([opened(ear=NoAudio("mute")), pictures(0, 3)], plan)
    assert not models["hears"].calls
    assert not models["both"].calls
    assert result.rows[-1].data.any(), "the pictures are there"
    remarks = result.failed if policy == "error" else result.masked
    assert [(remark.key.split("@")[0], remark.reason, remark.message) for remark in remarks] == [
        ("hears", "no_audio", "mute"),
        ("both", "no_audio", "mute"),
    ]
    assert (result.masked if policy == "error" else result.failed) == []
    if policy == "mask":
        assert names(result) == ["hears", "both", "sees"]
        silent = result.rows[1]
        assert (silent.data.any(), silent.valid.any(), silent.source_ns.tolist()) == (False, False, [[-1, -1]] * 3)
        assert result.rows[0].source_ns.shape == (3, 1)
    else:
        assert names(result) == ["sees"]


def test_another_fault_of_the_sound_is_a_failure_under_every_policy() -> None:
    result, _ = run([opened(ear=Truncated("cut off")), pictures(0, 3)])
    assert [remark.reason for remark in result.failed] == ["truncated", "truncated"]
    assert names(result) == ["sees"]


def test_a_view_that_breaks_takes_only_the_features_that_need_it() -> None:
    result, _ = run([opened(), pictures(0, 2), sounds(0, 3), Broken(0, Undecodable("after 2 frames"))])
    assert names(result) == ["hears"]
    assert [(remark.key.split("@")[0], remark.reason) for remark in result.failed] == [
        ("sees", "undecodable"),
        ("both", "undecodable"),
    ]


def test_a_second_opening_voids_the_first() -> None:
    events = [opened(eye=Undecodable("no")), sounds(0, 2), opened(), pictures(0, 3), sounds(0, 3)]
    result, _ = run(events)
    assert names(result) == ["sees", "hears", "both"]
    assert result.failed == []


def test_an_error_of_the_whole_clip() -> None:
    def events(*first: Event) -> Any:
        yield from first
        raise Truncated("the file ends here")

    result, _ = run(events())
    assert {(remark.stage, remark.reason) for remark in result.failed} == {("open", "truncated")}
    assert len(result.failed) == 3
    result, _ = run(events(opened(), pictures(0, 3)))
    assert {remark.stage for remark in result.failed} == {"decode"}
    assert (len(result.failed), result.rows) == (3, [])


def test_a_network_that_raises_is_a_bug_of_that_feature() -> None:
    result, models = run([opened(), pictures(0, 3), sounds(0, 3)], sees=ZeroDivisionError("oh"))
    assert names(result) == ["hears", "both"]
    (remark,) = result.failed
    assert (remark.stage, remark.reason) == ("model", "bug")
    assert remark.message.startswith("ZeroDivisionError: oh at test_collect.py:")
    assert len(models["sees"].calls) == 1, "it is not tried again on the same clip"


def test_a_device_that_is_gone_stops_everything() -> None:
    with pytest.raises(DeviceUnavailable):
        run([opened(), pictures(0, 3), sounds(0, 3)], sees=DeviceUnavailable("no memory left"))


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([opened(), sounds(0, 3), pictures(0, 2)], "2 of 3 rows came"),
        ([opened(), sounds(0, 3), pictures(1, 2)], "came out of order"),
        ([], "said nothing"),
    ],
    ids=["owes", "order", "silence"],
)
def test_a_decoder_that_breaks_its_word_is_a_bug(events: list[Event], words: str) -> None:
    result, _ = run(events)
    assert {remark.reason for remark in result.failed} == {"bug"}
    assert all(words in remark.message for remark in result.failed)
    assert {rows.key for rows in result.rows} | {remark.key for remark in result.failed} == set(PLAN.keys)
