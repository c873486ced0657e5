"""The clips of a search as lanes see them: mapped into memory, not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from extract.errors import PlanError
from pipelines.collocation.clips.arrays import array_path
from pipelines.collocation.clips.shared import FOLDER, SPLITS
from pipelines.parsing.data import Split
from pipelines.parsing.metrics import Parse


def open_splits(folder: Path, names: Sequence[str]) -> dict[str, Split]:
    """The splits of a search, features by short name, mapped into memory.

    Parameters
    ----------
    folder
        of the search
    names
        of features
    """
    return {split: _open(folder / FOLDER, split, tuple(names)) for split in SPLITS}


def _array(path: Path) -> torch.Tensor:
    # copy on write: torch takes no array that cannot be written to
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _open(out: Path, split: str, names: tuple[str, ...]) -> Split:
    told = np.load(out / f"labels.{split}.npz")
    ids = tuple(told["ids"].tolist())
    return Split(
        split, ids, len(ids), (), {name: _array(array_path(out, name, split)) for name in names},
        torch.from_numpy(told["weak"]),
        Parse(told["heard"], told["seen"]) if "heard" in told else None,
        torch.from_numpy(told["event"]) if "event" in told else None,
    )  # fmt: skip


def fewer_classes(split: Split, kept: int) -> Split:
    """The clips that have one of the first `kept` classes, with the labels of those only (Fig. 6 of the paper).

    Raises
    ------
    PlanError
        there is no such clip, or not so many classes
    """
    classes = split.weak.shape[1]
    if not 1 <= kept <= classes:
        raise PlanError(f"{kept} training classes were asked for; it must be 1 to {classes}")
    rows = torch.nonzero(split.weak[:, :kept].any(dim=1)).flatten().numpy()
    if not len(rows):
        raise PlanError(f"no training clip has one of the first {kept} classes; keep more with --train-classes")
    found = split.part(rows)
    weak = found.weak.clone()
    weak[:, kept:] = 0
    return replace(found, weak=weak)
