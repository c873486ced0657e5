"""How well features will do at a task, told from the features and labels alone. numpy only; nothing is trained.

Sources
-------
cos_psi
    Wu et al., Information Sciences 2022, eq. 7 and 8, after Chen et al., ICML 2019.
logme
    You et al., ICML 2021 (arXiv 2102.11005), eq. 2; the same in terms of singular values: arXiv 2110.10545.
h_score
    Bao et al., ICIP 2019; here as Ibrahim et al. (2021, ECML PKDD 2022) have it, with the covariance shrunk as Ledoit and
    Wolf (2004) do.
linear_cka
    Kornblith et al., ICML 2019, eq. 1 and 4; debiased with the HSIC of Song et al. (2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from pipelines.collocation.transfer.spectra import Floats, evidence, separation, spectrum

Ints = NDArray[np.int64]
BATCHES = 32
"""At most so many batches of each side are compared."""


def cos_psi(source: NDArray[Any], target: NDArray[Any], *, batch: int = 256, seed: int = 0) -> float:
    """``|cos ψ₁|``: how alike the strongest directions of two sets of features are.

    Rows are shuffled and cut into batches; batch i of the source meets batch i of the target, at most 32 of them. The
    direction of a batch is the first left singular vector of its uncentred (d, batch) matrix, whose sign is arbitrary, so
    the absolute value counts. Where the two largest singular values of a batch are equal, it is one of many.

    Parameters
    ----------
    source, target
        (n, d) of training clips and (m, d) of those of validation or test; finite
    batch
        rows of a batch, 1..min(n, m); what is left over is not used
    seed
        of the shuffles

    Returns
    -------
    float
        mean over the batches, 0..1; higher: the target is more like the source

    Raises
    ------
    PlanError
        shapes do not fit, values are not finite, too few rows for one batch, or a batch of zeros only
    """
    source, target = checked(source, "source"), checked(target, "target")
    if source.shape[1] != target.shape[1]:
        raise PlanError(
            f"source has {source.shape[1]} numbers per row, target {target.shape[1]}; both must have the same"
        )
    found = []
    for one, other in zip(*draw(len(source), len(target), batch, seed), strict=True):
        first, second = direction(source[one]), direction(target[other])
        found.append(abs(float(first @ second)))
    return min(1.0, float(np.mean(found)))


def logme(features: NDArray[Any], labels: NDArray[Any], *, intercept: bool = False) -> float:
    r"""Logarithm of the maximum evidence of a linear model, per row and averaged over classes.

    ``y = F w + noise`` with ``w ~ N(0, 1/alpha)`` and noise ``~ N(0, 1/beta)``: the maximum over alpha and beta of eq. 2,
    divided by n. With ``t = alpha / beta`` the best beta is known, and one number is left to search; the fixed points of
    the paper's iteration are the stationary points in t. The search covers 1e-8..1e8 times the largest eigenvalue of
    ``FᵀF``: labels that features tell nothing of take the upper end, and labels that they give exactly take the value at the
    lower end, where the evidence would be infinite.

    For fewer rows than dimensions this is eq. 2 with the whole ``log|A|``, so that columns of zeros change nothing. The code
    of the authors leaves out the eigenvalues that are zero.

    Parameters
    ----------
    features
        (n, d), finite
    labels
        (n, C) of 0 and 1. Classes that no row has, or all rows have, are left out
    intercept
        take the mean off features and labels first, which makes the result independent of shifts; the paper does not

    Returns
    -------
    float
        higher is better; no bounds

    Raises
    ------
    PlanError
        shapes do not fit, values are not finite, labels are not 0 or 1, no class is left, or the features say nothing: all
        are zero (with an intercept: constant)
    """
    features = checked(features, "features")
    wanted = informative(labels, len(features))
    if intercept:
        features, wanted = centred(features, "features"), wanted - wanted.mean(axis=0)
    return float(evidence(spectrum(features, wanted, len(features) - intercept)).mean())


def h_score(features: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of a class's variance that shrunk features explain, averaged over classes.

    Of one class: ``tr(cov_a(F)⁻¹ (1 - a) cov(E[F | y]))``, with ``cov_a = (1 - a) cov + a tr(cov)/d I`` and the coefficient
    a of Ledoit and Wolf. Labels of clips are not exclusive, so each class is a problem of its own with two values of y.
    Without shrinkage this would be the R² of the regression of y on F.

    Parameters
    ----------
    features
        (n, d), finite
    labels
        (n, C) of 0 and 1. Classes that no row has, or all rows have, are left out

    Returns
    -------
    float
        0..1, higher is better; 0 where the covariance is shrunk altogether

    Raises
    ------
    PlanError
        as :func:`logme`, or constant features
    """
    features = centred(checked(features, "features"), "features")
    wanted = informative(labels, len(features))
    found = spectrum(features, wanted - wanted.mean(axis=0), len(features))
    return float(separation(found, lengths(features), features.shape[1]).mean())


def linear_cka(x: NDArray[Any], y: NDArray[Any], *, debiased: bool = True) -> float:
    """Linear centred kernel alignment: how alike two sets of features arrange the same rows.

    Parameters
    ----------
    x, y
        (n, d1) and (n, d2) of the same n rows, finite
    debiased
        with the unbiased estimator of HSIC, which expects 0 for unrelated features of any width; otherwise such features are
        the more alike the wider they are

    Returns
    -------
    float
        0..1, debiased -1..1; unchanged by rotations, scales and shifts of either

    Raises
    ------
    PlanError
        shapes do not fit, values are not finite, fewer than 2 rows (debiased 4), or constant features
    """
    x, y = checked(x, "x"), checked(y, "y")
    if len(x) != len(y):
        raise PlanError(f"x has {len(x)} rows, y {len(y)}; both must be of the same rows")
    x, y = centred(x, "x"), centred(y, "y")
    return alignment(_product(x, y), _product(x, x), _product(y, y), lengths(x), lengths(y), debiased=debiased)


