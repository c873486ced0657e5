"""A training run from store to page, one seed or several."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extract.errors import PlanError
from extract.store.merge import sweep_tmp
from extract.store.runs import Lock
from pipelines.parsing import metrics, run_folder
from pipelines.parsing.config import Config
from pipelines.parsing.data import Split
from pipelines.parsing.evaluate import Predicted, everything, parsed, predict
from pipelines.parsing.loaded import Loaded, load
from pipelines.parsing.log import TENSORBOARD
from pipelines.parsing.networks import device_of
from pipelines.parsing.presets import as_dict, from_dict
from pipelines.parsing.train import Trained, train

OnEpoch = Callable[[Mapping[str, Any]], None]
SPLITS = ("train", "val", "test")
LOCK = "lock"
SELECTIONS = {
    "val": "best epoch on the validation split",
    "test": "TEST-SELECTED: best epoch on the test split, as some published protocols do",
    "last": "last epoch",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """The outcome of a run: scores by split, the chosen epoch, and sentences for the user."""

    folder: Path
    scores: Mapping[str, Mapping[str, Any]]
    epoch: int
    epochs: int
    finished: bool
    notes: tuple[str, ...]


def run(
    config: Config,
    store: Path,
    folder: Path,
    *,
    device: str = "auto",
    on_epoch: OnEpoch = lambda row: None,
    stopping: Callable[[], bool] = lambda: False,
    loaded: Loaded | None = None,
) -> Ran:
    """Train, score val and test, and write everything into `folder`; given again, it goes on or says what is there.

    Parameters
    ----------
    config
        of the run
    store
        folder of the features
    folder
        of the run; new, or of the same configuration and features
    device
        ``auto``, ``cpu`` or ``cuda``
    on_epoch, stopping
        see :func:`pipelines.parsing.train.train`
    loaded
        what `store` holds, where it was read already

    Raises
    ------
    PlanError
        the folder is of another run
    StoreBusy
        another process is at this run
    ExtractError
        the store cannot serve it
    """
    device = device_of(device)
    loaded = loaded or load(config, store, SPLITS)
    run_folder.make_folder(folder)
    _claim(folder, config, loaded)
    with Lock(folder):
        sweep_tmp(folder)
        trained = train(
            config, loaded.splits, loaded.task.classes, folder, device=device, on_epoch=on_epoch, stopping=stopping
        )
        scored = {}
        for name in ("val", "test"):
            split = loaded.splits.get(name)
            if split is None or (split.truth is None and split.event is None):
                continue
            found = predict(trained.model, split.to(device), precision=config.precision)
            scored[name] = _scored(found, split, config, loaded, trained, folder)
        run_folder.write_json(folder / run_folder.SCORES, scored)
    return Ran(
        folder,
        scored,
        trained.epoch,
        trained.epochs,
        trained.finished,
        (*([trained.begun] if trained.begun else []), *loaded.notes()),
    )


def _scored(
    found: Predicted, split: Split, config: Config, loaded: Loaded, trained: Trained, folder: Path
) -> dict[str, Any]:
    run_folder.write_arrays(run_folder.predictions_path(folder, split.name), found.arrays())
    test = loaded.splits["test"]
    if split is test or (test.truth is None and test.event is None):
        run_folder.write_table(folder / run_folder.CLASSES, class_rows(found, split, config, loaded.task.classes))
    told = everything(found, split, config, loaded.labels)
    return told | {"selection": SELECTIONS[config.select], "epoch": trained.epoch, "epochs": trained.epochs}


def class_rows(found: Predicted, split: Split, config: Config, classes: Sequence[str]) -> list[dict[str, Any]]:
    """One row per class, for a table."""
    if found.probabilities is not None:
        assert split.truth is not None
        return [row._asdict() for row in metrics.per_class(parsed(found, config), split.truth, classes)]
    assert found.score is not None
    assert split.event is not None
    said, truth = found.score.argmax(axis=2), split.event.cpu().numpy()
    rows = []
    for number, name in enumerate(classes):
        hit = int(((said == number) & (truth == number)).sum())
        true, claimed = int((truth == number).sum()), int((said == number).sum())
        rows.append(
            {
                "label": name,
                "seconds": true,
                "recall": 100 * hit / true if true else np.nan,
                "precision": 100 * hit / claimed if claimed else np.nan,
            }
        )
    return rows


def _claim(folder: Path, config: Config, loaded: Loaded) -> None:
    """Write ``config.json``, or see that the one there is of the same run."""
    path = folder / run_folder.CONFIG
    told = described(config, loaded)
    # a kill may have left what was to become config.json
    names = {each.name for each in folder.iterdir() if not each.name.startswith(f".{path.name}.")}
    there = run_folder.read_json(path) if path.name in names else {}
    if names and not {"config", "keys"} <= there.keys():
        raise PlanError(f"{folder} is not empty and holds no run; give another folder with -o")
    if names <= {path.name, LOCK, TENSORBOARD}:  # nothing was trained yet
        run_folder.write_json(path, told)
        return
    there["config"] = in_json(from_dict(there["config"]))  # an older version knew fewer fields
    for name in ("config", "keys", "classes", "labels", "clips"):
        if there.get(name) != told[name]:
            raise PlanError(
                f"{folder} holds a run with other {_difference(there.get(name), told[name], name)}; give another folder with -o"
            )


def in_json(config: Config) -> dict[str, Any]:
    """The configuration as JSON gives it back."""
    told: dict[str, Any] = json.loads(json.dumps(as_dict(config)))
    return told


def _difference(old: Any, new: Any, name: str) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                return f"{name}: {key} is {old.get(key)!r} there and {new.get(key)!r} here"
    return f"{name}: {old!r:.60} there and {new!r:.60} here"


def described(config: Config, loaded: Loaded) -> dict[str, Any]:
    """What ``config.json`` holds."""
    first = next(iter(loaded.splits.values()))
    return {
        "task": config.task,
        "model": config.model,
        "supervision": config.supervision,
        "seed": config.seed,
        "classes": list(loaded.task.classes),
        "store": str(loaded.store.resolve()),
        "keys": dict(loaded.keys),
        "infos": {slot: dict(info) for slot, info in loaded.infos.items()},
        "dims": loaded.dims,
        "seconds": first.seconds,
        "clips": {name: [len(split), split.asked] for name, split in loaded.splits.items()},
        "labels": loaded.labels,
        "selection": SELECTIONS[config.select],
        "digest": config.digest(),
        "config": in_json(config),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "threads": torch.get_num_threads(),
        },
    }


def run_seeds(
    config: Config, store: Path, folder: Path, seeds: int, *, device: str = "auto", on_epoch: OnEpoch = lambda row: None
) -> dict[str, Any]:
    """Train with `seeds` seeds from ``config.seed`` on, each in ``folder/seed-N``; features are read once.

    Returns
    -------
    dict
        what ``seeds.json`` holds: by split and metric, mean, std (of the sample) and values

    Raises
    ------
    PlanError
        the folder holds something else, such as a single run
    """
    if folder.exists() and any(folder.iterdir()) and not any(run_folder.seed_folders(folder)):
        raise PlanError(f"{folder} is not empty and holds no runs of several seeds; give another folder with -o")
    loaded = load(config, store, SPLITS)
    ran = [
        run(replace(config, seed=seed), store, folder / f"seed-{seed}", device=device, on_epoch=on_epoch, loaded=loaded)
        for seed in range(config.seed, config.seed + seeds)
    ]
    told = summary([each.scores for each in ran])
    told["seeds"] = list(range(config.seed, config.seed + seeds))
    run_folder.write_json(folder / "seeds.json", told)
    return told


def summary(scores: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Mean, std and values of every number that all of some runs have."""
    told: dict[str, Any] = {}
    for split in scores[0]:
        for name, first in scores[0][split].items():
            if isinstance(first, float):
                values = [each[split][name] for each in scores]
                std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                told.setdefault(split, {})[name] = {"mean": float(np.mean(values)), "std": std, "values": values}
    return told


def read_config(folder: Path) -> tuple[Config, dict[str, Any]]:
    """The configuration of a run, and everything else in its ``config.json``.

    Raises
    ------
    PlanError
        `folder` holds no run
    """
    told = run_folder.read_json(folder / run_folder.CONFIG)
    return from_dict(told["config"]), told
