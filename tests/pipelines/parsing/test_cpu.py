"""The quicker library is taken for float32 products only where it keeps them in float32, and only for a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipelines.parsing import cpu

PRODUCTS = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def _tried_anew() -> Iterator[None]:
    cpu._onednn_is_exact.cache_clear()
    yield
    cpu._onednn_is_exact.cache_clear()


def test_products_stay_those_of_float32() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(320, 512), torch.randn(1536, 512)
    exact = one.double() @ other.double().T
    with cpu.quick("cpu"):
        assert (one @ other.T - exact).abs().max() < 1e-6 * 512


def test_where_products_would_be_rounded_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = PRODUCTS.fp32_precision

    def rounded(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        short = torch.bfloat16 if one.dtype == torch.float32 else one.dtype
        return torch.mm(one.to(short), other.to(short)).to(one.dtype)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    with cpu.quick("cpu"):
        assert PRODUCTS.fp32_precision == before


def test_afterwards_everything_is_as_before_also_after_an_error() -> None:
    before = PRODUCTS.fp32_precision, torch.utils.deterministic.fill_uninitialized_memory
    try:
        with cpu.quick("cpu"):
            inside = torch.utils.deterministic.fill_uninitialized_memory
            raise KeyError
    except KeyError:
        assert inside is False
    assert (PRODUCTS.fp32_precision, torch.utils.deterministic.fill_uninitialized_memory) == before


def test_other_devices_are_left_alone() -> None:
    before = PRODUCTS.fp32_precision, torch.utils.deterministic.fill_uninitialized_memory
    with cpu.quick("cuda"):
        assert (PRODUCTS.fp32_precision, torch.utils.deterministic.fill_uninitialized_memory) == before
