"""Estimators of transfer against the formulas written out, by hand, under what must not change them, and on bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import PlanError
from pipelines.collocation.transfer import estimators, summary
from pipelines.collocation.transfer.of_slots import (
    Estimate,
    cos_psi,
    estimates,
    h_score,
    linear_cka,
    logme,
    of_slots,
    summarise,
)

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def some_labels(seed: int, n: int, classes: int = 3) -> np.ndarray:
    labels = np.random.default_rng(seed).random((n, classes)) < 0.4
    labels[:2] = [[True], [False]]
    return labels.astype(np.uint8)


def rotation(seed: int, d: int) -> np.ndarray:
    return np.linalg.qr(normal(seed, d, d))[0]


# ---- cos psi ---------------------------------------------------------------------------------------------------------


def psi_by_svd(source: np.ndarray, target: np.ndarray, batch: int, seed: int) -> float:
    """Eq. 7 and 8 as they are printed."""
    found = []
    for one, other in zip(*estimators.draw(len(source), len(target), batch, seed), strict=True):
        first, second = (np.linalg.svd(rows.T)[0][:, 0] for rows in (source[one], target[other]))
        found.append(abs(first @ second) / (np.linalg.norm(first) * np.linalg.norm(second)))
    return float(np.mean(found))


@given(seeds, st.integers(1, 40), st.integers(1, 20), st.floats(0, 2))
@few
def test_cos_psi_is_that_of_a_full_svd(seed: int, d: int, batch: int, mean: float) -> None:
    source, target = normal(seed, 60, d) + mean, normal(seed + 1, 45, d) + mean
    assert cos_psi(source, target, batch=batch, seed=seed) == pytest.approx(
        psi_by_svd(source, target, batch, seed), abs=1e-6
    )


def test_cos_psi_by_hand() -> None:
    # strongest directions (1, 0) and (3, 4) / 5
    source, target = np.array([[2.0, 0], [-2, 0], [0, 1]]), np.array([[3.0, 4], [6, 8], [-3, -4]])
    assert cos_psi(source, target, batch=3) == pytest.approx(0.6, abs=1e-12)
    assert cos_psi(source, source[::-1] @ np.array([[0, 1], [1, 0]]), batch=3) == pytest.approx(0, abs=1e-12)


def test_features_are_not_centred() -> None:
    rows = normal(0, 64, 8) + 20 * np.eye(8)[0]
    assert cos_psi(rows, rows + 20 * np.eye(8)[0], batch=32) > 0.99
    assert cos_psi(rows, normal(1, 64, 8) + 20 * np.eye(8)[1], batch=32) < 0.1


@given(seeds)
@few
def test_cos_psi_knows_no_sign_scale_or_order(seed: int) -> None:
    source, target = normal(seed, 48, 6) + 0.3, normal(seed + 1, 48, 6) + 0.3
    turned = rotation(seed, 6)
    found = cos_psi(source, target, batch=48)
    assert 0 <= found <= 1
    for one, other in (
        (-source, target),
        (source, 7 * target),
        (source[::-1], target),
        (source @ turned, target @ turned),
    ):
        assert cos_psi(one, other, batch=48) == pytest.approx(found, abs=1e-6)


def test_cos_psi_is_a_mean_over_batches_and_a_function_of_the_seed() -> None:
    source, target = normal(0, 5000, 4), normal(1, 3000, 4)
    found = {cos_psi(source, target, batch=16, seed=seed) for seed in (1, 1, 2)}
    assert len(found) == 2
    one, other = estimators.draw(5000, 3000, 16, 1)
    assert one.shape == other.shape == (32, 16)
    assert len(np.unique(one)) == 512
    assert estimators.draw(50, 35, 16, 1)[0].shape == (2, 16)


@pytest.mark.parametrize(("d", "batch"), [(8192, 256), (64, 2048)])
def test_wide_features_and_large_batches_stay_cheap(d: int, batch: int) -> None:
    source, target = (np.abs(normal(seed, batch, d)).astype(np.float32) for seed in (0, 1))
    assert cos_psi(source, target, batch=batch) > 0.9


def test_power_iteration_gives_up_on_near_equals_and_is_exact_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    turned, whole, seen = rotation(0, 5), np.linalg.eigh, []
    monkeypatch.setattr(np.linalg, "eigh", lambda gram: seen.append(len(gram)) or whole(gram))
    vector, value = estimators.leading(turned @ np.diag([1.0, 0.9999, 0.5, 0.1, 0]) @ turned.T)
    assert seen == [5]
    assert value == pytest.approx(1)
    assert abs(vector @ turned[:, 0]) == pytest.approx(1)
    estimators.leading(turned @ np.diag([1.0, 0.5, 0.5, 0.1, 0]) @ turned.T)
    assert seen == [5]


# ---- LogME -----------------------------------------------------------------------------------------------------------


def evidence(features: np.ndarray, label: np.ndarray, alpha: float, beta: float) -> float:
    """Eq. 2 with whole matrices, per row."""
    n, d = features.shape
    matrix = alpha * np.eye(d) + beta * features.T @ features
    mean = beta * np.linalg.solve(matrix, features.T @ label)
    error = ((features @ mean - label) ** 2).sum()
    log_det = np.linalg.slogdet(matrix)[1]
    found = n * math.log(beta) + d * math.log(alpha) - n * math.log(2 * math.pi)
    return float(found - beta * error - alpha * (mean @ mean) - log_det) / (2 * n)


def fixed_point(features: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Where the paper's iteration from alpha = beta = 1 comes to rest."""
    n, d = features.shape
    alpha, beta, before = 1.0, 1.0, math.inf
    while abs(math.log(alpha / beta) - before) > 1e-10:
        before = math.log(alpha / beta)
        matrix = alpha * np.eye(d) + beta * features.T @ features
        mean = beta * np.linalg.solve(matrix, features.T @ label)
        gamma = d - alpha * np.trace(np.linalg.inv(matrix))
        alpha, beta = gamma / (mean @ mean), (n - gamma) / ((features @ mean - label) ** 2).sum()
    return alpha, beta


