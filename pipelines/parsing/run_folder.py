"""The folder of a training run: which files there are, each written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError, StoreError
from extract.store.sink import sealed, unwritable

CONFIG = "config.json"
BEST = "best.safetensors"
RESUME = "resume.safetensors"
LOG = "log.csv"
SCORES = "scores.json"
CLASSES = "classes.csv"
NOISE = "noise_ratios.npz"


def make_folder(folder: Path) -> None:
    """Make it; what is there stays.

    Raises
    ------
    StoreUnwritable
        it cannot be made
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, 0, error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole; see :func:`extract.store.sink.sealed`."""
    with sealed(path, len(data)) as sink:
        sink.write(memoryview(data))


def write_text(path: Path, text: str) -> None:
    """Write a file whole, as UTF-8; what has no such form becomes a question mark."""
    write_bytes(path, text.encode("utf-8", "replace"))


def check_ours(path: Path, mark: str, command: str, advice: str = "move it away") -> None:
    """Refuse to replace what is not ours.

    Parameters
    ----------
    path
        of the file that is to be written
    mark
        what the first 4,096 bytes of ours hold
    command
        that writes such files
    advice
        what to do with another

    Raises
    ------
    StoreError
        a folder is there, or a file without the mark
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder, and a file is to be written there; {advice}")
    if path.exists():
        with path.open("rb") as file:
            if mark.encode() not in file.read(4096):
                raise StoreError(f"{path} is there and `{command}` did not write it; {advice}")


def write_json(path: Path, told: Mapping[str, Any]) -> None:
    """Write a JSON file whole, its keys in the order given; nan, which JSON has no word for, becomes null."""
    write_bytes(path, (json.dumps(_strict(told), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _strict(told: Any) -> Any:
    if isinstance(told, Mapping):
        return {name: _strict(each) for name, each in told.items()}
    if isinstance(told, list | tuple):
        return [_strict(each) for each in told]
    return None if isinstance(told, float) and math.isnan(told) else told


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run.

    Raises
    ------
    PlanError
        it is not there, or no JSON object
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(
            f"{path} is not there; is {path.parent} the folder of a run of `extract parse train`?"
        ) from None
    except ValueError as error:
        raise PlanError(f"{path} is no JSON: {error}; the run must be made again") from error
    if not isinstance(told, dict):
        raise PlanError(f"{path} holds no JSON object; the run must be made again")
    return told


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV whole; the columns are all names, in the order of their first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as ``.npz`` whole, without pickles."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    write_bytes(path, buffer.getvalue())


def predictions_path(folder: Path, split: str) -> Path:
    """Where the probabilities of a split are."""
    return folder / f"predictions_{split}.npz"


def seed_folders(folder: Path) -> Iterator[Path]:
    """The runs of a folder that holds one per seed, by number."""
    found = [path for path in folder.glob("seed-*") if path.name[5:].isdigit()]
    yield from sorted(found, key=lambda path: int(path.name[5:]))
