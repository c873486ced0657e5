"""The same features on a GPU as on the CPU. Skips itself where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from extract import running
from extract.demo import make_demo
from extract.engine.base import Event
from extract.job import Choices, make_job
from extract.store.catalog import Store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def computed(folder: Path, name: str, device: str, precision: str = "float32") -> Store:
    choices = Choices(weights="random:0", backbones=("resnet18", "r2plus1d_18", "vggish"), precision=precision)
    job = make_job(folder / "demo.csv", choices, folder / name)
    events: list[Event] = []
    summary = running.run(job, running.Machine(devices=(device,)), on_event=events.append)
    assert (summary.complete, summary.failed) == (2, 0), events
    return Store(folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    make_demo(folder / "clips", folder / "demo.csv", clips=2, seconds=10, seed=0, progress=False)
    return folder


@pytest.mark.parametrize(("precision", "cosine"), [("float32", 0.999999), ("bfloat16", 0.999), ("float16", 0.9999)])
def test_rows_agree_with_the_cpu(folder: Path, precision: str, cosine: float) -> None:
    cpu, gpu = computed(folder, "cpu", "cpu"), computed(folder, f"cuda-{precision}", "cuda:0", precision)
    for info in cpu.keys():  # noqa: SIM118 - Store.keys gives KeyInfo
        name = info.key.split("@")[0]
        for clip in cpu.clips(name):
            a, b = (store[clip, name].reshape(len(store[clip, name]), -1).astype(np.float64) for store in (cpu, gpu))
            cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
            assert cosines.min() >= cosine, (clip, name)


def test_a_second_run_on_a_gpu_gives_the_same_bytes(folder: Path) -> None:
    assert computed(folder, "first", "cuda:0").digest() == computed(folder, "second", "cuda:0").digest()
