"""What a run folder tells: every file of it read leniently, and what is missing or cannot be read said in a line."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from extract.errors import ExtractError
from manifests.dense import Event, dense_path, read_dense
from pipelines.parsing import run_folder
from pipelines.parsing.page.published_scores import PUBLISHED_INTERFERENCE

T = TypeVar("T")
Splits = Mapping[str, Mapping[str, Any]]
SPLITS = ("test", "val")
SEEDS = "seeds.json"
SUBSETS = ("non_identical", "non_common")
LARGEST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV: names of columns, and rows with as many cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def numbers(self, column: str) -> list[float]:
        """A column as numbers; nan where it holds none."""
        place = self.columns.index(column)
        return [number(row[place]) for row in self.rows]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The arrays of ``predictions_<split>.npz`` and their split; `ids` are N clips."""

    split: str
    ids: tuple[str, ...]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class RunTold:
    """A run folder as its page sees it; what is missing is empty or None.

    Parameters
    ----------
    name, path
        of the folder
    config
        ``config.json``; of a folder with one run per seed, that of the first
    scores
        by split: ``scores.json``, or of several seeds (mean, standard deviation) by metric
    seeds
        by split and metric, one value per seed; empty for a single run
    runs
        of a folder with several seeds: the name and scores of each
    log, classes
        ``log.csv`` and ``classes.csv``
    predictions
        of test, else of val
    events
        labels with times of the store; None: not known
    problems
        what is missing or could not be read
    """

    name: str
    path: str
    config: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, Any]]
    seeds: Mapping[str, Mapping[str, Sequence[float]]]
    runs: tuple[tuple[str, Mapping[str, Mapping[str, Any]]], ...]
    log: Table | None
    classes: Table | None
    predictions: Predictions | None
    events: tuple[Event, ...] | None
    problems: tuple[str, ...]

    @property
    def task(self) -> str:
        """``avvp``, ``ave``, or empty."""
        return str(self.config.get("task", ""))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        found = self.config.get("classes")
        return tuple(str(each) for each in found) if isinstance(found, list) else ()

    @property
    def options(self) -> Mapping[str, Any]:
        """Settings of the run."""
        return mapping(self.config.get("config", self.config.get("options")))

    @property
    def split(self) -> str:
        """Whose scores stand at the top: test, else val; empty: there are none."""
        return next((name for name in SPLITS if name in self.scores), next(iter(self.scores), ""))


def read_run(folder: Path, events: Sequence[Event] | None = None) -> RunTold:
    """Read a run folder, or one that holds a run per seed.

    Parameters
    ----------
    folder
        of ``extract parse train``
    events
        labels with times; None: those beside the manifest of the store that the configuration names
    """
    problems: list[str] = []
    several = (folder / SEEDS).is_file()
    parts = list(run_folder.seed_folders(folder)) if several else []
    first = parts[0] if parts and not (folder / run_folder.CONFIG).is_file() else folder
    config = _try(problems, first / run_folder.CONFIG, _object) or {}
    if several:
        means, seeds = _summary(_try(problems, folder / SEEDS, _object) or {})
        singles = [(part.name, _scores(problems, part)) for part in parts]
        return RunTold(
            folder.resolve().name, str(folder), config, _with_facts(means, singles), seeds, tuple(singles),
            None, None, None, None, tuple(problems),
        )  # fmt: skip
    scores = _scores(problems, folder)
    log = _try(problems, folder / run_folder.LOG, _table)
    classes = _try(problems, folder / run_folder.CLASSES, _table)
    predictions = _predictions(problems, folder)
    if events is None and predictions is not None:
        events = _events(problems, config)
    kept = None if events is None else tuple(events)
    return RunTold(
        folder.resolve().name, str(folder), config, scores, {}, (), log, classes, predictions, kept, tuple(problems)
    )


def number(value: object) -> float:
    """A number, or nan for anything else."""
    if isinstance(value, bool):
        return float("nan")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def mapping(value: object) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def percents(scores: Mapping[str, Any]) -> dict[str, float | tuple[float, float]]:
    """Those entries of a split's scores that are finite numbers, or mean and standard deviation."""
    found: dict[str, float | tuple[float, float]] = {}
    for name, value in scores.items():
        if isinstance(value, tuple):
            found[name] = value
        elif isinstance(value, int | float) and isfinite(number(value)):
            found[name] = float(value)
    return found


