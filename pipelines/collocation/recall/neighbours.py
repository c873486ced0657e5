"""The most similar second of each second, by cosine. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from pipelines.collocation.transfer.estimators import finite

Scope = Literal["all", "other clips"]
QUERIES = 256
"""Seconds that are compared with all others at once."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Seconds:
    """The n seconds that have a label.

    Parameters
    ----------
    units
        (n, d) vectors of length 1; zeros where the features are, for these have no direction
    clips, numbers
        (n,) number of the clip, and of the second among all of all clips
    labels
        (n, C)
    directed
        (n,) False where the vector is zero
    """

    units: Floats
    clips: Ints
    numbers: Ints
    labels: NDArray[np.bool_]
    directed: NDArray[np.bool_]


def with_labels(features: NDArray[Any], labels: NDArray[Any], what: str) -> Seconds:
    """The seconds with a label of (N, T, d) features and (N, T, C) labels of 0 and 1.

    Raises
    ------
    PlanError
        other shapes, features that are NaN or infinite, or labels that are not 0 and 1
    """
    if features.ndim != 3 or 0 in features.shape:
        raise PlanError(f"{what}: features have the shape {features.shape}; it must be (N, T, d), not empty")
    if labels.ndim != 3 or labels.shape[:2] != features.shape[:2]:
        raise PlanError(
            f"{what}: labels have the shape {labels.shape}; it must be {features.shape[:2]} and the number of classes"
        )
    if not np.isin(labels, (0, 1)).all():
        raise PlanError(
            f"{what}: labels hold values other than 0 and 1; give 1 where a second has the class, 0 where not"
        )
    finite(features, what)
    flat = labels.reshape(-1, labels.shape[2]).astype(bool)
    numbers = np.flatnonzero(flat.any(axis=1))
    rows = features.reshape(-1, features.shape[2])
    units = np.empty((len(numbers), rows.shape[1]), np.float32)
    directed = np.empty(len(numbers), bool)
    for start in range(0, len(numbers), QUERIES):
        part = rows[numbers[start : start + QUERIES]].astype(np.float64)
        # squares of very small or very large numbers are out of range
        peak = np.abs(part).max(axis=1, keepdims=True)
        part /= np.where(peak > 0, peak, 1)
        length = np.sqrt(np.square(part).sum(axis=1, keepdims=True))
        units[start : start + QUERIES] = part / np.where(peak > 0, length, 1)
        directed[start : start + QUERIES] = peak[:, 0] > 0
    return Seconds(units, numbers // features.shape[1], numbers, flat[numbers], directed)


def most_similar(asking: Seconds, found: Seconds, *, itself: bool, queries: int = QUERIES) -> dict[Scope, Ints]:
    """The neighbours of some seconds among others.

    Parameters
    ----------
    asking, found
        those that look for a neighbour, and those that may be one; of the same clips and in the same space
    itself
        they are the same: a second is no neighbour of itself
    queries
        seconds compared at once: some ``10 n queries`` bytes

    Returns
    -------
    dict
        by scope, for each second of `asking` the place in `found`: the first of the most similar; -1 where none has a
        direction, or the second itself has none. Cosines are in float32
    """
    best: dict[Scope, Ints] = {scope: np.empty(len(asking.clips), np.int64) for scope in get_args(Scope)}
    copies = _copies(found.units)
    for start in range(0, len(asking.clips), queries):
        part = slice(start, start + queries)
        alike = asking.units[part] @ found.units.T
        if copies is not None:
            # products of equal vectors may be rounded differently
            alike = alike[:, copies]
        alike[:, ~found.directed] = -np.inf
        alike[~asking.directed[part]] = -np.inf
        if itself:
            alike[asking.numbers[part, None] == found.numbers] = -np.inf
        best["all"][part] = _first(alike)
        alike[asking.clips[part, None] == found.clips] = -np.inf
        best["other clips"][part] = _first(alike)
    return best


def _first(alike: Floats) -> Ints:
    place = alike.argmax(axis=1)
    return np.where(np.isneginf(alike[np.arange(len(alike)), place]), -1, place)


def _copies(units: Floats) -> Ints | None:
    """For each vector the place of the first that is equal to it; None where all differ."""
    seen: dict[bytes, int] = {}
    # a zero may have a sign
    places = np.array([seen.setdefault(blake2b(row + np.float32(0)).digest(), i) for i, row in enumerate(units)])
    return None if len(seen) == len(units) else places