@pytest.mark.parametrize(("n", "d"), [(40, 5), (200, 3), (60, 40)])
def test_logme_is_the_fixed_point_of_the_paper(n: int, d: int) -> None:
    for seed in range(5):
        features = normal(seed, n, d)
        labels = (features[:, :2] + normal(seed + 9, n, 2) / 3 > 0.4).astype(float)
        wanted = np.mean([evidence(features, label, *fixed_point(features, label)) for label in labels.T])
        assert logme(features, labels) == pytest.approx(wanted, abs=1e-9)


@given(seeds, st.integers(5, 30), st.integers(1, 30), st.floats(-2, 2))
@few
def test_no_alpha_and_beta_have_more_evidence(seed: int, n: int, d: int, mean: float) -> None:
    features, labels = normal(seed, n, d) + mean, some_labels(seed, n, 1)
    found = logme(features, labels)
    grid = [
        evidence(features, labels[:, 0], a, b) for a in np.geomspace(1e-4, 1e6, 30) for b in np.geomspace(0.1, 1e4, 30)
    ]
    assert max(grid) <= found + 1e-6
    # with less than its rank to spare, the labels may be fitted exactly, at a beta beyond the grid
    if n > 2 * d:
        assert found < max(grid) + 0.05


def test_logme_by_hand() -> None:
    """One feature of ones, label (1, 1, 1, 0): with s = alpha / beta the covariance is (I + 11ᵀ / s) / beta."""
    label = np.array([1.0, 1, 1, 0])

    def at(beta: float, s: float) -> float:
        error = 3 - 9 / (s + 4)
        return (4 * math.log(beta / (2 * math.pi)) - math.log(1 + 4 / s) - beta * error) / 8

    best = max(at(4 / (3 - 9 / (s + 4)), s) for s in np.geomspace(0.01, 100, 200_001))
    assert logme(np.ones((4, 1)), label[:, None]) == pytest.approx(best, abs=1e-9)


@given(seeds, st.integers(4, 40), st.integers(1, 30), st.booleans(), st.floats(1e-3, 1e3))
@few
def test_logme_knows_no_rotation_scale_or_columns_of_zeros(
    seed: int, n: int, d: int, intercept: bool, scale: float
) -> None:
    features, labels = normal(seed, n, d), some_labels(seed, n)
    found = logme(features, labels, intercept=intercept)
    for other in (features @ rotation(seed, d) * scale, np.hstack([features, np.zeros((n, 7))])):
        assert logme(other, labels, intercept=intercept) == pytest.approx(found, abs=1e-6)
    order = np.random.default_rng(seed).permutation(n)
    assert logme(features[order], labels[order][:, ::-1], intercept=intercept) == pytest.approx(found, abs=1e-6)
    if intercept:
        assert logme(features + 5, labels, intercept=True) == pytest.approx(found, abs=1e-6)