def interference_of(scores: Mapping[str, Any]) -> list[tuple[str, float, int | None]]:
    """Name, percent and number of clips of each interference metric that a split's scores hold."""
    told = mapping(scores.get("interference"))
    return [
        (name, number(told[name]), int(clips) if isfinite(clips := number(told.get(f"{name}_clips"))) else None)
        for name in PUBLISHED_INTERFERENCE
        if name in told and isfinite(number(told[name]))
    ]


def _try(problems: list[str], path: Path, read: Callable[[Path], T], name: str = "") -> T | None:
    """What `read` finds, or None and a line about it."""
    name = name or path.name
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it is larger than {LARGEST_BYTES:,} bytes")
        return read(path)
    except FileNotFoundError:
        problems.append(f"{name} is not there")
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        RecursionError,
        csv.Error,
        ExtractError,
    ) as error:
        problems.append(f"{name} cannot be read: {error}")
    return None


def _scores(problems: list[str], folder: Path) -> Splits:
    found = _try(problems, folder / run_folder.SCORES, _splits)
    return {} if found is None else found


def _object(path: Path) -> dict[str, Any]:
    told = json.loads(path.read_text("utf-8"))
    if not isinstance(told, dict):
        raise ValueError("it holds no JSON object")
    return told


def _splits(path: Path) -> Splits:
    return {name: told for name, told in _object(path).items() if isinstance(told, dict)}


def _table(path: Path) -> Table:
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))
    if not rows:
        raise ValueError("it is empty")
    columns = tuple(rows[0])
    body = [row for row in rows[1:] if row]
    for i, row in enumerate(body, 2):
        if len(row) != len(columns):
            raise ValueError(f"row {i} has {len(row)} cells, its header {len(columns)}")
    return Table(columns, tuple(map(tuple, body)))


def _summary(told: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[float]]]]:
    """(mean, standard deviation) and values by split and metric; metrics without a split are of test."""
    if any("mean" in mapping(value) for value in told.values()):
        told = {"test": told}
    scores: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, list[float]]] = {}
    for split, metrics in told.items():
        for name, each in mapping(metrics).items():
            pair = number(mapping(each).get("mean")), number(mapping(each).get("std"))
            if all(map(isfinite, pair)):
                scores.setdefault(split, {})[name] = pair
                found = each.get("values")
                values.setdefault(split, {})[name] = [number(v) for v in found] if isinstance(found, list) else []
    return scores, values


def _with_facts(
    scores: dict[str, dict[str, Any]], singles: Sequence[tuple[str, Mapping[str, Mapping[str, Any]]]]
) -> dict[str, dict[str, Any]]:
    """Scores of several seeds with what all of their runs say alike: clips, gate, labels, selection."""
    for split, told in scores.items():
        for name in ("clips", "of", "gate", "labels", "selection"):
            said = {json.dumps(run.get(split, {}).get(name), default=str) for _, run in singles}
            if len(said) == 1 and said != {"null"}:
                told[name] = singles[0][1][split][name]
    return scores


def _predictions(problems: list[str], folder: Path) -> Predictions | None:
    for split in SPLITS:
        path = run_folder.predictions_path(folder, split)
        if path.is_file():
            return _try(problems, path, partial(_arrays, split=split))
    problems.append("predictions_test.npz is not there")
    return None


def _arrays(path: Path, *, split: str) -> Predictions:
    with np.load(path, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    named = arrays.pop("ids", np.zeros((), np.str_))
    if named.ndim != 1 or named.dtype.kind != "U":
        raise ValueError("it has no list of clips, 'ids'")
    ids = tuple(str(each) for each in named.tolist())
    for name, array in arrays.items():
        if array.shape[:1] != named.shape:
            raise ValueError(f"{name} has shape {array.shape} for {len(ids)} clips")
    return Predictions(split, ids, arrays)


def _events(problems: list[str], config: Mapping[str, Any]) -> tuple[Event, ...] | None:
    store = config.get("store")
    if not isinstance(store, str):
        problems.append("config.json names no store, so the true events of the clips are not known")
        return None
    path = dense_path(Path(store) / "manifest.csv")
    return _try(problems, path, read_dense, str(path))
