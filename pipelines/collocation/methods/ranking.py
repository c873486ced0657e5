"""The rows of a method's ranking, as its ``result.json`` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.collocation.collocations import Collocation


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """Mean, std (of the sample; 0 for one value) and the values."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "values": list(values)}


def row(
    collocation: Collocation,
    values: Sequence[float],
    *,
    tests: Sequence[Mapping[str, float]] = (),
    wins: int,
    epochs: int,
    seconds: float,
    out: str = "",
) -> dict[str, Any]:
    """What is told of a collocation, but for its rank.

    Parameters
    ----------
    values
        a score per seed, of what the method ranks by
    tests
        all scores on test, per seed that has them
    wins
        seeds in which it is the best
    epochs, seconds
        that it was trained in all, over seeds
    out
        why it left the search early
    """
    told = spread_of(values)
    names = dict.fromkeys(name for each in tests for name in each)
    return {
        "name": collocation.name,
        "audio": collocation.audio,
        "visual": collocation.visual,
        "clip": collocation.clip,
        "score": told["mean"],
        "std": told["std"],
        "values": told["values"],
        "test": {name: spread_of([each[name] for each in tests if name in each]) for name in names},
        "wins": wins,
        "epochs": epochs,
        "seconds": seconds,
        "out": out,
    }


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows that are in order, with their ranks."""
    return [{"rank": rank, **each} for rank, each in enumerate(rows, 1)]
