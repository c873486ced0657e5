"""The planted truth: it is in the store, a probe sees the strengths, and trained parsers find the pair that was planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.errors import PlanError, StoreError
from extract.store import Store
from pipelines.collocation.planted import AUDIO, VISUAL, Planted, plant, single_scores
from pipelines.collocation.stack.stacked import Member, Stack
from pipelines.parsing import metrics
from pipelines.parsing.data import Split, load_split, resolve_keys
from pipelines.parsing.synthetic.scenes import Scene
from pipelines.parsing.synthetic.stand_ins import StandIn, confused
from pipelines.parsing.task import task_of

FEW = {"train": 1, "val": 1, "test": 1}


def tiny(folder: Path, seed: int, **more: Any) -> Planted:
    return plant(folder, seed, **{"sizes": FEW, "dims": (2, 3), **more})


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Planted]:
    """By seed: with enough labelled clips for a probe, and hardly any others."""
    folder = tmp_path_factory.mktemp("probed")
    sizes = {"train": 1, "val": 200, "test": 200}
    return lambda seed: plant(folder / f"{seed}", seed, sizes=sizes, dims=(96, 128))


def stand_ins(store: Path) -> dict[str, StandIn]:
    """What the store itself says of its features."""
    found = {}
    for info in Store(store).keys():  # noqa: SIM118
        told = json.loads(info.identity)
        made = told["stand_in"] | {"dims": tuple(told["stand_in"]["dims"])}
        found[told["backbone"]] = StandIn(told["backbone"], **made)
    return found


def splits(found: Planted, pair: str, *names: str) -> list[Split]:
    store = Store(found.store)
    keys = resolve_keys(store, dict(zip(("audio", "visual"), pair.split("+"), strict=True)))
    return [load_split(store, task_of("avvp"), keys, name) for name in names]


# ---- what is planted -------------------------------------------------------------------------------------------------


def test_parts_are_drawn(tmp_path: Path) -> None:
    found = [tiny(tmp_path / f"{seed}", seed) for seed in range(24)]
    audio, visual = zip(*(each.best.split("+") for each in found), strict=True)
    assert set(audio) == set(AUDIO)
    assert set(visual) == set(VISUAL)
    # the best does not tell which is the strongest alone
    assert len({(each.best, each.best_singles) for each in found}) > len({each.best for each in found})


def test_what_is_told_is_in_the_store(tmp_path: Path) -> None:
    found = tiny(tmp_path / "s", 3)
    real = stand_ins(found.store)
    assert found.strengths == {name: each.strength for name, each in real.items()}
    assert {name for name, each in real.items() if each.modality == "audio"} == set(found.audio)
    assert {each.confusion for each in real.values()} == {1.0}
    assert sorted(found.fits) == sorted(found.pairs)
    for pair, fit in found.fits.items():
        one, other = (set(confused(25, real[name])) for name in pair.split("+"))
        # fits are of whole fours, of which there are 6
        assert 1 - len(one & other) / len(one) == pytest.approx(fit, abs=1 / 11)


def test_the_best_is_not_the_pair_of_the_best(tmp_path: Path) -> None:
    for seed in range(6):
        found = tiny(tmp_path / f"{seed}", seed)
        heard, seen = (max(names, key=found.strengths.__getitem__) for names in (found.audio, found.visual))
        assert found.best_singles == f"{heard}+{seen}"
        assert found.fits[found.best_singles] == 0
        assert found.fits[found.best] == 1
        fitting = [name for name in found.visual if found.fits[f"{heard}+{name}"] == 1]
        assert found.best == f"{heard}+{max(fitting, key=found.strengths.__getitem__)}"


def test_equal_arguments_find_the_same(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    first = tiny(tmp_path / "s", 2, on_clip=lambda done, clips: told.append((done, clips)))
    assert told == [(3, 3)]
    assert tiny(tmp_path / "s", 2, on_clip=lambda done, clips: told.append((done, clips))) == first
    assert len(told) == 1
    assert {split: len(Store(first.store).split_ids(split)) for split in FEW} == FEW
    with pytest.raises(StoreError, match="another command"):
        tiny(tmp_path / "s", 3)
    with pytest.raises(PlanError, match="sizes are"):
        tiny(tmp_path / "t", 2, sizes={"train": 5, "val": 5})
    with pytest.raises(PlanError, match="must not be negative"):
        tiny(tmp_path / "t", -1)


# ---- what is found of it ---------------------------------------------------------------------------------------------


def test_the_probe_sees_the_strengths(probed: Callable[[int], Planted]) -> None:
    for seed in range(2):
        found = probed(seed)
        scores = single_scores(found)
        assert set(scores) == set(found.strengths)
        for names in (found.audio, found.visual):
            assert max(names, key=scores.__getitem__) == max(names, key=found.strengths.__getitem__)
            assert min(names, key=scores.__getitem__) == min(names, key=found.strengths.__getitem__)
        assert all(25 < score < 80 for score in scores.values())


def test_the_probe_is_not_asked_about_what_it_was_fitted_to(probed: Callable[[int], Planted], tmp_path: Path) -> None:
    """With more numbers than seconds it would know all of these by heart."""
    few = plant(tmp_path / "few", 0, sizes={"train": 1, "val": 30, "test": 30}, dims=(400, 400))
    assert max(single_scores(few).values()) < max(single_scores(probed(0)).values())


def test_the_probe_asks_ears_what_is_heard_and_eyes_what_is_seen(tmp_path: Path) -> None:
    """Where nothing is both, the labels of one tell nothing of the other."""
    apart = Scene(together=0, shifted=0, off_screen=0.5, silent=0.5)
    found = plant(tmp_path / "s", 0, sizes={"train": 1, "val": 150, "test": 150}, dims=(96, 128), scene=apart)
    scores = single_scores(found)
    assert all(scores[name] > 50 for name in scores if found.strengths[name] > 4)


def test_a_probe_needs_seconds(tmp_path: Path) -> None:
    silent = Scene(together=0, shifted=0, off_screen=0, silent=1)
    with pytest.raises(PlanError, match=r"val has 0 seconds in which one class is there \(audio\)"):
        single_scores(tiny(tmp_path / "s", 0, scene=silent))


def test_a_backbone_helps_the_ones_that_it_fits(probed: Callable[[int], Planted]) -> None:
    """In the seconds in which one class is heard and seen: the best audio backbone beside a visual one, and that one alone."""
    found = probed(0)
    audio = found.best.split("+")[0]
    gain = {}
    for name in found.visual:
        val, test = splits(found, f"{audio}+{name}", "val", "test")
        alone, both = (_told_apart(val, test, slots) for slots in (["visual"], ["audio", "visual"]))
        gain[f"{audio}+{name}"] = both - alone
    assert gain[found.best] > gain[found.best_singles] + 0.06
    assert min(gain, key=gain.__getitem__) == found.best_singles


def _told_apart(known: Split, asked: Split, slots: list[str]) -> float:
    """Share of seconds in which ridge regression finds the class."""
    (rows, classes), (others, theirs) = (_happening(each, slots) for each in (known, asked))
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    rows, others = (rows - mean) / scale, (others - mean) / scale
    squares = rows.T @ rows + 0.1 * len(rows) * np.eye(rows.shape[1])
    weights = np.linalg.solve(squares, rows.T @ (classes - classes.mean(axis=0)))
    guess = (others @ weights + classes.mean(axis=0)).argmax(axis=1)
    return float((guess == theirs.argmax(axis=1)).mean())


def _happening(split: Split, slots: list[str]) -> tuple[np.ndarray, np.ndarray]:
    assert split.truth is not None
    heard, seen = (each.reshape(-1, each.shape[-1]) for each in (split.truth.audio, split.truth.visual))
    one = (heard == seen).all(axis=1) & (heard.sum(axis=1) == 1)
    rows = np.concatenate([split.features[slot].numpy().reshape(len(one), -1) for slot in slots], axis=1)
    return rows[one], heard[one].astype(float)


@pytest.mark.slow
def test_trained_parsers_find_it(tmp_path: Path) -> None:
    """Against the pair of the best singles, and the best visual one beside the other audio one."""
    found = plant(tmp_path / "s", 0)
    heard, seen = found.best.split("+")
    other = next(name for name in found.audio if name != heard)
    pairs = (found.best, found.best_singles, f"{other}+{seen}")
    loaded = {pair: splits(found, pair, "train", "test") for pair in pairs}
    features = [
        {name: loaded[pair][part].features[slot] for pair in pairs for slot, name in _slots(pair)} for part in (0, 1)
    ]
    members = [Member(pair, dict(_slots(pair)), seed=0, lr=1e-3) for pair in pairs]
    stack = Stack(members, features[0], loaded[found.best][0].weak, width=128)
    for epoch in range(10):
        stack.epoch(epoch, batch=16)
    truth = loaded[found.best][1].truth
    assert truth is not None
    scores = {
        pair: metrics.score(metrics.binarise(each, "global"), truth).segment.type
        for pair, each in zip(pairs, stack.predict(features[1]), strict=True)
    }
    assert scores[found.best] > max(scores[pair] for pair in pairs[1:]) + 1.5, scores


def _slots(pair: str) -> list[tuple[str, str]]:
    return list(zip(("audio", "visual"), pair.split("+"), strict=True))
