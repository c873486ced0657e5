"""A tiny network with published files, a clean cache folder, and a registry that forgets what a test put into it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from backbones import registry
from backbones.spec import Backbone, Frames, Weights


class Tiny(nn.Module):
    """The mean colour of a window through one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.fc(frames.mean((1, 3, 4)))


TINY = Backbone(
    name="tiny", view=Frames(2, (8, 8), None), dims=(4,), build=Tiny, weights=(), batch=8, params=16, gmacs=1e-6
)


@pytest.fixture
def tiny() -> Backbone:
    return TINY


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees, or fills, the weights of the person who runs it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EXTRACT_WEIGHTS", str(folder))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("EXTRACT_PLUGINS", raising=False)
    return folder


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Backbone, str]]:
    registry.names()
    monkeypatch.setattr(registry, "_zoo", dict(registry._zoo))
    monkeypatch.setattr(registry, "_state", dict(registry._state))
    return registry._zoo


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., tuple[Backbone, Path]]:
    """Make `tiny` with files: each name is an entry of its own, or a tuple of publications of the same content."""

    def make(*entries: str | tuple[str, ...], digest: int = 64, mirrors: tuple[str, ...] = ()) -> tuple[Backbone, Path]:
        folder = tmp_path / "files"
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        states = [{"fc.weight": torch.randn(4, 3)}, {"fc.bias": torch.randn(4)}]
        if len(entries) == 1:
            states = [states[0] | states[1]]
        weights = []
        for state, entry in zip(states, entries, strict=True):
            same = []
            for place, name in enumerate((entry,) if isinstance(entry, str) else entry):
                path = folder / name
                torch.save(state, path, _use_new_zipfile_serialization=place == 0)
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()[:digest] or None
                same.append(Weights(f"http://127.0.0.1:9/{name}", sha256, "MIT", mirrors=mirrors))
            weights.append(tuple(same))
        return replace(TINY, weights=tuple(weights)), folder

    return make
