"""The folder of a search: whose it is, and what is compared in it."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from extract.errors import PlanError
from pipelines.collocation.asked import Asked
from pipelines.collocation.clips.shared import FOLDER, Shared
from pipelines.collocation.training.trainer import Means
from pipelines.parsing import run_folder
from pipelines.parsing.evaluate import headline
from pipelines.parsing.run import LOCK, in_json

SEARCH = "collocate.json"
RESULT = "result.json"


def own(out: Path) -> None:
    """Make the folder, or see that it is one of ours.

    Raises
    ------
    PlanError
        it holds something else
    StoreUnwritable
        it cannot be made
    """
    run_folder.make_folder(out)
    names = {each.name for each in out.iterdir()} - {LOCK}
    begun = {SEARCH, FOLDER} & names
    if names and not begun and not all(name.startswith(".") for name in names):
        raise PlanError(f"{out} is not empty and holds no search; give another folder with -o")


def claim(asked: Asked, shared: Shared, means: Means) -> None:
    """Write ``collocate.json``, or see that the one there is of the same search.

    Raises
    ------
    PlanError
        it has another configuration
    """
    path = asked.out / SEARCH
    config = in_json(replace(asked.config, seed=0, audio="", visual="", clip=""))
    if path.is_file():
        there = run_folder.read_json(path)
        for name, value in config.items():
            if there["config"].get(name) != value:
                raise PlanError(
                    f"{asked.out} holds a search with {name} {there['config'].get(name)!r}, and {value!r} is asked for; "
                    "give another folder with -o"
                )
        if there["digest"] != shared.digest:
            raise PlanError(f"{asked.out} holds a search of other clips or features; give another folder with -o")
    run_folder.write_json(
        path,
        {
            "task": asked.config.task,
            "store": shared.store,
            "metric": headline(asked.config),
            "slots": {slot: list(names) for slot, names in shared.slots.items()},
            "keys": dict(shared.keys),
            "infos": {name: dict(info) for name, info in shared.infos.items()},
            "config": config,
            "classes": list(shared.classes),
            "seeds": list(asked.seeds),
            "clips": {split: list(count) for split, count in shared.clips.items()},
            "flagged": dict(shared.flagged),
            "notes": list(shared.notes),
            "labels": shared.labels,
            "digest": shared.digest,
            "device": list(means.devices),
            "precision": asked.config.precision,
            "lanes": means.lanes,
            "at_once": means.at_once,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "threads": torch.get_num_threads(),
            },
        },
    )
