"""Sweeps: every combination once, ranked by the validation split, going on where they stopped."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from extract.errors import ExtractError, PlanError, StoreError
from pipelines.parsing import sweep as sweeping
from pipelines.parsing.config import Config
from pipelines.parsing.run import run
from pipelines.parsing.sweep import ranked, sweep

pytestmark = pytest.mark.usefixtures("narrow")
Make = Callable[..., Config]


def test_every_combination_and_seed(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    lines: list[str] = []
    grid = {"lr": ["1e-4", "0.01"], "mtsm.t_exp": ["2", "3"]}
    rows = sweep(config(epochs=2, loss="mtsm"), avvp_store, tmp_path / "w", grid, seeds=2, on_run=lines.append)
    assert len(rows) == 4
    assert len(lines) == 8
    assert {(row["lr"], row["mtsm.t_exp"]) for row in rows} == {(a, b) for a in grid["lr"] for b in grid["mtsm.t_exp"]}
    means = [row["val_mean"] for row in rows]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[-1]
    folders = {str(path.parent.relative_to(tmp_path / "w")) for path in (tmp_path / "w").rglob("scores.json")}
    assert folders == {
        f"lr={a},mtsm.t_exp={b}/seed-{s}" for a in grid["lr"] for b in grid["mtsm.t_exp"] for s in (0, 1)
    }
    alone = [
        run(config(epochs=2, loss="mtsm", lr=0.01, seed=seed), avvp_store, tmp_path / f"{seed}").scores
        for seed in (0, 1)
    ]
    row = next(row for row in rows if row["lr"] == "0.01" and row["mtsm.t_exp"] == "3")
    for split in ("val", "test"):
        values = [each[split]["segment_type"] for each in alone]  # the default of t_exp is 3
        assert row[f"{split}_mean"] == pytest.approx(np.mean(values))
        assert row[f"{split}_std"] == pytest.approx(np.std(values, ddof=1))
    with (tmp_path / "w" / "sweep.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(each["val_mean"]) for each in table] == means
    assert list(table[0])[:2] == ["lr", "mtsm.t_exp"]
    text = ranked(rows).splitlines()
    assert text[0].startswith(f"segment_type  val {means[0]:.2f} ± ")
    assert f"lr={rows[0]['lr']}, mtsm.t_exp={rows[0]['mtsm.t_exp']}" in text[0]


def test_the_validation_split_ranks_not_the_test_split(
    avvp_store: Path, config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(config: Config, store: Path, folder: Path, **more: Any) -> Any:
        value = 1e3 * config.lr
        return SimpleNamespace(scores={"val": {"segment_type": value}, "test": {"segment_type": 10 - value}})

    monkeypatch.setattr(sweeping, "run", told)
    rows = sweep(config(), avvp_store, tmp_path / "w", {"lr": ["1e-3", "3e-3", "2e-3"]})
    assert [(row["lr"], row["val_mean"], row["test_mean"]) for row in rows] == [
        ("3e-3", 3.0, 7.0), ("2e-3", 2.0, 8.0), ("1e-3", 1.0, 9.0),
    ]  # fmt: skip


def test_it_goes_on_where_it_stopped(
    avvp_store: Path, config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"lr": ["1e-3", "3e-3"]}

    def die(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(config(epochs=1), avvp_store, tmp_path / "w", grid, on_run=die)
    trained: list[str] = []

    def spied(*args: Any, **more: Any) -> Any:
        return run(*args, **more, on_epoch=lambda row: trained.append(args[2].parent.name))

    monkeypatch.setattr(sweeping, "run", spied)
    rows = sweep(config(epochs=1), avvp_store, tmp_path / "w", grid)
    assert trained == ["lr=3e-3"], "the first was not trained again"
    whole = sweep(config(epochs=1), avvp_store, tmp_path / "whole", grid)
    assert rows == whole
    assert (tmp_path / "w" / "sweep.csv").read_bytes() == (tmp_path / "whole" / "sweep.csv").read_bytes()


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"lr": [""]}, "--grid lr=: give each value once"),
        ({"lr": ["1", "1"]}, "--grid lr=1,1: give each value once"),
        ({"audio": ["vggish", "clap"]}, "--grid audio: `extract collocate` searches over features"),
        ({"heads": ["1"], "laers": ["1"]}, "no setting is called 'laers'; did you mean layers"),
        ({"lr": ["1e-3", "fast"]}, "lr='fast': must be a value like"),
        ({"loss": ["mil", "mtms"]}, "no loss is called 'mtms'; did you mean mtsm"),
    ],
    ids=["empty", "twice", "features", "unknown", "value", "word"],
)
def test_a_grid_that_cannot_be_is_told_before_anything_is_trained(
    avvp_store: Path, config: Make, tmp_path: Path, grid: dict[str, list[str]], words: str
) -> None:
    with pytest.raises(ExtractError) as error:
        sweep(config(epochs=1), avvp_store, tmp_path / "w", grid)
    assert words in str(error.value)
    assert not (tmp_path / "w").exists()


def test_it_needs_a_validation_split_to_rank_by(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    path = by_hand.small(tmp_path / "s", events=())
    with pytest.raises(StoreError, match="no labels with times for the split val"):
        sweep(config(epochs=1, select="last"), path, tmp_path / "w", {"lr": ["1e-3"]})


def test_folders_of_another_configuration_are_refused(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    sweep(config(epochs=1), avvp_store, tmp_path / "w", {"lr": ["1e-3"]})
    with pytest.raises(PlanError, match="holds a run with other config: epochs is 1 there and 2 here"):
        sweep(config(epochs=2), avvp_store, tmp_path / "w", {"lr": ["1e-3"]})
