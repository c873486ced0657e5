"""The clips of a search, mapped: each feature its own numbers, whatever it is called and whatever was there before."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from pipelines.collocation.clips.arrays import array_path
from pipelines.collocation.clips.opened import fewer_classes, open_splits
from pipelines.collocation.clips.shared import share

ODD = ("x.y", "y", "timm:x.y", "a%b", "train")


@pytest.fixture
def odd_store(by_hand, tmp_path):
    """Features with unusual names: the first number of each says which one it is."""
    clips = [by_hand.clip(f"{split}{i}", split, ("Speech",), 3) for split in ("train", "val", "test") for i in range(2)]
    features = {
        name: {clip.clip_id: np.arange(6.0).reshape(3, 2) + 10 * at for clip in clips} for at, name in enumerate(ODD)
    }
    return by_hand.write(tmp_path / "odd", clips, features)


def test_features_with_unusual_names_are_told_apart(odd_store, tmp_path):
    share(odd_store, {"audio": ODD[:1], "visual": ODD[1:]}, "avvp", tmp_path / "o", classes="official")
    splits = open_splits(tmp_path / "o", ODD)
    assert [splits["val"].features[name][0, 0, 0].item() for name in ODD] == [0.0, 10.0, 20.0, 30.0, 40.0]


def test_a_folder_made_anew_is_read_anew(by_hand, tmp_path):
    """In one process, as benchmarks do it."""
    for number in (1.0, 2.0):
        store = by_hand.small(tmp_path / "s", arrays={("v0", "vggish"): np.full((3, 4), number)})
        share(store, {"audio": ("vggish",), "visual": ("resnet152",)}, "avvp", tmp_path / "o", classes="official")
        assert open_splits(tmp_path / "o", ["vggish"])["val"].features["vggish"][0, 0, 0].item() == number
        shutil.rmtree(tmp_path / "s")
        shutil.rmtree(tmp_path / "o")


def test_nothing_is_written_to_the_files(pairs_store, tmp_path):
    share(pairs_store, {"audio": ("vggish",), "visual": ("resnet152",)}, "avvp", tmp_path, classes="official")
    before = array_path(tmp_path / "seconds", "vggish", "train").read_bytes()
    open_splits(tmp_path, ["vggish"])["train"].features["vggish"].zero_()
    assert array_path(tmp_path / "seconds", "vggish", "train").read_bytes() == before
    assert open_splits(tmp_path, ["vggish"])["train"].features["vggish"].any()


def test_fewer_classes_leaves_the_whole_as_it_is(pairs_store, tmp_path):
    share(pairs_store, {"audio": ("vggish",), "visual": ("resnet152",)}, "avvp", tmp_path, classes="official")
    train = open_splits(tmp_path, ["vggish"])["train"]
    before = train.weak.clone()
    few = fewer_classes(train, 3)
    assert len(few) < len(train)
    assert (train.weak == before).all()
