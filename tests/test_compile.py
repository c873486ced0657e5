"""--compile: which networks, and that their rows stay what they were."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from backbones import registry
from extract import api, rates
from extract.chunk import Chunk, Todo
from extract.errors import PlanError
from extract.grid import Grid
from extract.job import Choices
from extract.lane import compiled
from extract.plan import Feature, Plan
from extract.running import Machine, worth_compiling
from manifests.clip import Clip


def plan_of(*names: str) -> Plan:
    return Plan(
        "test", tuple(Feature(registry.get(n), registry.get(n).views, Grid(count=10), "random:0") for n in names)
    )


def chunks_of(plan: Plan, clips: int) -> list[Chunk]:
    return [Chunk("0", tuple(Todo(Clip(f"c{i}", f"{i}.mp4", 0, None), "", plan.keys) for i in range(clips)))]


@pytest.fixture
def one_gmac_per_s(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rates.remember(rates.Rate(1.0))


def test_off_and_on_mean_what_they_say():
    plan = plan_of("resnet18", "vggish")
    assert worth_compiling(Machine(), plan, chunks_of(plan, 2000)) == ()
    assert worth_compiling(Machine(compile="on"), plan, chunks_of(plan, 1)) == plan.keys


@pytest.mark.usefixtures("one_gmac_per_s")
def test_auto_compiles_what_takes_long_enough_to_pay():
    plan = plan_of("resnet18", "vggish")
    few, some, many = (worth_compiling(Machine(compile="auto"), plan, chunks_of(plan, n)) for n in (5, 80, 500))
    # ten rows of 1.81 and 0.864 GMAC per clip, at one GMAC per second: a twentieth must come to more than a minute
    assert few == ()
    assert some == plan.keys[:1]
    assert many == plan.keys


def test_auto_compiles_nothing_on_a_machine_of_unknown_speed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = plan_of("resnet18")
    assert worth_compiling(Machine(compile="auto"), plan, chunks_of(plan, 2000)) == ()


def test_without_a_compiler_the_user_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(PlanError, match=r"needs a C\+\+ compiler"):
        compiled.compiled(None, "cpu")


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_compiled_run_gives_the_same_rows_but_for_rounding(media, way, tmp_path):
    rows = []
    for compile_ in ("off", "on"):
        store = tmp_path / compile_
        choices = Choices(recipe="per-second", backbones=("tiny_frames",), weights="random:0")
        api.run(way.manifest(tmp_path / "m.csv", media, ["c00"]), choices, Machine(compile=compile_), store)
        with h5py.File(next((store / "parts").glob("*.h5"))) as part:
            key = next(name for name in part if name.startswith("tiny_frames@"))
            rows.append(part[key]["data"][:])
    assert np.abs(rows[0]).max() > 0
    assert np.abs(rows[0] - rows[1]).max() <= 1e-5 * np.abs(rows[0]).max()
