"""What the estimators of transfer need of one backbone, computed once for all its pairs. numpy only.

A wide feature is brought down to its leading principal components: rows are standardised number by number, and the axes are
those of 2,048 seconds of the training clips. Numbers that are the same in all of these are left out. A feature of no more
numbers than components keeps them all, as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from pipelines.collocation.transfer.estimators import draw, finite, informative, lengths
from pipelines.collocation.transfer.spectra import Floats, evidence, spectrum_of

COMPONENTS = 256
CLIPS = 16
"""Clips of a batch of ``cos_psi``: as many as parsers are trained on at once."""
_SAMPLE = 2048
_BLOCK = 4096

Truth = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Gram matrices of a feature's batches: all that ``cos_psi`` needs, alone or beside other features.

    Parameters
    ----------
    source, target, across
        (B, b, b) within batches of training clips, within batches of others, and between the two
    """

    source: Floats
    target: Floats
    across: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A feature's rows, centred and with a total variance of 1, and labels.

    Parameters
    ----------
    features
        (n, k)
    gram, cross
        (k, k) ``FᵀF`` and (k, C) ``FᵀY``
    squares
        (n,) squared lengths of the rows
    labels
        (n, C) centred; C is 0 without labels
    logme
        of this feature alone, with an intercept; None without labels
    """

    features: Floats
    gram: Floats
    cross: Floats
    squares: Floats
    labels: Floats
    logme: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What estimators need of one backbone; see :func:`summarise`."""

    seed: int
    batches: Batches
    clips: Rows
    seconds: Rows