def test_logme_has_values_where_iteration_has_none() -> None:
    features, labels = normal(0, 100, 4), some_labels(1, 100, 1)
    features -= labels * (labels * features).sum(axis=0) / labels.sum()  # tells nothing of them
    nothing = -(1 + math.log(2 * math.pi * labels.mean())) / 2
    assert logme(features, labels) == pytest.approx(nothing, abs=1e-6)
    perfect = logme(np.hstack([features, labels]), labels)
    assert perfect > nothing + 1
    assert math.isfinite(perfect)


def test_classes_that_tell_nothing_apart_are_left_out() -> None:
    features, labels = normal(0, 50, 6), some_labels(0, 50)
    more = np.hstack([labels, np.zeros((50, 1)), np.ones((50, 1))])
    for estimator in (logme, h_score):
        assert estimator(features, more) == estimator(features, labels) == estimator(features, labels.astype(bool))


# ---- H-score ---------------------------------------------------------------------------------------------------------


def h_score_literally(features: np.ndarray, label: np.ndarray) -> float:
    """Ibrahim et al.'s, with the coefficient of Ledoit and Wolf from its definition, row by row."""
    n, d = features.shape
    centred = features - features.mean(axis=0)
    cov = centred.T @ centred / n
    mean = np.trace(cov) / d
    spread = ((cov - mean * np.eye(d)) ** 2).sum() / d
    noise = sum(((np.outer(row, row) - cov) ** 2).sum() / d for row in centred) / n**2
    shrunk = min(noise, spread) / spread
    given = np.array([features[label == value].mean(axis=0) for value in label]) - features.mean(axis=0)
    inverse = np.linalg.inv((1 - shrunk) * cov + shrunk * mean * np.eye(d))
    return float(np.trace(inverse @ ((1 - shrunk) * given.T @ given / n)))


@given(seeds, st.integers(5, 40), st.integers(2, 50))
@few
def test_h_score_is_its_definition(seed: int, n: int, d: int) -> None:
    features, labels = normal(seed, n, d) * np.arange(1, d + 1), some_labels(seed, n)
    wanted = np.mean([h_score_literally(features, label) for label in labels.T])
    found = h_score(features, labels)
    assert found == pytest.approx(wanted, abs=1e-9)
    assert 0 <= found <= 1
    assert h_score(features @ rotation(seed, d) * 3 + 5, labels) == pytest.approx(found, abs=1e-7)


def test_h_score_by_hand() -> None:
    # one dimension is not shrunk: the squared correlation of (0, 0, 1, 3) with (0, 0, 1, 1)
    label = np.array([[0], [0], [1], [1]])
    assert h_score(np.array([[0.0], [0], [1], [3]]), label) == pytest.approx(2 / 3)
    # row = label: all of the variance is between classes
    assert h_score(label.astype(float), label) == pytest.approx(1)


# ---- CKA -------------------------------------------------------------------------------------------------------------


