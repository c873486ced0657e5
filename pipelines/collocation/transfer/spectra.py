"""Features and labels along the features' principal axes, and what LogME and the H-score make of them. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError

Floats = NDArray[np.float64]
_LOG_T = np.log(10) * np.linspace(-8, 8, 65)
_GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Features and labels along the principal axes of the features.

    Parameters
    ----------
    rows
        degrees of freedom, n, or n - 1 with an intercept
    values
        (k,) eigenvalues of ``FᵀF`` that are not zero
    aligned
        (C, k) squared length of each label along each left singular vector
    energy
        (C,) squared length of each label
    """

    rows: int
    values: Floats
    aligned: Floats
    energy: Floats


def spectrum(features: Floats, labels: Floats, rows: int) -> Spectrum:
    """Of features (n, d) and labels (n, C)."""
    energy = np.square(labels).sum(axis=0)
    if len(features) >= features.shape[1]:
        return spectrum_of(features.T @ features, features.T @ labels, energy, rows)
    values, vectors = np.linalg.eigh(features @ features.T)
    kept = _kept(values, max(features.shape))
    return Spectrum(rows, values[kept], np.square(labels.T @ vectors[:, kept]), energy)


def spectrum_of(gram: Floats, cross: Floats, energy: Floats, rows: int) -> Spectrum:
    """Of ``FᵀF`` (d, d), ``FᵀY`` (d, C) and the squared lengths of the labels (C,)."""
    values, vectors = np.linalg.eigh(gram)
    kept = _kept(values, max(rows, len(gram)))
    return Spectrum(rows, values[kept], np.square(cross.T @ vectors[:, kept]) / values[kept], energy)


def _kept(values: Floats, size: int) -> NDArray[np.bool_]:
    if not values[-1] > 0:
        raise PlanError("the features are the same in every row; leave that feature out")
    kept: NDArray[np.bool_] = values > values[-1] * size * np.finfo(np.float64).eps
    return kept


def evidence(of: Spectrum) -> Floats:
    """(C,): maximum of the log evidence per row, see :func:`logme`."""
    rest = np.maximum(of.energy - of.aligned.sum(axis=1), 0)

    def at(log_t: Floats) -> Floats:
        """(..., C) for log t of that shape, in units of the largest eigenvalue."""
        ratio = of.values / (of.values[-1] * np.exp(log_t[..., None]))
        error = (of.aligned / (1 + ratio)).sum(axis=-1) + rest
        fit = of.rows * (np.log(of.rows / error) - 1 - np.log(2 * np.pi))
        found: Floats = (fit - np.log1p(ratio).sum(axis=-1)) / (2 * of.rows)
        return found

    grid = at(np.repeat(_LOG_T[:, None], len(rest), axis=1))
    best = grid.argmax(axis=0)
    low, high = _LOG_T[np.maximum(best - 1, 0)], _LOG_T[np.minimum(best + 1, len(_LOG_T) - 1)]
    for _ in range(40):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        up = at(left) < at(right)
        low, high = np.where(up, left, low), np.where(up, high, right)
    found: Floats = np.maximum(at((low + high) / 2), grid.max(axis=0))
    return found


def separation(of: Spectrum, lengths: Floats, dims: int) -> Floats:
    """(C,): the regularised H-score, see :func:`h_score`, given the squared lengths (n,) of centred rows of `dims` numbers."""
    n = len(lengths)
    values = of.values / n
    mean, squares = values.sum() / dims, np.square(values).sum()
    spread = squares - dims * mean**2
    noise = max((np.square(lengths).mean() - squares) / n, 0.0)
    # of one dimension, or dimensions of equal variance, the target of the shrinkage is what is there already
    shrunk = min(noise / spread, 1.0) if spread > 1e-12 * squares else 0.0
    found: Floats = (1 - shrunk) * (of.aligned * (values / ((1 - shrunk) * values + shrunk * mean))).sum(axis=1)
    return found / of.energy
