"""The conformance test must fail for networks that break a promise, and known answers must be held against official weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from backbones import registry, testing
from backbones.known import ANSWERS, SINE_1KHZ, Answer
from backbones.sources import Source
from backbones.spec import Frames, LogMel, Sound

RANDOM = Source("random", seed=0)


class Odd(nn.Module):
    """A network with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.fault = fault
        self.calls = 0

    def forward(self, frames):
        self.calls += 1
        out = self.fc(frames.mean((1, 3, 4)))
        return {
            "fine": lambda: out,
            "shape": lambda: out[:, :3],
            "dtype": out.double,
            "deterministic": lambda: out + self.calls,
            "neighbours": lambda: out - out.mean(0),
            "place": lambda: out + torch.arange(len(out))[:, None],
            "blank": lambda: out / frames.sub(frames[..., :1, :1]).abs().mean((1, 2, 3, 4))[:, None],
        }[self.fault]()


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ("fine", None),
        ("shape", "shape"),
        ("dtype", "shape"),
        ("deterministic", "deterministic"),
        ("neighbours", "neighbours"),
        ("place", "neighbours"),
        ("blank", "blank"),
    ],
)
def test_faults_are_found(zoo, tiny, fault, failed):
    registry.register(replace(tiny, name="odd", build=lambda: Odd(fault)))
    bad = {result.name for result in testing.check("odd", RANDOM) if result.passed is False}
    assert (failed in bad) if failed else not bad


def test_a_wrong_number_of_parameters(zoo, tiny):
    registry.register(replace(tiny, name="odd", params=17))
    (result,) = [result for result in testing.check("odd", RANDOM) if result.passed is False]
    assert result.detail == "16, declared 17"


def test_several_views_and_waveforms(zoo, tiny):
    class Joint(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, frames, sound):
            return self.fc(torch.cat([frames.mean((1, 3, 4)), sound.mean(1, keepdim=True)], 1))

    views = (Frames(2, (8, 8), None), Sound(100, 50))
    registry.register(replace(tiny, name="joint", view=views, build=Joint, dims=(2,), params=10))
    results = testing.check("joint", RANDOM, batch=3)
    assert [result.passed for result in results] == [True] * 7 + [None]
    assert registry.get("joint").modality == "audio-visual"


@pytest.mark.parametrize(("log", "level"), [("ln", np.log(0.5)), ("db", 0.0), ("db_abs", 10 * np.log10(0.5))])
def test_silence_as_a_spectrogram(log, level):
    view = Sound(100, 50, LogMel(16, 16, 8, 4, 0.0, 50.0, log=log, offset=0.5))
    assert np.allclose(testing._blank(view), level)


class Silent(nn.Module):
    """Gives the known answer for silence, plus an offset."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.tensor(ANSWERS["vggish_silence"].row))
        self.off = off

    def forward(self, log_mel):
        assert torch.allclose(log_mel[0], torch.tensor(0.01).log())
        return self.row.expand(len(log_mel), -1) + self.off


@pytest.mark.parametrize(("off", "passed"), [(0.0, True), (5e-5, True), (2e-4, False)])
def test_the_known_answer_is_held_against_official_weights(zoo, monkeypatch, off, passed):
    vggish = registry.get("vggish")
    monkeypatch.setattr(testing.weights, "materialise", lambda *_args, **_kwargs: Silent(off))
    monkeypatch.setattr(testing, "_drawn", lambda view, rows, _place: np.stack([testing._blank(view)] * rows))
    registry.register(replace(vggish, name="silent", params=128))
    result = testing.check("silent", Source("official"))[-1]
    assert result.name == "known answer"
    assert result.passed is passed


def test_known_answers_need_official_weights():
    result = testing.check("vggish", RANDOM, batch=1)[-1]
    assert (result.passed, result.detail) == (None, "needs the official weights; these are random:0")


def test_the_silence_vector_is_the_one_found_in_the_released_features(shared):
    official = np.load(shared / "data" / "derived" / "vggish_silence_128.npy", allow_pickle=False)[0]
    row = np.array(ANSWERS["vggish_silence"].row)
    assert np.abs(row - official).max() < 1e-7
    assert (row >= 0).all()
    assert abs(np.linalg.norm(row) - 2.1915755) < 1e-6


def test_statistics_as_known_answers():
    row = np.array([1.0, 3.0])
    assert testing.compare("x", Answer("sine", "me", 0.1, mean=2.1, std=1.0), row).passed
    assert not testing.compare("x", Answer("sine", "me", 0.1, mean=3.0, std=1.0), row).passed
    assert not testing.compare("x", Answer("sine", "me", 0.1, std=2.0), row).passed
    assert len(SINE_1KHZ) == 64