def hsic_of_song(first: np.ndarray, second: np.ndarray) -> float:
    n = len(first)
    first, second = (gram - np.diag(np.diag(gram)) for gram in (first, second))
    one = np.ones(n)
    return float(
        np.trace(first @ second)
        + (one @ first @ one) * (one @ second @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * one @ first @ second @ one
    ) / (n * (n - 3))


@given(seeds, st.integers(6, 30), st.integers(1, 40), st.integers(1, 40))
@few
def test_cka_is_its_definition(seed: int, n: int, d: int, e: int) -> None:
    x, y = normal(seed, n, d) + 2, normal(seed + 1, n, e)
    middle = np.eye(n) - 1 / n
    grams = [middle @ part @ part.T @ middle for part in (x, y)]
    biased = np.trace(grams[0] @ grams[1]) / (np.linalg.norm(grams[0]) * np.linalg.norm(grams[1]))
    assert linear_cka(x, y, debiased=False) == pytest.approx(biased, abs=1e-9)
    raw = [part @ part.T for part in (x, y)]
    unbiased = hsic_of_song(*raw) / math.sqrt(hsic_of_song(raw[0], raw[0]) * hsic_of_song(raw[1], raw[1]))
    assert linear_cka(x, y) == pytest.approx(unbiased, abs=1e-6)


@given(seeds, st.booleans())
@few
def test_cka_knows_no_rotation_scale_shift_or_order(seed: int, debiased: bool) -> None:
    x = normal(seed, 30, 4)
    y = x @ normal(seed + 1, 4, 6) + normal(seed + 2, 30, 6)
    found = linear_cka(x, y, debiased=debiased)
    assert linear_cka(x @ rotation(seed, 4) * -3 + 7, y, debiased=debiased) == pytest.approx(found, abs=1e-8)
    assert linear_cka(y[::-1], x[::-1], debiased=debiased) == pytest.approx(found, abs=1e-8)
    assert linear_cka(x, 2 * x, debiased=debiased) == pytest.approx(1)


def test_only_the_debiased_form_sees_nothing_in_wide_noise() -> None:
    pairs = [(normal(seed, 60, 300), normal(seed + 100, 60, 300)) for seed in range(20)]
    assert np.mean([linear_cka(x, y, debiased=False) for x, y in pairs]) > 0.7
    assert abs(np.mean([linear_cka(x, y) for x, y in pairs])) < 0.02


# ---- all of them for a pair ------------------------------------------------------------------------------------------


def scene(seed: int, strength: float, *, visual: float | None = None, dims: tuple[int, int] = (12, 20)):
    """60 + 40 clips of 5 seconds: audio and visual features, of which a label moves one direction each."""
    rng = np.random.default_rng(seed)
    weak = rng.random((100, 4)) < 0.4
    truth = [weak[:, None] & (rng.random((100, 5, 4)) < 0.7) for _ in range(2)]
    mixed = [rng.standard_normal((4, d)) / math.sqrt(d) for d in dims]
    noise = [rng.standard_normal((100, 5, d)) for d in dims]
    strengths = (strength, strength if visual is None else visual)
    made = [
        4 * s * (there @ mix) + rest + 0.5 for s, there, mix, rest in zip(strengths, truth, mixed, noise, strict=True)
    ]
    names = ("audio", "visual")
    train, val = ({n: part[rows] for n, part in zip(names, made, strict=True)} for rows in (slice(60), slice(60, None)))
    return train, val, weak[:60], weak[60:], (truth[0][60:], truth[1][60:])


def values(found: tuple[Estimate, ...]) -> dict[str, float]:
    assert len({one.name for one in found}) == len(found)
    assert all(math.isfinite(one.value) for one in found)
    return {one.name: one.value for one in found}


def standardised(features: np.ndarray, by: np.ndarray) -> np.ndarray:
    """By the numbers of `by`, centred, of variance 1 in all."""
    found = (features - by.mean(axis=(0, 1))) / by.std(axis=(0, 1))
    found = (found.reshape(-1, found.shape[-1])) if features.ndim == 3 else found
    found = found - found.mean(axis=0)
    return found / np.sqrt((found**2).sum() / len(found))


def test_estimates_are_the_estimators_on_features_side_by_side() -> None:
    train, val, weak_train, weak_val, truth = scene(0, 1.0)
    found = values(estimates(train, val, weak_train, weak_val, truth, seed=3))
    weak = np.concatenate([weak_train, weak_val])
    dense = np.concatenate(truth, axis=-1).reshape(200, 8)
    clips, seconds = {}, {}
    for name in ("audio", "visual"):
        pooled = np.concatenate([train[name], val[name]]).mean(axis=1)
        clips[name], seconds[name] = standardised(pooled, train[name]), standardised(val[name], train[name])
    for level, rows, labels in (("clips", clips, weak), ("seconds", seconds, dense)):
        both = np.hstack([rows["audio"], rows["visual"]])
        alone = [logme(rows[name], labels, intercept=True) for name in ("audio", "visual")]
        assert found[f"logme_{level}"] == pytest.approx(logme(both, labels, intercept=True), abs=1e-9)
        assert found[f"h_score_{level}"] == pytest.approx(h_score(both, labels), abs=1e-9)
        assert found[f"logme_gain_{level}"] == pytest.approx(found[f"logme_{level}"] - max(alone), abs=1e-9)
    assert found["cka_seconds"] == pytest.approx(linear_cka(seconds["audio"], seconds["visual"]), abs=1e-9)
    flat = {name: [part[name].reshape(-1, part[name].shape[-1]) for part in (train, val)] for name in train}
    for name, (source, target) in flat.items():
        assert found[f"cos_psi_{name}"] == pytest.approx(cos_psi(source, target, batch=80, seed=3), abs=1e-9)
    drawn = estimators.draw(300, 200, 80, 3)[0]
    sizes = {name: np.sqrt((part[0][drawn] ** 2).sum()) for name, part in flat.items()}
    beside = [np.hstack([flat[name][side] / sizes[name] for name in flat]) for side in (0, 1)]
    assert found["cos_psi_concatenated"] == pytest.approx(cos_psi(*beside, batch=80, seed=3), abs=1e-9)


def test_summaries_are_shared_by_pairs_and_hold_three_slots() -> None:
    train, val, weak_train, weak_val, truth = scene(1, 1.0)
    made = {name: summarise(train[name], val[name], weak_train, weak_val, truth) for name in train}
    assert of_slots(made) == estimates(train, val, weak_train, weak_val, truth)
    more = {**made, "clip": summarise(train["audio"] ** 2, val["audio"] ** 2, weak_train, weak_val, truth)}
    found = values(of_slots(more, fused={"han": (train["audio"], val["audio"])}))
    assert {"cos_psi_clip", "cos_psi_fused_han"} <= set(found)
    assert found["cos_psi_fused_han"] == pytest.approx(found["cos_psi_audio"], abs=1e-9)
    pairs = [("audio", "visual"), ("audio", "clip"), ("visual", "clip")]
    each = [values(of_slots({name: more[name] for name in pair}))["cka_seconds"] for pair in pairs]
    assert found["cka_seconds"] == pytest.approx(np.mean(each))


def test_without_labels_of_seconds_there_are_no_estimates_from_them() -> None:
    train, val, weak_train, weak_val, _ = scene(2, 1.0)
    found = values(estimates(train, val, weak_train, weak_val))
    assert {name for name in found if name.endswith("seconds")} == {"cka_seconds"}
    assert {"logme_clips", "h_score_clips", "logme_gain_clips"} <= set(found)


def test_stronger_features_rank_above_weaker_ones() -> None:
    strengths = (0.0, 0.3, 0.7, 1.5)
    found = [[values(estimates(*scene(seed, s))) for s in strengths] for seed in range(8)]
    for name in ("logme_clips", "h_score_clips", "logme_seconds", "h_score_seconds", "cka_seconds"):
        table = np.array([[one[name] for one in row] for row in found])
        if name.endswith("clips"):  # 100 clips do not tell a strength of 0.3 from none every time
            table = table[:, 1:]
        assert (np.diff(table, axis=1) > 0).all(), (name, table)


def test_the_gain_is_that_of_a_second_modality() -> None:
    gains = [[values(estimates(*scene(s, 1.0, visual=v)))["logme_gain_seconds"] for v in (0.0, 1.0)] for s in range(8)]
    assert all(none < 0.01 < much for none, much in gains)


def test_a_wide_feature_is_brought_down_to_its_leading_components() -> None:
    train, val, weak_train, weak_val, truth = scene(3, 1.5, dims=(12, 400))
    narrow, wide = (
        {n: summarise(train[n], val[n], weak_train, weak_val, truth, components=c) for n in train} for c in (40, 400)
    )
    assert narrow["visual"].seconds.features.shape == (200, 40)
    assert wide["visual"].seconds.features.shape == (200, 400)
    kept = narrow["visual"].seconds.gram
    assert np.trace(kept) == pytest.approx(200)
    few_values, all_values = values(of_slots(narrow)), values(of_slots(wide))
    assert few_values["cos_psi_visual"] == all_values["cos_psi_visual"]
    # what is left out is mostly noise
    assert all_values["cka_seconds"] < few_values["cka_seconds"] < 2 * all_values["cka_seconds"]
    # fewer seconds than components and dimensions: axes through all of them, none of rounding
    axes = summary._axes(train["visual"].reshape(300, 400)[:30], 256, 0, "x").axes
    assert axes.shape == (400, 29)
    assert np.allclose(axes.T @ axes, np.eye(29), atol=1e-8)
    # and the same plane whichever side is smaller
    rows = normal(0, 50, 50)[:, :49] * np.arange(1, 50)
    tall, flat = (summary._axes(np.vstack([rows] * times), 5, 0, "x").axes for times in (2, 1))
    assert np.allclose(abs(tall.T @ flat), np.eye(5), atol=1e-6)


def test_numbers_that_never_change_change_nothing() -> None:
    train, val, *labels = scene(4, 1.0)
    still = [np.full((n, 5, 3), 0.1) for n in (60, 40)]
    still[0][..., 2], still[0][0, 0, 2] = 0, 1e-200  # its square is zero
    dead, dead_val = (
        {n: np.concatenate([part, more], axis=-1) for n, part in side.items()}
        for side, more in zip((train, val), still, strict=True)
    )
    plain, more = values(estimates(train, val, *labels)), values(estimates(dead, dead_val, *labels))
    for name, value in plain.items():
        if not name.startswith("cos_psi"):
            assert more[name] == pytest.approx(value, abs=1e-9), name


# ---- bad input -------------------------------------------------------------------------------------------------------

X, Y = normal(0, 20, 3), some_labels(0, 20)
NAN = np.where(np.arange(60).reshape(20, 3) == 7, np.nan, X)
STILL = np.full((20, 3), 0.1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cos_psi(X, X[:, :2]), "source has 3 numbers per row, target 2"),
        (lambda: cos_psi(X, X), "batch is 256; it must be from 1 to 20"),
        (lambda: cos_psi(X, X, batch=0), "batch is 0"),
        (lambda: cos_psi(NAN, X, batch=5), "source: 1 of 60 values are NaN or infinite"),
        (lambda: cos_psi(X, X * np.inf, batch=5), "target: 60 of 60 values"),
        (lambda: cos_psi(X, 0 * X, batch=5), "holds zeros only"),
        (lambda: logme(X[None], Y), r"features has shape \(1, 20, 3\)"),
        (lambda: logme(X[:, :0], Y), r"shape \(20, 0\)"),
        (lambda: logme(NAN, Y), "NaN"),
        (lambda: logme(0 * X, Y), "same in every row"),
        (lambda: logme(STILL, Y, intercept=True), "all 20 rows are equal"),
        (lambda: logme(X, Y[:5]), "must be .20, classes."),
        (lambda: logme(X, 2 * Y), "other than 0 and 1"),
        (lambda: logme(X, Y * np.nan), "other than 0 and 1"),
        (lambda: logme(X, np.ones_like(Y)), "each of the 3 classes is in none or in all"),
        (lambda: h_score(STILL, Y), "all 20 rows are equal"),
        (lambda: h_score(NAN, Y), "NaN"),
        (lambda: h_score(X, 0 * Y), "each of the 3 classes"),
        (lambda: linear_cka(X, X[:9]), "x has 20 rows, y 9"),
        (lambda: linear_cka(X, STILL), "y: all 20 rows are equal"),
        (lambda: linear_cka(NAN, X), "x: 1 of 60"),
        (lambda: linear_cka(X[:3], X[:3]), "3 rows are too few"),
        (lambda: linear_cka(X[:1], X[:1], debiased=False), "all 1 rows are equal"),
    ],
)
def test_estimators_refuse(call, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        call()


def test_summaries_and_pairs_refuse() -> None:
    train, val, weak_train, weak_val, truth = scene(5, 1.0)
    audio, other = (summarise(train[n], val[n], weak_train, weak_val, truth) for n in ("audio", "visual"))

    def refused(says: str, call) -> None:
        with pytest.raises(PlanError, match=says):
            call()

    one, two, nan = train["audio"], val["audio"], train["audio"].copy()
    nan[0, 0, 0] = np.nan
    for says, source, target, labels in (
        ("they must be .N, T, d.", one[0], two[0], truth),
        ("they must be .N, T, d.", one, two[:, :3], truth),
        ("x of train: 1 of", nan, two, truth),
        ("val has 9 clips", one, two[:9], truth),
        ("seconds drawn from train are equal", one * 0 + 1, two, truth),
        ("batch holds zeros only", one, two * 0, truth),
        ("x of val: all 200 rows are equal", one, two * 0 + 0.1, truth),
        ("heard has shape", one, two, (truth[0][:5], truth[1])),
    ):
        refused(says, lambda s=source, t=target, y=labels: summarise(s, t, weak_train, weak_val, y, what="x"))
    refused("components is 0", lambda: summarise(one, two, weak_train, weak_val, components=0))
    refused("must be .100, classes.", lambda: summarise(one, two, weak_train[:9], weak_val))
    refused("1 slots are given .audio.", lambda: of_slots({"audio": audio}))
    refused(
        "v was summarised with seed 1",
        lambda: of_slots({"a": audio, "v": summarise(one, two, weak_train, weak_val, seed=1)}),
    )
    refused(
        "other clips or labels", lambda: of_slots({"a": audio, "v": summarise(one, two, weak_train, ~weak_val, truth)})
    )
    refused("other clips or labels", lambda: of_slots({"a": audio, "v": summarise(one, two, weak_train, weak_val)}))
    refused("fused han has shapes", lambda: of_slots({"a": audio, "v": other}, {"han": (one[0], two[0])}))
    refused("train has the slots", lambda: estimates(train, {"audio": two}, weak_train, weak_val))
