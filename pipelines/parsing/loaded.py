"""What a run reads from a store: keys, vocabulary, splits, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extract.errors import PlanError
from extract.store import Store
from extract.store.training.classes import class_order
from pipelines.parsing.config import Config
from pipelines.parsing.data import Split, load_split, resolve_keys, scored_events
from pipelines.parsing.metrics import label_version
from pipelines.parsing.task import Task, task_of


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A store, opened for a configuration.

    Parameters
    ----------
    store
        its folder
    task
        with its vocabulary
    keys
        full key by slot
    splits
        by name
    labels
        which labels with times the scores rest on, and their digest
    """

    store: Path
    task: Task
    keys: Mapping[str, str]
    infos: Mapping[str, Mapping[str, Any]]
    splits: Mapping[str, Split]
    labels: str

    @property
    def dims(self) -> dict[str, int]:
        """Numbers per second in each slot."""
        return next(iter(self.splits.values())).dims

    def to(self, device: str) -> Loaded:
        """With the splits on another device."""
        return replace(self, splits={name: split.to(device) for name, split in self.splits.items()})

    def notes(self) -> list[str]:
        """Sentences for the user: which clips are missing."""
        found = []
        for name, split in self.splits.items():
            if split.missing:
                first = split.missing[0]
                found.append(
                    f"{name}: {split.over}; the first that is missing, {first.clip_id}, lacks {first.key}: {first.why}"
                )
        return found


def load(config: Config, store_path: Path, splits: Sequence[str], *, classes: Sequence[str] | None = None) -> Loaded:
    """Read what a configuration needs.

    Parameters
    ----------
    config
        of the run
    store_path
        folder of the store
    splits
        to read
    classes
        the vocabulary of an earlier run, the background left out; None: by ``config.classes``

    Raises
    ------
    ExtractError
        the store cannot serve it; see :func:`pipelines.parsing.data.load_split`
    """
    store = Store(store_path)
    if classes is None and config.classes == "manifest":
        classes = class_order(store.manifest.values())
    task = task_of(config.task, classes)
    keys = resolve_keys(store, config.names)
    if len(set(keys.values())) < len(keys):
        raise PlanError(f"two slots have the same key, {', '.join(keys.values())}: name another one for each slot")
    found: dict[str, Split] = {}
    for name in splits:
        seconds = next(iter(found.values())).seconds if found else None
        found[name] = load_split(store, task, keys, name, seconds=seconds)
    infos = {slot: _info(store, key) for slot, key in keys.items()}
    return Loaded(store_path, task, keys, infos, found, label_version(scored_events(store)))


def _info(store: Store, key: str) -> dict[str, Any]:
    info = store.columns[key].info
    return {"identity": info.identity, "view": info.view, "weights": info.weights, "dims": list(info.dims)}