def summarise(
    train: NDArray[Any],
    val: NDArray[Any],
    weak_train: NDArray[Any],
    weak_val: NDArray[Any],
    truth_val: Truth | None = None,
    *,
    components: int = COMPONENTS,
    seed: int = 0,
    what: str = "features",
) -> Summary:
    """What all estimates that a backbone takes part in share.

    Parameters
    ----------
    train, val
        (N, T, d) and (M, T, d): a row per second; finite
    weak_train, weak_val
        (N, C) and (M, C) of 0 and 1: labels of clips
    truth_val
        heard (M, T, C) and seen (M, T, C) of 0 and 1, where seconds have labels
    components
        principal components kept of a wider feature
    seed
        of all draws; the same for all backbones that are to meet
    what
        how errors call these features

    Returns
    -------
    Summary
        about ``8 (N + M + M T) components`` bytes, and up to 20 MB of batches

    Raises
    ------
    PlanError
        shapes do not fit, values are not finite, all seconds are equal, a batch holds zeros only, labels are not 0 or 1, no
        class is in some clips only, or there are fewer than 16 clips in train or val
    """
    if not (train.ndim == val.ndim == 3 and train.shape[1:] == val.shape[1:]) or 0 in (*train.shape, *val.shape):
        raise PlanError(
            f"{what}: train is {train.shape}, val {val.shape}; they must be (N, T, d) and (M, T, d), not empty"
        )
    if components < 1:
        raise PlanError(f"components is {components}; it must be at least 1")
    for part, name in ((train, "train"), (val, "val")):
        finite(part, f"{what} of {name}")
        if len(part) < CLIPS:
            raise PlanError(
                f"{what}: {name} has {len(part)} clips; cos_psi takes batches of {CLIPS}, give at least so many"
            )
    axes = _axes(train.reshape(-1, train.shape[-1]), components, seed, what)
    pooled = np.concatenate([part.mean(axis=1, dtype=np.float64) for part in (train, val)])
    clips = informative(np.concatenate([weak_train, weak_val]), len(pooled))
    rows = val.reshape(-1, val.shape[-1])
    seconds = np.zeros((len(rows), 0)) if truth_val is None else _flat(truth_val, val.shape[:2])
    return Summary(
        seed,
        _batches(train, val, seed, what),
        _rows(axes.of(pooled), clips, f"{what}, mean of each clip"),
        _rows(axes.of(rows), seconds, f"{what} of val"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Axes:
    """Which numbers of a row vary, their means (d',) and scales (d',), and principal axes (d', k), if there are fewer."""

    kept: NDArray[np.bool_]
    mean: Floats
    scale: Floats
    axes: Floats | None

    def of(self, rows: NDArray[Any]) -> Floats:
        return np.concatenate([self._of(rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK)])

    def _of(self, rows: NDArray[Any]) -> Floats:
        found: Floats = (rows[:, self.kept].astype(np.float64) - self.mean) / self.scale
        return found if self.axes is None else found @ self.axes


def _axes(rows: NDArray[Any], components: int, seed: int, what: str) -> _Axes:
    drawn = np.random.default_rng(seed).choice(len(rows), size=min(_SAMPLE, len(rows)), replace=False)
    sample = rows[np.sort(drawn)].astype(np.float64)
    mean, scale = sample.mean(axis=0), sample.std(axis=0)
    # the deviation of equal numbers is not always zero, and that of the smallest ones is
    kept = (sample.min(axis=0) != sample.max(axis=0)) & (scale > 0)
    if not kept.any():
        raise PlanError(f"{what}: all of {len(sample)} seconds drawn from train are equal; leave that feature out")
    found = _Axes(kept, mean[kept], scale[kept], None)
    if kept.sum() <= components:
        return found
    sample = found.of(sample)
    wide = sample.shape[1] > len(sample)
    values, vectors = np.linalg.eigh(sample @ sample.T if wide else sample.T @ sample)
    # equal seconds, or fewer than components, leave axes without a direction
    some = np.flatnonzero(values > values[-1] * max(sample.shape) * np.finfo(np.float64).eps)[-components:]
    axes = sample.T @ (vectors[:, some] / np.sqrt(values[some])) if wide else vectors[:, some]
    return _Axes(found.kept, found.mean, found.scale, axes)


def _rows(features: Floats, labels: Floats, what: str) -> Rows:
    features = features - features.mean(axis=0)
    size = np.sqrt(np.square(features).sum() / len(features))
    # rows have been standardised: what is left of equal ones is rounding
    if not size > 1e-10:
        raise PlanError(f"{what}: all {len(features)} rows are equal; leave that feature out")
    features /= size
    labels = labels - labels.mean(axis=0)
    gram, cross = features.T @ features, features.T @ labels
    alone = None
    if labels.shape[1]:
        energy = np.square(labels).sum(axis=0)
        alone = float(evidence(spectrum_of(gram, cross, energy, len(labels) - 1)).mean())
    return Rows(features, gram, cross, lengths(features), labels, alone)


def _batches(train: NDArray[Any], val: NDArray[Any], seed: int, what: str) -> Batches:
    source, target = (part.reshape(-1, part.shape[-1]) for part in (train, val))
    found = []
    for one, other in zip(*draw(len(source), len(target), CLIPS * train.shape[1], seed), strict=True):
        first, second = (rows.astype(np.float64) for rows in (source[one], target[other]))
        found.append((first @ first.T, second @ second.T, first @ second.T))
    grams = [np.stack(each) for each in zip(*found, strict=True)]
    # so that a feature of large numbers does not outweigh the one beside it
    size = float(np.trace(grams[0], axis1=1, axis2=2).mean())
    if not all(gram.any(axis=(1, 2)).all() for gram in grams[:2]):
        raise PlanError(f"{what}: a batch holds zeros only, which point nowhere; leave that feature out")
    return Batches(*(gram / size for gram in grams))


def _flat(truth: Truth, shape: tuple[int, ...]) -> Floats:
    """(M T, C'): heard and seen side by side, those that tell seconds apart."""
    for name, part in zip(("heard", "seen"), truth, strict=True):
        if part.ndim != 3 or part.shape[:2] != shape:
            raise PlanError(f"{name} has shape {part.shape}; it must be {(*shape, 'C')} for the clips of val")
    both = np.concatenate(truth, axis=-1)
    return informative(both.reshape(-1, both.shape[-1]), shape[0] * shape[1])
