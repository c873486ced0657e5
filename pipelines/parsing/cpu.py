"""What training on a processor is told while it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from extract.lane.memory import keep_freed_memory

_ROUNDING = 1e-6
"""As a share of the product of the norms: float32 products of 512 numbers are off by 2e-7, bfloat16's by 7e-4."""


@contextmanager
def quick(device: str) -> Iterator[None]:
    """Algorithms that give the same bits again, freed memory kept for the next step (ADR 14), nothing written into memory
    that is about to be overwritten, and the quicker of two libraries for float32 products; afterwards all is as before.

    Numbers stay those of float32 products, up to the order of sums. On other devices than ``cpu``, nothing is done.
    """
    if device != "cpu":
        yield
        return
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    filling: Any = torch.utils.deterministic
    before = products.fp32_precision, filling.fill_uninitialized_memory
    same = torch.are_deterministic_algorithms_enabled()
    keep_freed_memory()
    torch.use_deterministic_algorithms(True)
    # deterministic mode fills fresh memory, so that reading it too early would show
    filling.fill_uninitialized_memory = False
    if _onednn_is_exact():
        products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision, filling.fill_uninitialized_memory = before
        torch.use_deterministic_algorithms(same)


@cache
def _onednn_is_exact() -> bool:
    """Whether oneDNN makes float32 products in float32 when it need not.

    torch 2.11 gives them to MKL, which on AMD leaves half of AVX-512 unused (110 of 240 GFLOP/s on a core of Zen 5), unless
    they may be rounded to bfloat16. Then oneDNN makes them, and it does round where the processor has AMX: so one is tried.
    """
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        numbers = torch.arange(512 * 512, dtype=torch.float64).reshape(512, 512)
        one, other = numbers.sin().float(), numbers.cos().float()
        exact = one.double() @ other.double()
        scale = one.double().norm(dim=1)[:, None] * other.double().norm(dim=0)
        return float(((one @ other - exact) / scale).abs().max()) <= _ROUNDING
    finally:
        products.fp32_precision = before