def alignment(xy: float, xx: float, yy: float, x: Floats, y: Floats, *, debiased: bool = True) -> float:
    """:func:`linear_cka` of centred features, given ``|XᵀY|²``, ``|XᵀX|²``, ``|YᵀY|²`` and the squared lengths of rows."""
    rows, needed = len(x), 4 if debiased else 2
    if rows < needed:
        raise PlanError(f"{rows} rows are too few for this form of CKA; it needs {needed}")
    if debiased:
        xy, xx, yy = _unbiased(xy, x, y), _unbiased(xx, x, x), _unbiased(yy, y, y)
    for name, value, squares in (("x", xx, x), ("y", yy, y)):
        if value <= 1e-12 * float(squares.sum()) ** 2:
            raise PlanError(f"CKA cannot be told of these {rows} rows: {name} hardly varies; leave that feature out")
    return float(np.clip(xy / np.sqrt(xx * yy), -1, 1))


def _unbiased(product: float, x: Floats, y: Floats) -> float:
    """Song et al.'s estimator times n (n - 3). In ``K`` without its diagonal, rows of centred features sum to ``-x``."""
    n = len(x)
    return product - n / (n - 2) * float(x @ y) + float(x.sum() * y.sum()) / ((n - 1) * (n - 2))


def _product(x: Floats, y: Floats) -> float:
    """``|XᵀY|²``, the same as ``<XXᵀ, YYᵀ>`` (eq. 1); whichever is cheaper."""
    if len(x) * (x.shape[1] + y.shape[1]) < x.shape[1] * y.shape[1]:
        return float(((x @ x.T) * (y @ y.T)).sum())
    return float(np.square(x.T @ y).sum())


def draw(source: int, target: int, batch: int, seed: int) -> tuple[Ints, Ints]:
    """(B, batch) rows of the source and of the target each; a function of the arguments alone."""
    most = min(source, target)
    if not 1 <= batch <= most:
        raise PlanError(f"batch is {batch}; it must be from 1 to {most}, the rows of the smaller of source and target")
    count = min(BATCHES, most // batch)
    rng = np.random.default_rng(seed)
    one, other = (rng.permutation(rows)[: count * batch].reshape(count, batch) for rows in (source, target))
    return one, other


def direction(rows: Floats) -> Floats:
    """(d,): first left singular vector of the transposed (n, d) rows, of length 1."""
    if len(rows) < rows.shape[1]:
        found: Floats = rows.T @ leading(rows @ rows.T)[0]
        return found / np.linalg.norm(found)
    return leading(rows.T @ rows)[0]


def leading(gram: Floats) -> tuple[Floats, float]:
    """First eigenvector (k,) of a Gram matrix (k, k), of length 1, and its eigenvalue.

    By power iteration; where that has not come to within 1e-12 after 200 steps, by the whole decomposition.
    """
    # not a vector of ones: features that sum to zero would be at right angles to it
    vector = np.random.default_rng(0).standard_normal(len(gram))
    vector /= np.linalg.norm(vector)
    if not gram.any():
        raise PlanError("a batch holds zeros only, which point nowhere; leave that feature out")
    for _ in range(200):
        moved = gram @ vector
        value = float(np.linalg.norm(moved))
        if np.linalg.norm(moved - value * vector) <= 1e-12 * value:
            return vector, value
        vector = moved / value
    values, vectors = np.linalg.eigh(gram)
    return vectors[:, -1], float(values[-1])


def checked(features: NDArray[Any], what: str) -> Floats:
    """(n, d) float64; a :class:`PlanError` where it has another shape or values that are not finite."""
    if features.ndim != 2 or 0 in features.shape:
        raise PlanError(f"{what} has shape {features.shape}; it must be (rows, numbers), neither of them 0")
    finite(features, what)
    return np.asarray(features, dtype=np.float64)


def centred(features: Floats, what: str) -> Floats:
    """(n, d) without its mean; a :class:`PlanError` where all rows are equal."""
    # before the mean is taken off: that of equal numbers is not always that number
    if (features.min(axis=0) == features.max(axis=0)).all():
        raise PlanError(f"{what}: all {len(features)} rows are equal; leave that feature out")
    found: Floats = features - features.mean(axis=0)
    return found


def lengths(features: Floats) -> Floats:
    """(n,): squared length of each row of (n, d)."""
    found: Floats = np.einsum("nd,nd->n", features, features)
    return found


def finite(features: NDArray[Any], what: str) -> None:
    """A :class:`PlanError` where a value is NaN or infinite."""
    if not (np.isfinite(features.min()) and np.isfinite(features.max())):
        bad = int((~np.isfinite(features)).sum())
        raise PlanError(f"{what}: {bad} of {features.size} values are NaN or infinite; leave that feature out")


def informative(labels: NDArray[Any], rows: int) -> Floats:
    """(n, C') float64: the classes that some rows have and some have not."""
    if labels.ndim != 2 or len(labels) != rows:
        raise PlanError(f"labels have shape {labels.shape}; they must be ({rows}, classes), as there are {rows} rows")
    if not np.isin(labels, (0, 1)).all():
        raise PlanError("labels hold values other than 0 and 1; give 1 where the row has the class, 0 where not")
    counts = labels.sum(axis=0)
    kept = (counts > 0) & (counts < rows)
    if not kept.any():
        raise PlanError(
            f"each of the {labels.shape[1]} classes is in none or in all of the {rows} rows; use more clips"
        )
    return np.asarray(labels[:, kept], dtype=np.float64)
