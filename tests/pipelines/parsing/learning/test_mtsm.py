"""MTSM against its equations read literally, pair by pair."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extract.errors import PlanError, UnknownName
from pipelines.parsing.learning.mtsm import Mtsm, mtsm_loss

CHOICES = list(itertools.product(("one", "mask", "plus_one"), ("f", "z"), ("audio", "visual", "mean")))


def streams(seed: int, clips: int = 2, seconds: int = 4, width: int = 6) -> tuple[Tensor, Tensor]:
    z, f = torch.randn(2, clips, seconds, 2, width, generator=torch.Generator().manual_seed(seed))
    return z.requires_grad_(), f.requires_grad_()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y) / (x.norm() * y.norm())


def nearness(i: int, j: int, options: Mtsm) -> float | None:
    if options.diag == "plus_one":
        return float((1 + abs(i - j)) ** -options.t_exp)
    if i == j:
        return 1.0 if options.diag == "one" else None
    return float(abs(i - j) ** -options.t_exp)


def literal_l1(z: Tensor, options: Mtsm) -> Tensor:
    firsts = {"audio": [0], "visual": [1], "mean": [0, 1]}[options.first]
    means = []
    for first in firsts:
        for clip in z:
            gaps = []
            for j in range(len(clip)):
                for i in range(len(clip)):
                    near = nearness(i, j, options)
                    if near is None:
                        continue
                    margin = near * cosine(clip[i, first], clip[j, first]).detach()
                    gaps.append((-cosine(clip[i, first], clip[j, 1 - first]) + margin).abs())
            means.append(sum(gaps) / len(gaps))
    return torch.as_tensor(sum(means) / len(means))


def literal_l2(z: Tensor, f: Tensor, options: Mtsm) -> Tensor:
    total = torch.zeros(())
    for own, fused in zip(z, f, strict=True):
        for n in (0, 1):
            for j in range(len(own)):
                for i in range(len(own)):
                    left, right = cosine(own[i, n], own[j, n]), cosine(fused[i, n], fused[j, n])
                    left, right = (left, right.detach()) if options.l2_detach == "f" else (left.detach(), right)
                    total = total + (-left + right).abs() / (len(own) ** 2 * len(z))
    return total


@pytest.mark.parametrize("seconds", [2, 3, 7])
@pytest.mark.parametrize(("diag", "l2_detach", "first"), CHOICES)
def test_values_and_gradients_are_those_of_the_equations(diag: Any, l2_detach: Any, first: Any, seconds: int) -> None:
    options = Mtsm(diag=diag, l2_detach=l2_detach, first=first, t_exp=1.5, weight=0.5, l2_weight=3.0)
    z, f = streams(seconds, seconds=seconds)
    parts = mtsm_loss(z, f, options)
    expected = {"l1": 0.5 * literal_l1(z, options), "l2": 1.5 * literal_l2(z, f, options)}
    assert list(parts) == ["l1", "l2"]
    for name, part in parts.items():
        torch.testing.assert_close(part, expected[name], rtol=1e-5, atol=1e-6)
        ours, literal = (
            torch.autograd.grad(value, (z, f), retain_graph=True, allow_unused=True) for value in (part, expected[name])
        )
        for mine, its in zip(ours, literal, strict=True):
            assert (mine is None) == (its is None)
            if mine is not None:
                torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)


def still(seconds: int, *directions: tuple[float, ...]) -> Tensor:
    """(1, T, 2, d): each modality always points one way."""
    return torch.tensor([[directions]]).expand(1, seconds, 2, len(directions[0])).contiguous()


@pytest.mark.parametrize(
    ("diag", "l1"),
    [
        ("one", (3 * 1 + 4 * 1 + 2 / 8) / 9),
        ("mask", (4 * 1 + 2 / 8) / 6),
        ("plus_one", (3 * 1 + 4 / 8 + 2 / 27) / 9),
    ],
)
def test_time_lags_by_hand(diag: Any, l1: float) -> None:
    z = still(3, (1.0, 0.0), (0.0, 2.0))
    assert mtsm_loss(z, z, Mtsm(diag=diag))["l1"].item() == pytest.approx(l1, rel=1e-6)


def test_a_pair_of_one_second_is_drawn_together() -> None:
    z = still(1, (1.0, 0.0), (1.0, 1.0)).requires_grad_()
    loss = mtsm_loss(z, z, Mtsm(terms=("l1",)))["l1"]
    assert loss.item() == pytest.approx(1 - 0.5**0.5, rel=1e-6)
    loss.backward()
    assert z.grad is not None
    assert z.grad[0, 0, 0, 1] < 0
    assert z.grad[0, 0, 1, 0] < 0


def test_l2_by_hand() -> None:
    z = still(3, (1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    f = z.clone()
    f[0, :, 0] = torch.eye(3)
    assert mtsm_loss(z, f, Mtsm())["l2"].item() == pytest.approx(6 / 9)
    f[0, :, 1] = -torch.eye(3)
    assert mtsm_loss(z, f, Mtsm())["l2"].item() == pytest.approx(12 / 9)


@pytest.mark.parametrize(("l2_detach", "reached"), [("f", "z"), ("z", "f")])
def test_l2_moves_one_side_only(l2_detach: Any, reached: str) -> None:
    z, f = streams(0)
    mtsm_loss(z, f, Mtsm(l2_detach=l2_detach, terms=("l2",)))["l2"].backward()
    moved = {name for name, side in (("z", z), ("f", f)) if side.grad is not None and side.grad.abs().max() > 1e-4}
    assert moved == {reached}


def test_the_target_of_l1_is_not_moved_by_it() -> None:
    z, f = streams(1, clips=1, seconds=2, width=3)
    mtsm_loss(z, f, Mtsm(terms=("l1",)))["l1"].backward()
    margins = z.detach()[0, :, 0] / z.detach()[0, :, 0].norm(dim=1, keepdim=True)
    margins = margins @ margins.T
    again = z.detach().clone().requires_grad_()
    units = again[0] / again[0].norm(dim=2, keepdim=True)
    (margins - units[:, 0] @ units[:, 1].T).abs().mean().backward()
    torch.testing.assert_close(z.grad, again.grad)


def test_modes_can_change_places() -> None:
    z, f = streams(2)
    turned = z.flip(2)
    both = mtsm_loss(z, f, Mtsm(first="mean"))["l1"]
    torch.testing.assert_close(both, mtsm_loss(turned, f, Mtsm(first="mean"))["l1"])
    by_audio, by_visual = (mtsm_loss(z, f, Mtsm(first=first))["l1"] for first in ("audio", "visual"))  # type: ignore[arg-type]
    assert by_audio != by_visual
    torch.testing.assert_close(both, (by_audio + by_visual) / 2)
    torch.testing.assert_close(by_visual, mtsm_loss(turned, f, Mtsm(first="audio"))["l1"])


def test_weights_and_terms() -> None:
    z, f = streams(3)
    whole = mtsm_loss(z, f, Mtsm())
    weighed = mtsm_loss(z, f, Mtsm(weight=2.0, l2_weight=0.25))
    torch.testing.assert_close(weighed["l1"], 2 * whole["l1"])
    torch.testing.assert_close(weighed["l2"], whole["l2"] / 2)
    assert mtsm_loss(z, f, Mtsm(terms=("l2",))) == {"l2": whole["l2"]}
    assert list(mtsm_loss(z, f, Mtsm(terms=("l1",)))) == ["l1"]


def test_float32_under_autocast() -> None:
    z, f = streams(4, seconds=20, width=64)
    plain = mtsm_loss(z, f, Mtsm())
    with torch.autocast("cpu", torch.bfloat16):
        cast = mtsm_loss(z, f, Mtsm())
    assert all(cast[name].dtype == torch.float32 and torch.equal(cast[name], plain[name]) for name in plain)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 12), st.sampled_from(CHOICES), st.floats(0, 5), st.floats(0.1, 9)
)  # fmt: skip
def test_bounds_and_what_length_of_a_stream_does_not_matter_to(
    seed: int, clips: int, seconds: int, choice: Any, t_exp: float, scale: float
) -> None:
    options = Mtsm(diag=choice[0], l2_detach=choice[1], first=choice[2], t_exp=t_exp)
    z, f = streams(seed, clips, seconds)
    parts = mtsm_loss(z, f, options)
    assert 0 <= parts["l1"] <= 2 + 1e-6
    assert 0 <= parts["l2"] <= 4 + 1e-6
    longer = mtsm_loss(scale * z, f * torch.linspace(0.1, scale, seconds)[None, :, None, None], options)
    for name in parts:
        torch.testing.assert_close(longer[name], parts[name], rtol=1e-3, atol=1e-5)
    assert mtsm_loss(z, z * scale, options)["l2"].item() == pytest.approx(0, abs=1e-6)
    alike = z[:, :1, :1].expand(-1, seconds, 2, -1)
    assert mtsm_loss(alike, f, replace(options, t_exp=0.0))["l1"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"diag": "plusone"}, r"mtsm\.diag.*did you mean plus_one"),
        ({"l2_detach": "none"}, r"mtsm\.l2_detach"),
        ({"first": "sound"}, r"mtsm\.first.*known: audio, mean, visual"),
        ({"terms": ("l3",)}, "term of mtsm"),
    ],
)
def test_unknown_choices(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        Mtsm(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"terms": ()}, "once each; got none"),
        ({"terms": ("l1", "l1")}, "once each; got l1\\+l1"),
        ({"t_exp": -1.0}, r"mtsm\.t_exp .* at least 0, got -1"),
        ({"weight": float("nan")}, r"mtsm\.weight .* got nan"),
        ({"l2_weight": float("inf")}, r"mtsm\.l2_weight .* got inf"),
    ],
)
def test_numbers_out_of_range(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        Mtsm(**wrong)


def test_streams_it_cannot_take() -> None:
    z, f = streams(5)
    with pytest.raises(PlanError, match=r"\(B, T, 2, d\), got \(2, 4, 6\)"):
        mtsm_loss(z[:, :, 0], f, Mtsm())
    with pytest.raises(PlanError, match=r"got \(2, 4, 2, 6\) and \(2, 3, 2, 6\)"):
        mtsm_loss(z, f[:, 1:], Mtsm())
    with pytest.raises(PlanError, match="diag mask compares different seconds"):
        mtsm_loss(z[:, :1], f[:, :1], Mtsm(diag="mask"))
