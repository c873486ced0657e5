"""What trained parsers make of features: how alike the streams of a pair are, and ``cos ψ₁`` of what was fused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipelines.collocation.clips.opened import open_splits
from pipelines.collocation.collocations import Collocation, Trial
from pipelines.collocation.recall.recall import of_raw, of_streams
from pipelines.collocation.training.jobs import best_weights
from pipelines.collocation.training.learners import network_of, of_slots
from pipelines.collocation.training.trainer import LaneTrainer
from pipelines.collocation.transfer.estimators import cos_psi
from pipelines.collocation.transfer.summary import CLIPS
from pipelines.parsing import run_folder
from pipelines.parsing.config import Config
from pipelines.parsing.cpu import quick
from pipelines.parsing.data import Split
from pipelines.parsing.evaluate import AT_ONCE, autocast
from pipelines.parsing.outputs import AUDIO, VISUAL, Located

RECALL = "recall.csv"
TRAIN_CLIPS = 1024
"""Training clips that ``cos ψ₁`` of fused features is estimated from, at most."""


def diagnose(
    root: Path, trainer: LaneTrainer, collocations: Sequence[Collocation], seed: int, winner: str, device: str
) -> dict[str, dict[str, float]]:
    """Look into the parsers that a traversal has trained, and write ``recall.csv`` (Table 1 of the paper).

    Parameters
    ----------
    root
        folder of the search
    trainer
        that traversed
    collocations
        all of them; of each, the parser with `seed` is taken
    winner
        the collocation whose streams are compared across modalities
    device
        to run them on

    Returns
    -------
    dict
        by collocation: ``cos_psi_fused_audio``, ``_visual``, or ``cos_psi_fused`` of a network with one stream; nan
        where there are fewer than 16 clips, or what was fused is not finite
    """
    names = list(dict.fromkeys(name for each in collocations for name in each.slots.values()))
    splits = open_splits(root, names)
    found: dict[str, dict[str, float]] = {}
    rows: list[dict[str, Any]] = []
    for each in collocations:
        trial = Trial(each, seed)
        network = network_of(trial, best_weights(trainer.best_in[trial], trial), trainer.config, splits["train"])
        network.to(device)
        source = _after(network, _some(of_slots(splits["train"], trial), TRAIN_CLIPS), trainer.config, device)
        target = _after(network, of_slots(splits["val"], trial), trainer.config, device)
        found[each.name] = {name: _cosine(source[name], target[name], seed) for name in source}
        if each.name == winner:
            rows = _across(network, each, trial, splits, trainer.config, device)
    rows += [row for name in names for row in _within(name, collocations, splits)]
    if rows:
        run_folder.write_table(root / RECALL, rows)
    return found


def _some(split: Split, most: int) -> Split:
    # spread over all: manifests are often in the order of classes
    count = min(len(split), most)
    return split.part(np.arange(count) * len(split) // count)


def _cosine(source: NDArray[Any], target: NDArray[Any], seed: int) -> float:
    if min(len(source), len(target)) < CLIPS or not all(np.isfinite(each).all() for each in (source, target)):
        return math.nan
    rows = [each.reshape(-1, each.shape[-1]) for each in (source, target)]
    return cos_psi(rows[0], rows[1], batch=CLIPS * source.shape[1], seed=seed)


def _after(network: nn.Module, split: Split, config: Config, device: str) -> dict[str, NDArray[Any]]:
    """What leaves the fusion."""
    told = _told(network, split, config, device)
    if "fused" in told:
        return {"cos_psi_fused": told["fused"]}
    return {"cos_psi_fused_audio": told["after"][:, :, AUDIO], "cos_psi_fused_visual": told["after"][:, :, VISUAL]}


def _told(network: nn.Module, split: Split, config: Config, device: str) -> dict[str, NDArray[Any]]:
    network.eval()
    pieces: dict[str, list[NDArray[Any]]] = {}
    with quick(device), torch.inference_mode(), autocast(device, config.precision):
        for start in range(0, len(split), AT_ONCE):
            features = {slot: data[start : start + AT_ONCE].to(device) for slot, data in split.features.items()}
            out = network(**features)
            streams = {"fused": out.fused} if isinstance(out, Located) else {"before": out.before, "after": out.after}
            for name, each in streams.items():
                pieces.setdefault(name, []).append(each.float().cpu().numpy())
    return {name: np.concatenate(each) for name, each in pieces.items()}


def _timed(splits: dict[str, Split]) -> list[Split]:
    """Those of val and test that have labels of what is heard and what is seen."""
    return [splits[name] for name in ("val", "test") if splits[name].truth is not None]


def _truth(parts: Sequence[Split]) -> tuple[NDArray[Any], NDArray[Any]]:
    known = [part.truth for part in parts if part.truth is not None]
    return np.concatenate([each.audio for each in known]) > 0, np.concatenate([each.visual for each in known]) > 0


def _across(
    network: nn.Module, each: Collocation, trial: Trial, splits: dict[str, Split], config: Config, device: str
) -> list[dict[str, Any]]:
    parts = _timed(splits)
    if not parts:
        return []
    before = [_told(network, of_slots(part, trial), config, device) for part in parts]
    if "before" not in before[0]:
        return []
    streams = np.concatenate([told["before"] for told in before])
    heard, seen = _truth(parts)
    found = of_streams(each.audio, each.visual, streams[:, :, AUDIO], streams[:, :, VISUAL], heard, seen)
    return [asdict(row) for row in found]


def _within(name: str, collocations: Sequence[Collocation], splits: dict[str, Split]) -> list[dict[str, Any]]:
    parts = _timed(splits)
    if not parts:
        return []
    heard, seen = _truth(parts)
    slot: Literal["audio", "visual"] = "audio" if any(each.audio == name for each in collocations) else "visual"
    rows = np.concatenate([part.features[name].flatten(2).numpy() for part in parts])
    return [asdict(row) for row in of_raw(slot, name, rows, heard if slot == "audio" else seen)]
