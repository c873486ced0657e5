"""Ranking without training: the estimates are those of the features, and any of them can rank."""

from __future__ import annotations

import math

import numpy as np
import pytest

from extract.errors import PlanError, UnknownName
from pipelines.collocation.clips.opened import open_splits
from pipelines.collocation.clips.shared import share
from pipelines.collocation.collocations import every
from pipelines.collocation.methods import by_transfer
from pipelines.collocation.methods.by_transfer import estimators, rank_by_transfer
from pipelines.collocation.transfer.of_slots import estimates
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.stand_ins import StandIn

NAMES = {"audio": ("vggish", "openl3_audio"), "visual": ("resnet152", "vgg19_bn")}


@pytest.fixture(scope="module")
def root(pairs_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    share(pairs_store, {**NAMES, "clip": ("r2plus1d_18",)}, "avvp", folder, classes="official")
    return folder


def direct(root, slots, truth, seed=0):
    """What the estimators tell of a collocation, without what the method does in between."""
    splits = open_splits(root, list(slots.values()))
    train, val = (
        {slot: splits[name].features[each].flatten(2).numpy() for slot, each in slots.items()}
        for name in ("train", "val")
    )
    weak = (splits[name].weak.numpy() for name in ("train", "val"))
    return {each.name: each.value for each in estimates(train, val, *weak, truth(splits["val"]), seed=seed)}


def test_ranked_by_what_the_features_tell(root):
    found = rank_by_transfer(root, every(NAMES), seed=3)
    for each in every(NAMES):
        expected = direct(root, each.slots, lambda val: (val.truth.audio, val.truth.visual), seed=3)
        assert found["estimates"][each.name] == pytest.approx(expected)
        assert tuple(expected) == estimators(NAMES, timed=True)
    assert found["by"] == "logme_clips"
    scores = [row["score"] for row in found["ranking"]]
    assert scores == sorted(scores, reverse=True)
    assert scores == [found["estimates"][row["name"]]["logme_clips"] for row in found["ranking"]]
    assert found["winner"] == found["ranking"][0]["name"] == "vggish+resnet152"
    assert found["runner_up"] == found["ranking"][1]["name"]
    assert [row["wins"] for row in found["ranking"]] == [1, 0, 0, 0]
    assert found["settled"] is None
    assert (found["trained_epochs"], found["finished"]) == (0, True)


def test_any_estimator_ranks(root):
    winners = set()
    for by in ("logme_seconds", "logme_gain_clips", "cos_psi_visual", "cka_seconds"):
        found = rank_by_transfer(root, every(NAMES), by=by)
        values = {name: each[by] for name, each in found["estimates"].items()}
        assert found["by"] == by
        assert found["winner"] == max(values, key=values.__getitem__)
        assert found["verdict"].startswith(f"{found['winner']} has the highest {by};")
        winners.add(found["winner"])
    assert len(winners) > 1
    with pytest.raises(UnknownName, match="did you mean logme_"):
        rank_by_transfer(root, every(NAMES), by="logme")


def test_seconds_are_shared_among_those_that_need_a_backbone(root, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(by_transfer.time, "monotonic", lambda: now.__setitem__(0, now[0] + 1) or now[0])
    found = rank_by_transfer(root, every({"audio": ("vggish",), "visual": ("resnet152", "vgg19_bn")}))
    # 1 each for three backbones, of which vggish serves two, and 1 for each collocation
    assert [row["seconds"] for row in found["ranking"]] == [pytest.approx(1 + 1 + 0.5)] * 2
    assert found["wall_s"] == found["work_s"] == 1 + 3 * 2 + 2 * 2


def test_a_third_slot_and_only_one(root):
    found = rank_by_transfer(root, every({"audio": ("vggish",), "visual": ("resnet152",), "clip": ("r2plus1d_18",)}))
    assert found["runner_up"] == ""
    assert tuple(found["estimates"][found["winner"]]) == estimators(("audio", "visual", "clip"), timed=True)


def test_without_labels_of_seconds(by_hand, tmp_path):
    clips = [
        by_hand.clip(f"{split}{i}", split, ("Speech",) if i % 3 else ("Dog",), 3)
        for split in ("train", "val", "test")
        for i in range(16)
    ]
    rng = np.random.default_rng(0)
    features = {name: {clip.clip_id: rng.standard_normal((3, 4)) for clip in clips} for name in ("heard", "seen")}
    names = {"audio": ("heard",), "visual": ("seen",)}
    share(by_hand.write(tmp_path / "s", clips, features), names, "avvp", tmp_path, classes="official")
    (told,) = rank_by_transfer(tmp_path, every(names))["estimates"].values()
    assert tuple(told) == estimators(names, timed=False)
    assert all(math.isfinite(value) for value in told.values())


def test_ave_with_places_counts_no_background(tmp_path):
    easy = {"strength": 20.0, "confusion": 0.0}
    make_synthetic(
        tmp_path / "s", "ave", sizes={"train": 24, "val": 16, "test": 16},
        audio=[StandIn("vggish", "audio", (12,), **easy)], visual=[StandIn("vgg19_ave", "visual", (2, 2, 6), **easy)],
    )  # fmt: skip
    names = {"audio": ("vggish",), "visual": ("vgg19_ave",)}
    share(tmp_path / "s", names, "ave", tmp_path, classes="official")

    def truth(val):
        classes = val.weak.shape[1]
        happens = np.eye(classes)[val.event.numpy()][:, :, : classes - 1]
        return happens, happens[:, :, :0]

    (told,) = rank_by_transfer(tmp_path, every(names))["estimates"].values()
    assert told == pytest.approx(direct(tmp_path, {"audio": "vggish", "visual": "vgg19_ave"}, truth))


def test_stopped(root):
    asked = iter([False, True])
    assert rank_by_transfer(root, every(NAMES), stopping=lambda: next(asked)) == {"finished": False}


def test_too_few_clips(by_hand, tmp_path):
    names = {"audio": ("vggish",), "visual": ("resnet152",)}
    share(by_hand.small(tmp_path / "s"), names, "avvp", tmp_path, classes="official")
    with pytest.raises(PlanError, match="at least 16 clips in train and val; there are 6 and 3"):
        rank_by_transfer(tmp_path, every(names))
