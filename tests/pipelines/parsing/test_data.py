"""Splits of a store: rows by second, labels, and everything that can be wrong with either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from extract.errors import ManifestError, PlanError, StoreError, UnknownName
from extract.store import Store
from manifests import ave
from manifests.dense import Event
from pipelines.parsing import data
from pipelines.parsing.config import Config
from pipelines.parsing.data import Split, check_dims, load_split, resolve_keys, seconds_of
from pipelines.parsing.loaded import load
from pipelines.parsing.task import task_of

AVVP = task_of("avvp")
NAMES = {"audio": "vggish", "visual": "resnet152"}
Make = Callable[..., Any]


@pytest.fixture
def split(by_hand: ModuleType, tmp_path: Path) -> Callable[..., Split]:
    """``split("train", ...)`` of a store by by_hand.small."""

    def split(name: str, *, seconds: int | None = None, **more: Any) -> Split:
        store = Store(by_hand.small(tmp_path / "s", **more))
        return load_split(store, AVVP, resolve_keys(store, NAMES), name, seconds=seconds)

    return split


def test_a_split_is_what_the_store_holds(avvp_store: Path) -> None:
    store = Store(avvp_store)
    keys = resolve_keys(store, {**NAMES, "clip": "r2plus1d_18"})
    found = load_split(store, AVVP, keys, "test")
    assert found.ids == tuple(store.split_ids("test"))
    assert (len(found), found.seconds, found.over) == (9, 10, "9 of 9 clips")
    assert found.dims == {"audio": 24, "visual": 32, "clip": 20}
    for slot, key in keys.items():
        for i, clip_id in enumerate(found.ids):
            assert np.array_equal(found.features[slot][i].numpy(), store.rows(clip_id, key).data)
    for i, clip_id in enumerate(found.ids):
        labels = {AVVP.classes[c] for c in found.weak[i].nonzero().flatten().tolist()}
        assert labels == set(store.manifest[clip_id].labels)
    assert found.truth is not None
    wanted = {(e.clip_id, e.modality, e.label, s) for e in store.events for s in range(e.onset_s, e.offset_s)}
    told = {
        (found.ids[i], modality, AVVP.classes[c], s)
        for modality, array in (("audio", found.truth.audio), ("visual", found.truth.visual))
        for i, s, c in np.argwhere(array).tolist()
    }
    assert told == {each for each in wanted if each[0] in found.ids}


def test_of_training_clips_nothing_is_known_by_second(avvp_store: Path) -> None:
    store = Store(avvp_store)
    train = load_split(store, AVVP, resolve_keys(store, NAMES), "train")
    assert train.truth is None
    assert train.event is None


def test_eight_rows_of_a_second_are_their_mean(by_hand: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [by_hand.clip(f"c{i}", seconds=4) for i in range(5)]
    many = {each.clip_id: rng.standard_normal((32, 6)) for each in clips}
    one = {each.clip_id: rng.standard_normal((4, 3)) for each in clips}
    path = by_hand.write(tmp_path / "s", clips, {"resnet152": many, "vggish": one}, per_second={"resnet152": 8})
    store = Store(path)
    found = load_split(store, AVVP, resolve_keys(store, NAMES), "train")
    for i, clip_id in enumerate(found.ids):
        mean = many[clip_id].astype(np.float32).reshape(4, 8, 6).mean(axis=1)
        assert np.abs(found.features["visual"][i].numpy() - mean).max() < 1e-6
        assert np.array_equal(found.features["audio"][i].numpy(), one[clip_id].astype(np.float32))


def test_rows_that_a_policy_filled_count_as_zeros(by_hand: ModuleType, tmp_path: Path) -> None:
    """A whole second of them is zero; of a second with others, the mean is over the others."""
    clips = [by_hand.clip("c0", seconds=2)]
    many, one = np.arange(1, 9.0).reshape(4, 2), np.ones((2, 3))
    features = {"resnet152": {"c0": many}, "vggish": {"c0": one}}
    path = by_hand.write(tmp_path / "s", clips, features, per_second={"resnet152": 2, "vggish": 1}, invalid={"c0": [0]})
    store = Store(path)
    found = load_split(store, AVVP, resolve_keys(store, NAMES), "train")
    assert found.features["visual"][0].tolist() == [[3, 4], [6, 7]]
    assert found.features["audio"][0].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_reading_in_pieces_gives_the_same(avvp_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(avvp_store)
    keys = resolve_keys(store, NAMES)
    whole = load_split(store, AVVP, keys, "train")
    monkeypatch.setattr(data, "READ_AT_ONCE_BYTES", 3 * 10 * (24 + 32) * 4)
    pieces = load_split(store, AVVP, keys, "train")
    for slot in keys:
        assert torch.equal(whole.features[slot], pieces.features[slot])


def test_batches_and_parts(avvp_store: Path, ave_store: Path) -> None:
    for path, task, names in (
        (avvp_store, AVVP, NAMES),
        (ave_store, task_of("ave"), {"audio": "vggish", "visual": "vgg19_ave"}),
    ):
        store = Store(path)
        found = load_split(store, task, resolve_keys(store, names), "test")
        rows = torch.tensor([4, 0, 2])
        batch, part = found.batch(rows), found.part(rows.numpy())
        assert torch.equal(batch.rows, rows)
        assert part.ids == tuple(found.ids[i] for i in (4, 0, 2))
        assert torch.equal(batch.weak, found.weak[[4, 0, 2]])
        assert torch.equal(part.features["visual"], batch.features["visual"])
        if found.truth is not None and part.truth is not None and found.differing is not None:
            assert np.array_equal(part.truth.visual, found.truth.visual[[4, 0, 2]])
            assert part.differing is not None
            assert np.array_equal(part.differing.non_common, found.differing.non_common[[4, 0, 2]])
        else:
            assert batch.event is not None
            assert found.event is not None
            assert torch.equal(batch.event, found.event[[4, 0, 2]])


# ---- what can be wrong -----------------------------------------------------------------------------------------------


def test_clips_without_rows_are_told(split: Make) -> None:
    found = split("train", skip=[("t1", "vggish"), ("t3", "resnet152")], failed=[("t1", "vggish")])
    assert found.ids == ("t0", "t2", "t4", "t5")
    assert found.over == "4 of 6 clips"
    assert [(each.clip_id, each.key.partition("@")[0], each.why) for each in found.missing] == [
        ("t1", "vggish", "not_found (open): it is not there"),
        ("t3", "resnet152", "it was not extracted yet"),
    ]


def test_a_split_without_any_rows(split: Make) -> None:
    with pytest.raises(StoreError, match=r"none of 3 clips has rows of vggish@.*'v0' lacks vggish@.*not extracted yet"):
        split("val", skip=[(f"v{i}", "vggish") for i in range(3)])


def test_a_split_that_is_not_there(split: Make) -> None:
    with pytest.raises(UnknownName, match=r"no split of .* is called 'vall'; did you mean val\?"):
        split("vall")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(split: Make, bad: float) -> None:
    array = np.zeros((3, 6))
    array[1, 2] = bad
    with pytest.raises(
        StoreError, match=r"clip 't2' has NaN or infinite numbers in resnet152@.*`extract verify` lists .*rm --clip`"
    ):
        split("train", arrays={("t2", "resnet152"): array})


def test_a_clip_without_labels(split: Make) -> None:
    with pytest.raises(StoreError, match=r"clip 't1' has no labels in .*manifest\.csv; parsers need one per clip"):
        split("train", labels={"t1": ()})


def test_a_label_that_is_no_class(split: Make) -> None:
    with pytest.raises(
        ManifestError, match=r"no class is called 'Speach'; did you mean Speech\?; --classes manifest takes"
    ):
        split("train", labels={"t1": ("Speach",)})


@pytest.mark.parametrize("clip_id", ["t0", "t3"], ids=["the first", "another"])
def test_clips_of_different_lengths(split: Make, clip_id: str) -> None:
    short = {(clip_id, "vggish"): np.zeros((2, 4)), (clip_id, "resnet152"): np.zeros((2, 6))}
    with pytest.raises(StoreError, match=r"seconds of vggish@.*, others have .; parsers need one length"):
        split("train", arrays=short)


def test_one_slot_shorter_than_another(split: Make) -> None:
    with pytest.raises(StoreError, match=r"clip 't2' has 2 seconds of resnet152@.*, others have 3"):
        split("train", arrays={("t2", "resnet152"): np.zeros((2, 6))})


def test_another_length_than_the_other_splits(split: Make) -> None:
    with pytest.raises(StoreError, match=r"clip 't0' has 3 seconds of vggish@.*, others have 10"):
        split("train", seconds=10)


def test_without_labels_with_times_there_is_no_truth(split: Make) -> None:
    found = split("val", events=())
    assert found.truth is None
    assert found.differing is None


def test_a_feature_that_is_not_there(avvp_store: Path) -> None:
    with pytest.raises(UnknownName, match=r"is called 'vgish'; did you mean vggish\?; `extract run MANIFEST"):
        resolve_keys(Store(avvp_store), {**NAMES, "audio": "vgish"})


def test_two_slots_with_one_key(avvp_store: Path) -> None:
    with pytest.raises(PlanError, match=r"two slots have the same key, vggish@.*: name another one for each slot"):
        load(Config("avvp", "han", "vggish", "vggish"), avvp_store, ["val"])


def test_a_store_without_a_manifest(by_hand: ModuleType, tmp_path: Path) -> None:
    path = by_hand.small(tmp_path / "s")
    for name in ("manifest.csv", "manifest.dense.csv", "index.h5"):
        (path / name).unlink(missing_ok=True)
    store = Store(path)
    with pytest.raises(StoreError, match="holds no manifest, so nothing is known of splits and labels"):
        load_split(store, AVVP, resolve_keys(store, NAMES), "train")


def test_the_manifests_own_classes(by_hand: ModuleType, tmp_path: Path) -> None:
    """In order of the alphabet where they are not official."""
    path = by_hand.small(tmp_path / "s", labels={"t1": ("Zebra", "Dog")})
    config = Config("avvp", "han", "vggish", "resnet152", classes="manifest")
    loaded = load(config, path, ["train", "val"])
    assert loaded.task.classes == ("Dog", "Speech", "Zebra")
    train = loaded.splits["train"]
    assert train.weak[train.ids.index("t1")].tolist() == [1, 0, 1]
    assert loaded.splits["val"].weak.shape == (3, 3)


def test_notes_name_the_first_missing_clip(by_hand: ModuleType, tmp_path: Path) -> None:
    path = by_hand.small(tmp_path / "s", skip=[("e1", "vggish"), ("e2", "vggish")])
    loaded = load(Config("avvp", "han", "vggish", "resnet152"), path, ["train", "test"])
    (note,) = loaded.notes()
    assert note.startswith("test: 1 of 3 clips; the first that is missing, e1, lacks vggish@")


def test_dims_that_do_not_fit(split: Make) -> None:
    found = split("val")
    check_dims(found, {"audio": 4, "visual": 6})
    with pytest.raises(PlanError, match=r"reads 5 numbers per second in the slot audio, the store's key gives 4"):
        check_dims(found, {"audio": 5, "visual": 6})
    with pytest.raises(PlanError, match=r"in the slot clip, and no key is given: --clip"):
        check_dims(found, {"audio": 4, "visual": 6, "clip": 512})


# ---- AVE -------------------------------------------------------------------------------------------------------------


def test_seconds_of_ave() -> None:
    task = task_of("ave", ["Dog", "Cat"])
    events = [Event("a", "both", 1, 3, "Cat"), Event("a", "both", 2, 4, "Cat"), Event("b", "audio", 0, 5, "Dog")]
    assert seconds_of(events, ["b", "a"], task, 5).tolist() == [[2] * 5, [2, 1, 1, 1, 2]]


def test_two_events_in_one_second_of_ave() -> None:
    task = task_of("ave", ["Dog", "Cat"])
    events = [Event("a", "both", 1, 3, "Cat"), Event("a", "both", 2, 4, "Dog")]
    with pytest.raises(StoreError, match=r"clip 'a' has events of several classes in seconds 2 to 4.*avvp any number"):
        seconds_of(events, ["a"], task, 5)


def test_an_ave_split(ave_store: Path) -> None:
    store = Store(ave_store)
    task = task_of("ave")
    found = load_split(store, task, resolve_keys(store, {"audio": "vggish", "visual": "vgg19_ave"}), "train")
    assert found.event is not None
    assert found.truth is None
    assert found.features["visual"].shape == (48, 10, 7, 7, 16)
    assert found.weak[:, ave.LABELS.index("Bark")].sum() > 0
    assert not found.weak[:, -1].any(), "no clip is labelled background"
    for row, weak in zip(found.event.tolist(), found.weak, strict=True):
        assert set(row) <= {int(weak.argmax()), 28}
        assert set(row) - {28}


def test_an_ave_clip_without_rows_takes_its_labels_along(by_hand: ModuleType, tmp_path: Path) -> None:
    clips = [by_hand.clip(f"c{i}", "val", ("Dog",), 3) for i in range(3)]
    events = [Event(f"c{i}", "both", i, 3, "Dog") for i in range(3)]
    features = {"vggish": {name: np.ones((3, 4)) for name in ("c0", "c2")}}
    store = Store(by_hand.write(tmp_path / "s", clips, features, events))
    found = load_split(store, task_of("ave", ["Cat", "Dog"]), {"audio": store.resolve("vggish")}, "val")
    assert found.event is not None
    assert found.event.tolist() == [[1, 1, 1], [2, 2, 1]]
    assert found.over == "2 of 3 clips"
