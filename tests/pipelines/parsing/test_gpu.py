"""Training on a GPU: the same code, other bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.parsing.config import Config
from pipelines.parsing.run import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("augment", ["", "cross_instance"])
def test_without_dropout_a_gpu_learns_what_a_cpu_learns(
    config: Callable[..., Config], avvp_store: Path, tmp_path: Path, precision: str, augment: str
) -> None:
    given = replace(config(epochs=4, dropout=0.0), precision=precision, augment=augment, select="last")
    for device in ("cpu", "cuda"):
        run(given, avvp_store, tmp_path / device, device=device)
    one, other = (np.load(tmp_path / device / "predictions_test.npz")["frame"] for device in ("cpu", "cuda"))
    assert np.abs(one - other).max() < (0.02 if precision == "float32" else 0.2)
