"""What collocations share: the same clips, read once; what cannot be ranked is flagged."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch

from extract.errors import PlanError, StoreError, StoreUnwritable, UnknownName
from pipelines.collocation.clips import arrays, shared
from pipelines.collocation.clips.opened import fewer_classes, open_splits
from pipelines.collocation.clips.shared import share
from pipelines.parsing.config import Config
from pipelines.parsing.loaded import load

NAMES = {"audio": ("vggish", "openl3_audio"), "visual": ("resnet152",)}


def test_the_same_numbers_and_labels_as_a_parser_gets(pairs_store, tmp_path):
    found = share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    splits = open_splits(tmp_path, ["vggish", "resnet152"])
    loaded = load(Config("avvp", "han", audio="vggish", visual="resnet152"), pairs_store, ("train", "val", "test"))
    assert found.slots == {"audio": ("vggish", "openl3_audio"), "visual": ("resnet152",)}
    assert found.clips == {"train": (40, 40), "val": (20, 20), "test": (20, 20)}
    assert not found.flagged
    assert not found.notes
    assert found.labels == loaded.labels
    assert found.timed == ("val", "test")
    assert found.classes == loaded.task.classes
    for name, split in loaded.splits.items():
        mine = splits[name]
        assert mine.ids == split.ids
        assert torch.equal(mine.features["vggish"], split.features["audio"])
        assert torch.equal(mine.features["resnet152"], split.features["visual"])
        assert torch.equal(mine.weak, split.weak)
        assert (mine.truth is None) == (split.truth is None)
        if split.truth is not None:
            assert np.array_equal(mine.truth.audio, split.truth.audio)
            assert np.array_equal(mine.truth.visual, split.truth.visual)


def test_what_was_read_is_not_read_again(pairs_store, tmp_path, monkeypatch):
    first = share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    monkeypatch.setattr(shared, "AlignedRows", None)
    again = share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    assert {name: getattr(first, name) for name in first.__slots__} == {
        name: getattr(again, name) for name in again.__slots__
    }


@pytest.mark.parametrize("name", ["vggish.train.npy", "labels.val.npz"])
@pytest.mark.parametrize("size", [None, 0, 1000])
def test_a_damaged_array_is_refused_and_can_be_read_anew(pairs_store, tmp_path, name, size):
    share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    path = tmp_path / "seconds" / name
    whole = path.read_bytes()
    path.unlink() if size is None else os.truncate(path, size)
    with pytest.raises(
        StoreError, match=rf"{name} is damaged: it has [\d,]+ of {len(whole):,} bytes; remove .*seconds"
    ):
        share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    shutil.rmtree(tmp_path / "seconds")
    share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    assert path.read_bytes() == whole


def test_a_folder_of_other_features_is_refused(pairs_store, tmp_path):
    share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    with pytest.raises(PlanError, match=r"holds a search with other slots .*give another folder"):
        share(pairs_store, {**NAMES, "audio": ("vggish",)}, "avvp", tmp_path, classes="official")


def test_in_blocks_as_at_once(pairs_store, tmp_path, monkeypatch):
    share(pairs_store, NAMES, "avvp", tmp_path / "once", classes="official")
    monkeypatch.setattr(arrays, "READ_AT_ONCE_BYTES", 7 * 10 * 24 * 4)
    share(pairs_store, NAMES, "avvp", tmp_path / "blocks", classes="official")
    for path in sorted((tmp_path / "once" / "seconds").iterdir()):
        assert path.read_bytes() == (tmp_path / "blocks" / "seconds" / path.name).read_bytes(), path.name


def test_unknown_and_twice(pairs_store, tmp_path):
    with pytest.raises(UnknownName, match="vggisch"):
        share(pairs_store, {"audio": ("vggisch",), "visual": ("resnet152",)}, "avvp", tmp_path, classes="official")
    with pytest.raises(PlanError, match="named twice"):
        share(
            pairs_store, {"audio": ("vggish",), "visual": ("resnet152",), "clip": ("resnet152",)}, "avvp", tmp_path,
            classes="official",
        )  # fmt: skip


BOTH = {"audio": ("vggish",), "visual": ("resnet152",)}
CLIPS = [f"{split}{i}" for split, count in (("t", 6), ("v", 3), ("e", 3)) for i in range(count)]


def test_a_constant_backbone_is_flagged(by_hand, tmp_path):
    same = {(clip, "resnet152"): np.full((3, 6), 0.3) for clip in CLIPS if clip[0] == "t"}
    store = by_hand.small(tmp_path / "s", arrays=same)
    found = share(store, BOTH, "avvp", tmp_path / "o", classes="official")
    assert found.flagged == {"resnet152": "the same numbers in every second of every training clip"}
    assert found.slots == {"audio": ("vggish",), "visual": ()}
    assert found.clips == {"train": (6, 6), "val": (3, 3), "test": (3, 3)}


def test_one_number_that_differs_is_not_constant(by_hand, tmp_path):
    same = {(clip, "resnet152"): np.full((3, 6), 0.3) for clip in CLIPS}
    same["t5", "resnet152"][2, 5] = 0.4
    store = by_hand.small(tmp_path / "s", arrays=same)
    assert not share(store, BOTH, "avvp", tmp_path / "o", classes="official").flagged


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("clip", "split"), [("t4", "train"), ("e2", "test")])
def test_a_backbone_with_nan_is_flagged_and_leaves_no_file(by_hand, tmp_path, clip, split, bad):
    rows = np.ones((3, 6))
    rows[1, 2] = bad
    store = by_hand.small(tmp_path / "s", arrays={(clip, "resnet152"): rows})
    found = share(store, BOTH, "avvp", tmp_path / "o", classes="official")
    assert found.flagged == {"resnet152": f"NaN or infinite numbers, first in clip {clip!r} of {split}"}
    assert not (tmp_path / "o" / "seconds" / f"resnet152.{split}.npy").exists()
    with pytest.raises(StoreError, match=r"no feature can be ranked: resnet152: NaN"):
        share(store, {"visual": ("resnet152",)}, "avvp", tmp_path / "p", classes="official")


def test_the_common_clips_are_compared_and_it_says_so(by_hand, tmp_path):
    store = by_hand.small(tmp_path / "s", skip=[("t1", "resnet152"), ("v0", "vggish"), ("v2", "resnet152")])
    found = share(store, BOTH, "avvp", tmp_path / "o", classes="official")
    assert found.clips == {"train": (5, 6), "val": (1, 3), "test": (3, 3)}
    assert found.notes[0].startswith(
        "train: all are compared on the 5 of 6 clips that all have (resnet152 lacks 1; the first"
    )
    assert (
        "val: all are compared on the 1 of 3 clips that all have (vggish lacks 1, resnet152 lacks 1;" in found.notes[1]
    )
    splits = open_splits(tmp_path / "o", ["vggish", "resnet152"])
    assert splits["train"].ids == ("t0", "t2", "t3", "t4", "t5")
    assert len(splits["train"].features["vggish"]) == 5


def test_without_a_flagged_backbone_its_clips_count_again(by_hand, tmp_path):
    bad = np.full((3, 6), np.nan)
    store = by_hand.small(tmp_path / "s", skip=[("t1", "resnet152")], arrays={("t2", "resnet152"): bad})
    found = share(store, BOTH, "avvp", tmp_path / "o", classes="official")
    assert found.clips["train"] == (6, 6)
    assert not found.notes


def test_without_labels_with_times(by_hand, tmp_path):
    store = by_hand.small(tmp_path / "s", events=[])
    found = share(store, BOTH, "avvp", tmp_path / "o", classes="official")
    assert found.timed == ()
    assert found.labels == ""
    assert open_splits(tmp_path / "o", ["vggish"])["val"].truth is None


@pytest.mark.parametrize("leave", [0, 30_000])
def test_a_full_disk(pairs_store, small_disk, leave):
    disk = small_disk("1m")
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - leave))
    with pytest.raises(StoreUnwritable, match="the disk is full"):
        share(pairs_store, NAMES, "avvp", disk / "o", classes="official")
    (disk / "filler").unlink()
    share(pairs_store, NAMES, "avvp", disk / "o", classes="official")


@pytest.mark.parametrize("kept", [1, 7, 25])
def test_fewer_classes(pairs_store, tmp_path, kept):
    share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    train = open_splits(tmp_path, ["vggish"])["train"]
    found = fewer_classes(train, kept)
    expected = [i for i, clip_id in enumerate(train.ids) if train.weak[i, :kept].any()]
    assert found.ids == tuple(train.ids[i] for i in expected)
    assert torch.equal(found.weak[:, :kept], train.weak[expected, :kept])
    assert not found.weak[:, kept:].any()
    assert torch.equal(found.features["vggish"], train.features["vggish"][expected])


@pytest.mark.parametrize("kept", [0, 26])
def test_no_such_number_of_classes(pairs_store, tmp_path, kept):
    share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    with pytest.raises(PlanError, match="it must be 1 to 25"):
        fewer_classes(open_splits(tmp_path, ["vggish"])["train"], kept)


def test_the_index_is_plain_json(pairs_store, tmp_path):
    share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    told = json.loads((tmp_path / "seconds" / "index.json").read_text())
    assert told["told"]["keys"]["vggish"].startswith("vggish@")


def test_constant_in_each_block_is_not_constant(by_hand, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "READ_AT_ONCE_BYTES", 1)
    each = {(clip, "resnet152"): np.full((3, 6), float(number)) for number, clip in enumerate(CLIPS)}
    store = by_hand.small(tmp_path / "s", arrays=each)
    assert not share(store, BOTH, "avvp", tmp_path / "o", classes="official").flagged


@pytest.mark.parametrize(("clips", "per_second", "what"), [(2, 1, "asked"), (3, 2, "keys")])
def test_a_store_that_was_made_anew_is_refused(by_hand, tmp_path, clips, per_second, what):
    """At the same place: with a clip less, or on another grid."""

    def make(count, per_second):
        listed = [by_hand.clip(f"{s}{i}", s, ("Speech",), 3) for s in ("train", "val", "test") for i in range(count)]
        rows = {"vggish": 3 * per_second, "resnet152": 3}
        features = {
            name: {clip.clip_id: np.arange(2.0 * size).reshape(size, 2) for clip in listed}
            for name, size in rows.items()
        }
        return by_hand.write(tmp_path / "s", listed, features, per_second={"vggish": per_second})

    share(make(3, 1), BOTH, "avvp", tmp_path / "o", classes="official")
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(PlanError, match=f"holds a search with other {what}"):
        share(make(clips, per_second), BOTH, "avvp", tmp_path / "o", classes="official")
