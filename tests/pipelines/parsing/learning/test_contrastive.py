"""The contrastive loss between two streams against its definition, second by second."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from extract.errors import PlanError
from pipelines.parsing.learning.contrastive import nce_loss


def test_the_contrastive_loss_equals_its_definition_second_by_second() -> None:
    first, second = torch.randn(2, 3, 6, 5, generator=torch.manual_seed(0)).double()
    total = 0.0
    for a, v in zip(first.numpy(), second.numpy(), strict=True):
        for t in range(6):
            cosine = [a[t] @ row / np.linalg.norm(a[t]) / np.linalg.norm(row) for row in v]
            p = np.exp(np.array(cosine) / 0.3)
            q = np.where(np.arange(6) == t, 0.8, 0.2 / 5)
            total -= math.log(q @ p / p.sum())
    found = nce_loss(first, second, temperature=0.3, smoothing=0.2)
    assert float(found) == pytest.approx(total / 18, rel=1e-12)
    assert float(nce_loss(second, first, temperature=0.3, smoothing=0.2)) != pytest.approx(total / 18, rel=1e-4)


def test_the_contrastive_loss_is_least_where_seconds_find_their_own() -> None:
    apart = torch.eye(4)[None]
    assert float(nce_loss(apart, apart, temperature=0.01)) == pytest.approx(-math.log(0.9), abs=1e-6)
    assert float(nce_loss(apart, apart.flip(1), temperature=0.01)) == pytest.approx(-math.log(0.1 / 3), abs=1e-5)
    assert math.isfinite(float(nce_loss(apart, apart.flip(1), temperature=0.001, smoothing=0.0)))


def test_the_contrastive_loss_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(PlanError, match="at least 2"):
        nce_loss(torch.ones(2, 1, 3), torch.ones(2, 1, 3))
    with pytest.raises(PlanError, match="one shape"):
        nce_loss(torch.ones(2, 4, 3), torch.ones(2, 5, 3))
