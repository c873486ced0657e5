"""How well backbones will do together, told from their features without training a parser. numpy only.

What pairs share is computed once per backbone (:func:`summarise`), so that a pair (:func:`of_slots`) costs a few products
of small matrices. Where features of several slots are put side by side, each has the same total variance, so that a wide
feature does not outweigh a narrow one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from pipelines.collocation.transfer.estimators import alignment, cos_psi, h_score, leading, linear_cka, logme
from pipelines.collocation.transfer.spectra import Floats, Spectrum, evidence, separation, spectrum_of
from pipelines.collocation.transfer.summary import CLIPS, Batches, Rows, Summary, Truth, summarise

__all__ = ["Estimate", "Summary", "cos_psi", "estimates", "h_score", "linear_cka", "logme", "of_slots", "summarise"]

Product = Mapping[tuple[int, int], Floats]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number about some backbones together.

    Parameters
    ----------
    name
        of the estimator
    value
        finite
    higher_is_better
        which end of a ranking by it comes first
    """

    name: str
    value: float
    higher_is_better: bool = True


def of_slots(
    slots: Mapping[str, Summary], fused: Mapping[str, tuple[NDArray[Any], NDArray[Any]]] | None = None
) -> tuple[Estimate, ...]:
    """All estimates for backbones that work together.

    Parameters
    ----------
    slots
        a backbone in each: ``audio``, ``visual``, ... at least two, all of the same clips, labels and seed
    fused
        features that parsers made of them, if any: (N, T, d) of training clips and (M, T, d) of validation

    Returns
    -------
    tuple of Estimate
        ``cos_psi_SLOT``, ``cos_psi_concatenated``, ``cos_psi_fused_NAME``;
        ``logme_clips``, ``h_score_clips``, ``logme_gain_clips`` of mean features of clips, side by side, and labels of clips;
        ``logme_seconds``, ``h_score_seconds``, ``logme_gain_seconds`` of the seconds of validation, where they have labels:
        the mean over heard and seen events;
        ``cka_seconds``: debiased linear CKA between slots over the seconds of validation, mean over pairs of slots.
        LogME has an intercept. ``logme_gain`` is LogME side by side less that of the best slot alone: what the pair has
        beyond its parts. It is negative where a poor slot does nothing but harm, and high where both are poor but unlike, so
        it does not rank pairs by itself

    Raises
    ------
    PlanError
        fewer than two slots, or summaries that are not of the same clips, labels and seed; fused features that are of another
        shape, not finite or zero, or of fewer than 16 clips
    """
    _check(slots)
    parts = list(slots.values())
    found = [Estimate(f"cos_psi_{name}", _cosine([part.batches])) for name, part in slots.items()]
    found.append(Estimate("cos_psi_concatenated", _cosine([part.batches for part in parts])))
    for name, (source, target) in (fused or {}).items():
        if not source.ndim == target.ndim == 3:
            raise PlanError(
                f"fused {name} has shapes {source.shape} and {target.shape}; they must be (N, T, d) and (M, T, d)"
            )
        rows = [part.reshape(-1, part.shape[-1]) for part in (source, target)]
        value = cos_psi(rows[0], rows[1], batch=CLIPS * source.shape[1], seed=parts[0].seed)
        found.append(Estimate(f"cos_psi_fused_{name}", value))
    clips, seconds = [part.clips for part in parts], [part.seconds for part in parts]
    across = _across(seconds)
    found += [*_supervised(clips, _across(clips), "clips"), *_supervised(seconds, across, "seconds")]
    pairs = [_alignment(seconds[i], seconds[j], product) for (i, j), product in across.items()]
    found.append(Estimate("cka_seconds", float(np.mean(pairs))))
    return tuple(found)


def estimates(
    train: Mapping[str, NDArray[Any]],
    val: Mapping[str, NDArray[Any]],
    weak_train: NDArray[Any],
    weak_val: NDArray[Any],
    truth_val: Truth | None = None,
    *,
    seed: int = 0,
) -> tuple[Estimate, ...]:
    """:func:`of_slots` of what :func:`summarise` makes of each slot's features; for more than one pair, call these two.

    Raises
    ------
    PlanError
        as those two, or train and val have other slots
    """
    if set(train) != set(val):
        raise PlanError(f"train has the slots {sorted(train)}, val {sorted(val)}; both must have the same")
    summaries = {
        name: summarise(train[name], val[name], weak_train, weak_val, truth_val, seed=seed, what=name) for name in train
    }
    return of_slots(summaries)


def _check(slots: Mapping[str, Summary]) -> None:
    if len(slots) < 2:
        raise PlanError(f"{len(slots)} slots are given ({', '.join(slots) or 'none'}); estimates are for two or more")
    (known, first), *others = slots.items()
    for name, part in others:
        if part.seed != first.seed:
            raise PlanError(f"{name} was summarised with seed {part.seed}, {known} with {first.seed}; use the same")
        labels = ((part.clips, first.clips), (part.seconds, first.seconds))
        if part.batches.source.shape != first.batches.source.shape or not all(
            np.array_equal(mine.labels, its.labels) for mine, its in labels
        ):
            raise PlanError(f"{name} was summarised from other clips or labels than {known}; use the same")


def _supervised(parts: Sequence[Rows], across: Product, level: str) -> list[Estimate]:
    """Those that need labels; none without."""
    alone = [part.logme for part in parts if part.logme is not None]
    if not alone:
        return []
    together = _beside(parts, across)
    squares = np.sum([part.squares for part in parts], axis=0)
    value = float(evidence(together).mean())
    score = float(separation(together, squares, sum(len(part.gram) for part in parts)).mean())
    return [
        Estimate(f"logme_{level}", value),
        Estimate(f"h_score_{level}", score),
        Estimate(f"logme_gain_{level}", value - max(alone)),
    ]


def _across(parts: Sequence[Rows]) -> Product:
    """``FᵀG`` of each pair of features."""
    return {(i, j): parts[i].features.T @ parts[j].features for i, j in combinations(range(len(parts)), 2)}


def _beside(parts: Sequence[Rows], across: Product) -> Spectrum:
    """Of features side by side."""
    order = range(len(parts))
    blocks = [[parts[i].gram if i == j else across[i, j] if i < j else across[j, i].T for j in order] for i in order]
    energy = np.square(parts[0].labels).sum(axis=0)
    cross = np.concatenate([part.cross for part in parts])
    return spectrum_of(np.block(blocks), cross, energy, len(parts[0].labels) - 1)


def _alignment(one: Rows, other: Rows, across: Floats) -> float:
    products = [float(np.square(product).sum()) for product in (across, one.gram, other.gram)]
    return alignment(products[0], products[1], products[2], one.squares, other.squares)


def _cosine(parts: Sequence[Batches]) -> float:
    """Mean ``|cos ψ₁|`` over batches of features side by side, whose Gram matrices add up."""
    source, target, across = (np.sum([getattr(part, name) for part in parts], axis=0) for name in Batches.__slots__)
    found = []
    for one, other, between in zip(source, target, across, strict=True):
        (first, size), (second, other_size) = leading(one), leading(other)
        found.append(abs(float(first @ between @ second)) / np.sqrt(size * other_size))
    return min(1.0, float(np.mean(found)))
