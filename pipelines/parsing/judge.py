"""Score a network that was trained before: a run of ours, or a checkpoint that others published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from extract.errors import PlanError
from pipelines.parsing import run_folder
from pipelines.parsing.config import Config
from pipelines.parsing.data import check_dims
from pipelines.parsing.evaluate import everything, predict
from pipelines.parsing.loaded import Loaded, load
from pipelines.parsing.models.published import load_published
from pipelines.parsing.networks import build, device_of
from pipelines.parsing.run import read_config
from pipelines.parsing.task import BACKGROUND
from pipelines.parsing.weights import load_into, read_weights


def trained(folder: Path) -> tuple[Config, nn.Module, dict[str, Any]]:
    """The network of a run, with the weights of the chosen epoch, and what its ``config.json`` says.

    Raises
    ------
    PlanError
        `folder` holds no run, or one that has saved nothing yet
    """
    config, told = read_config(folder)
    tensors, of = read_weights(folder / run_folder.BEST)
    if of.get("config") != told.get("digest"):
        raise PlanError(f"{folder / run_folder.BEST} is of another run than {folder / run_folder.CONFIG}; train again")
    model = build(config, len(told["classes"]), told["dims"])
    load_into(model, tensors, folder / run_folder.BEST)
    return config, model, told


def evaluate_run(
    folder: Path, *, store: Path | None = None, split: str = "test", gate: str = "", device: str = "auto"
) -> tuple[dict[str, Any], list[str]]:
    """Scores of a run on a split.

    Parameters
    ----------
    folder
        of the run
    store
        other features than it was trained on, of the same dims; None: those
    split
        of the store's manifest
    gate
        another one than the run's; empty: that
    device
        ``auto``, ``cpu``, ``cuda``

    Returns
    -------
    scores, notes : dict, list of str
    """
    config, model, told = trained(folder)
    names = {slot: key.partition("@")[0] for slot, key in told["keys"].items()} if store else told["keys"]
    other: dict[str, Any] = {**names, **({"gate": gate} if gate else {})}
    config = replace(config, **other)
    labels = tuple(label for label in told["classes"] if label != BACKGROUND)
    loaded = load(config, store or Path(told["store"]), [split], classes=labels)
    check_dims(loaded.splits[split], told["dims"])
    notes = loaded.notes()
    for slot, key in loaded.keys.items():
        if key != told["keys"][slot]:
            notes.append(f"{slot}: the run was trained on {told['keys'][slot]}, this is {key}: other features")
    return _judged(model, config, loaded, split, device) | {"selection": told["selection"]}, notes


def evaluate_checkpoint(
    checkpoint: Path, config: Config, store: Path, *, split: str = "test", device: str = "auto"
) -> tuple[dict[str, Any], list[str]]:
    """Scores of a published checkpoint on a split of a store; see :func:`evaluate_run`."""
    loaded = load(config, store, [split])
    model = build(config, len(loaded.task.classes), loaded.dims)
    said = load_published(model, checkpoint)
    return _judged(model, config, loaded, split, device), [*loaded.notes(), str(said)]


def _judged(model: nn.Module, config: Config, loaded: Loaded, split: str, device: str) -> dict[str, Any]:
    device = device_of(device)
    chosen = loaded.splits[split].to(device)
    found = predict(model.to(device), chosen, precision=config.precision)
    return everything(found, chosen, config, loaded.labels)
