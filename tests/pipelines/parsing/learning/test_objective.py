"""What a step minimises: which parts, of which clips, in which epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from extract.errors import PlanError
from pipelines.parsing import run_folder
from pipelines.parsing.batch import Batch
from pipelines.parsing.config import Config
from pipelines.parsing.learning import objective as objective_module
from pipelines.parsing.learning.denoising import Denoising
from pipelines.parsing.learning.losses import mil_loss
from pipelines.parsing.learning.mtsm import Mtsm, mtsm_loss
from pipelines.parsing.learning.objective import make_objective
from pipelines.parsing.loaded import Loaded, load
from pipelines.parsing.networks import build
from pipelines.parsing.outputs import pool

pytestmark = pytest.mark.usefixtures("narrow")
Make = Callable[..., Config]
MIL = ("audio", "visual", "video")
SPLICED = tuple(f"{group}_{name}" for group in ("outer", "inserted") for name in MIL)
QUICK = Denoising(estimator_epochs=2, estimator_batch=32)


@pytest.fixture
def loaded(avvp_store: Path, config: Make) -> Loaded:
    return load(config(), avvp_store, ["train", "val"])


@pytest.fixture
def located(ave_store: Path, config: Make) -> Loaded:
    return load(config("ave"), ave_store, ["train", "val"])


def parts_of(config: Config, loaded: Loaded, epoch: int, folder: Path, rows: Tensor | None = None) -> dict[str, Tensor]:
    objective = make_objective(config, loaded.splits, loaded.task.classes, folder)
    model = build(config, len(loaded.task.classes), loaded.dims)
    model.eval()  # without dropout, so that losses can be compared
    rows = torch.arange(16) if rows is None else rows
    return objective.parts(model, rows, epoch, float(epoch))


def test_the_loss_of_han(loaded: Loaded, config: Make, tmp_path: Path) -> None:
    parts = parts_of(config(), loaded, 0, tmp_path)
    assert tuple(parts) == MIL
    model = build(config(), 25, loaded.dims).eval()
    batch = loaded.splits["train"].batch(torch.arange(16))
    wanted = mil_loss(pool(model(**batch.features)), batch.weak)
    assert all(torch.equal(parts[name], wanted[name]) for name in MIL)
    other = parts_of(config(smooth_audio=0.5), loaded, 0, tmp_path)
    assert other["audio"] != parts["audio"]
    assert other["visual"] == parts["visual"]


def test_mtsm_adds_its_parts_as_configured(loaded: Loaded, config: Make, tmp_path: Path) -> None:
    plain = parts_of(config(), loaded, 0, tmp_path)
    parts = parts_of(config(loss="mtsm"), loaded, 0, tmp_path)
    assert tuple(parts) == (*MIL, "l1", "l2")
    assert all(torch.equal(parts[name], plain[name]) for name in MIL)
    model = build(config(), 25, loaded.dims).eval()
    parsed = model(**loaded.splits["train"].batch(torch.arange(16)).features)
    for options in (Mtsm(), Mtsm(t_exp=2.0), Mtsm(weight=0.25, l2_weight=2.0), Mtsm(terms=("l2",)), Mtsm(diag="mask")):
        found = parts_of(config(loss="mtsm", mtsm=options), loaded, 0, tmp_path)
        wanted = mtsm_loss(parsed.before, parsed.after, options)
        assert set(found) == {*MIL, *wanted}
        assert all(torch.allclose(found[name], value) for name, value in wanted.items())
    assert found["l1"] != parts["l1"]


@pytest.mark.parametrize("loss", ["mil", "mtsm"])
def test_cross_instance_by_schedule(loaded: Loaded, config: Make, tmp_path: Path, loss: Any) -> None:
    """The published cycle of four epochs, which begins again; mixed clips have the losses of their parts only."""
    mixed = config(augment="cross_instance", loss=loss)
    objective = make_objective(mixed, loaded.splits, loaded.task.classes, tmp_path)
    assert [objective.kind(epoch) for epoch in range(6)] == [
        "plain", "plain", "modality", "temporal", "plain", "plain",
    ]  # fmt: skip
    plain = (*MIL, "l1", "l2") if loss == "mtsm" else MIL
    for epoch, names in enumerate((plain, plain, ("audio", "visual"), SPLICED, plain)):
        assert tuple(parts_of(mixed, loaded, epoch, tmp_path)) == names
    never = make_objective(config(), loaded.splits, loaded.task.classes, tmp_path)
    assert {never.kind(epoch) for epoch in range(8)} == {"plain"}


def test_clips_are_mixed_with_clips_of_other_labels(loaded: Loaded, config: Make, tmp_path: Path) -> None:
    """In every step of an epoch, whatever the batches; other epochs and seeds mix others."""
    train = loaded.splits["train"]
    seen: list[Any] = []

    class Spy(nn.Module):
        def forward(self, **features: Tensor) -> Any:
            seen.append(features)
            raise StopIteration

    def mixed(epoch: int, seed: int = 0, rows: Tensor | None = None) -> dict[str, Tensor]:
        options = config(augment="cross_instance", seed=seed)
        objective = make_objective(options, loaded.splits, loaded.task.classes, tmp_path)
        with pytest.raises(StopIteration):
            objective.parts(Spy(), torch.arange(16) if rows is None else rows, epoch, float(epoch))
        return dict(seen.pop())

    def source(row: Tensor, slot: str) -> int:
        """The number of the training clip a second was taken from."""
        (number,) = torch.unique((train.features[slot] == row).all(dim=2).nonzero()[:, 0]).tolist()
        return int(number)

    swapped = mixed(2)
    for i in range(16):
        assert torch.equal(swapped["audio"][i], train.features["audio"][i])
        other = source(swapped["visual"][i, 0], "visual")
        assert not (train.weak[i] * train.weak[other]).any()
    spliced = mixed(3)
    assert spliced["audio"].shape[1] == 20
    for i in range(16):
        clips = {source(second, "audio") for second in spliced["audio"][i]}
        assert len(clips) == 2
        (other,) = clips - {i}
        assert not (train.weak[i] * train.weak[other]).any()
    assert not torch.equal(mixed(6)["visual"], swapped["visual"])
    assert not torch.equal(mixed(2, seed=1)["visual"], swapped["visual"])
    some = mixed(2, rows=torch.tensor([5, 3]))
    assert torch.equal(some["visual"], swapped["visual"][[5, 3]]), "a clip's partner does not depend on its batch"


def test_renormalise_is_of_spliced_clips_only(loaded: Loaded, config: Make, tmp_path: Path) -> None:
    one, other = config(augment="cross_instance"), config(augment="cross_instance", renormalise=False)
    for epoch, same in ((0, True), (2, True), (3, False)):
        found, wanted = parts_of(one, loaded, epoch, tmp_path), parts_of(other, loaded, epoch, tmp_path)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted) == same


def test_clips_that_all_share_a_label_cannot_be_mixed(loaded: Loaded, config: Make, tmp_path: Path) -> None:
    train = loaded.splits["train"]
    weak = train.weak.clone()
    weak[:, 0] = 1
    splits = {"train": replace(train, weak=weak)}
    objective = make_objective(config(augment="cross_instance"), splits, loaded.task.classes, tmp_path)
    model = build(config(), 25, loaded.dims)
    with pytest.raises(PlanError, match="Speech"):
        objective.parts(model, torch.arange(16), 2, 2.0)


@pytest.mark.parametrize(
    ("model", "supervision", "names"),
    [
        ("avel", "weak", ("video",)),
        ("avel", "full", ("segment",)),
        ("dmrn", "full", ("segment",)),
        ("psp", "weak", ("video",)),
        ("psp", "full", ("segment", "similarity")),
    ],
)
def test_ave(
    located: Loaded, config: Make, tmp_path: Path, model: Any, supervision: Any, names: tuple[str, ...]
) -> None:
    plain = config("ave", model, supervision=supervision)
    parts = parts_of(plain, located, 0, tmp_path)
    assert tuple(parts) == names
    assert all(torch.isfinite(part) for part in parts.values())
    if supervision == "full":
        event_free = replace(located, splits={"train": replace(located.splits["train"], event=None)})
        with pytest.raises(PlanError, match="needs the class of each second"):
            parts_of(plain, event_free, 0, tmp_path)
    else:
        shares = parts_of(replace(plain, target="prob"), located, 0, tmp_path)
        assert shares["video"] != parts["video"]
        mixed = replace(plain, augment="cross_instance", schedule=("plain", "temporal"))
        assert tuple(parts_of(mixed, located, 1, tmp_path)) == ("outer_video", "inserted_video")


# ---- JoMoLD ----------------------------------------------------------------------------------------------------------


def test_jomold_estimates_once(loaded: Loaded, config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = config("avvp", "jomold", denoising=QUICK)
    first = make_objective(options, loaded.splits, loaded.task.classes, tmp_path)
    path = tmp_path / run_folder.NOISE
    whole = path.read_bytes()
    assert first.ratios is not None
    assert first.ratios.audio.shape == (25,)
    with np.load(path) as file:
        assert np.array_equal(file["visual"], first.ratios.visual)
    assert tuple(parts_of(options, loaded, 1, tmp_path)) == (*MIL, "nce")

    def never(*args: Any) -> None:
        raise AssertionError("estimated again")

    monkeypatch.setattr(objective_module, "_estimated", never)
    again = make_objective(options, loaded.splits, loaded.task.classes, tmp_path)
    assert again.ratios is not None
    assert np.array_equal(again.ratios.audio, first.ratios.audio)
    assert path.read_bytes() == whole


def test_jomold_estimates_the_same_for_the_same_seed(loaded: Loaded, config: Make, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        torch.manual_seed(len(found))
        make_objective(
            config("avvp", "jomold", denoising=QUICK, seed=seed), loaded.splits, loaded.task.classes, tmp_path / name
        )
        found.append((tmp_path / name / run_folder.NOISE).read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_jomold_uses_what_it_finds(loaded: Loaded, config: Make, tmp_path: Path) -> None:
    """With every label of one modality called noise, a label that the other finds easy goes."""
    seen = []
    for name, ratio in (("kept", 0.0), ("removed", 0.9)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / run_folder.NOISE, audio=np.full(25, ratio), visual=np.full(25, ratio))
        seen.append(parts_of(config("avvp", "jomold"), loaded, 1, tmp_path / name))
    assert seen[0]["visual"] != seen[1]["visual"]
    assert seen[0]["video"] == seen[1]["video"]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / run_folder.NOISE).write_bytes(b"PK")
    with pytest.raises(PlanError, match="is no file of noise ratios"):
        parts_of(config("avvp", "jomold"), loaded, 1, tmp_path / "broken")


def test_every_training_clip_is_estimated_once_per_epoch(
    loaded: Loaded, config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[list[int]] = []

    def spied(model: nn.Module, batches: Callable[[int], Any], options: Denoising, *, score: Any) -> Any:
        found: list[Batch] = list(batches(0))
        rows.append([row for batch in found for row in batch.rows.tolist()])
        assert max(len(batch.rows) for batch in found) == 32
        assert (score is None) == (len(rows) == 2)
        raise StopIteration

    monkeypatch.setattr(objective_module, "estimate", spied)
    for select in ("val", "last"):
        with pytest.raises(StopIteration):
            make_objective(
                config("avvp", "jomold", denoising=QUICK, select=select), loaded.splits, loaded.task.classes, tmp_path
            )
    assert all(sorted(each) == list(range(76)) for each in rows)
    assert rows[0] != list(range(76))
    assert not (tmp_path / run_folder.NOISE).exists()
