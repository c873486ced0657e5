"""Every combination of some settings, each with some seeds, ranked by the validation split."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import PlanError
from pipelines.parsing import run_folder
from pipelines.parsing.config import Config
from pipelines.parsing.evaluate import check_labels, headline
from pipelines.parsing.loaded import Loaded, load
from pipelines.parsing.presets import changed
from pipelines.parsing.run import SPLITS, run

TABLE = "sweep.csv"
NUMBERS = ("metric", "seeds", "val_mean", "val_std", "test_mean", "test_std")
FEATURES = ("audio", "visual", "clip", "task", "classes")


def sweep(
    config: Config,
    store: Path,
    folder: Path,
    grid: Mapping[str, Sequence[str]],
    *,
    seeds: int = 1,
    device: str = "auto",
    on_run: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Train every combination; what `folder` holds already is not trained again.

    Parameters
    ----------
    config
        what the grid does not say
    store
        folder of the features
    folder
        gets one run per combination and seed, and ``sweep.csv``
    grid
        values by setting, as text; see :func:`pipelines.parsing.config.changed`
    seeds
        per combination, from ``config.seed`` on
    device
        ``auto``, ``cpu``, ``cuda``
    on_run
        is given a line per finished run

    Returns
    -------
    list of dict
        a row per combination: the settings, and mean and std of the headline number on val and test, best on val first

    Raises
    ------
    PlanError
        a setting without values, or one that changes what is read from the store
    StoreError
        there are no labels with times for val
    """
    for name, values in grid.items():
        if not all(values) or len(set(values)) < len(values):
            raise PlanError(f"--grid {name}={','.join(values)}: give each value once, such as lr=1e-4,3e-4")
        if name in FEATURES:
            raise PlanError(f"--grid {name}: `extract collocate` searches over features; a sweep is over settings")
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    configs = [changed(config, settings) for settings in every]
    loaded = load(config, store, SPLITS)
    check_labels(loaded.splits["val"])
    run_folder.make_folder(folder)
    rows = []
    for settings, one in zip(every, configs, strict=True):
        rows.append(settings | _runs(one, store, folder, settings, seeds, device, loaded, on_run))
        run_folder.write_table(folder / TABLE, rows)
    rows.sort(key=lambda row: -row["val_mean"])
    run_folder.write_table(folder / TABLE, rows)
    return rows


def _runs(
    config: Config,
    store: Path,
    folder: Path,
    settings: Mapping[str, str],
    seeds: int,
    device: str,
    loaded: Loaded,
    on_run: Callable[[str], None],
) -> dict[str, Any]:
    number, found = headline(config), []
    said = ",".join(f"{name}={value}" for name, value in settings.items())
    for seed in range(config.seed, config.seed + seeds):
        where = folder / said / f"seed-{seed}"
        ran = run(replace(config, seed=seed), store, where, device=device, loaded=loaded)
        found.append([ran.scores[name][number] for name in ("val", "test") if name in ran.scores])
        on_run(f"{said} seed {seed}: {number} {' '.join(f'{value:.2f}' for value in found[-1])}")
    told: dict[str, Any] = {"metric": number, "seeds": seeds}
    for name, column in zip(("val", "test"), np.array(found).T.tolist(), strict=False):
        told[f"{name}_mean"] = float(np.mean(column))
        told[f"{name}_std"] = float(np.std(column, ddof=1)) if seeds > 1 else 0.0
    return told


def ranked(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table for a terminal."""
    lines = []
    for row in rows:
        settings = ", ".join(f"{name}={value}" for name, value in row.items() if name not in NUMBERS)
        spread = " ".join(
            f"{name} {row[f'{name}_mean']:.2f} ± {row[f'{name}_std']:.2f}"
            for name in ("val", "test")
            if f"{name}_mean" in row
        )
        lines.append(f"{row['metric']}  {spread}  {settings}")
    return "\n".join(lines)
