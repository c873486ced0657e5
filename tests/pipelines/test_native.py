"""Rows at any hop: the recipe `native`, and what `--hop` does to recipes that allow it."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from backbones import registry as zoo
from extract import api
from extract.decode.clip import decode
from extract.decode.events import Block
from extract.errors import PlanError
from extract.grid import NS
from extract.job import Choices
from extract.plan import Limits
from extract.prepare import log_mel
from extract.recipes import get, make_plan, recipes
from extract.running import Machine
from extract.store.catalog import Store

VARIANTS = ("vggish", "vggish_preact", "vggish_pca8", "vggish_pca8_nearest")


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "vggish.npz", allow_pickle=False) as file:
        return {key: file[key] for key in ("wav_int16", "log_mel", "examples")}


@pytest.mark.parametrize("samples", [48_000, 46_320, 46_319, 31_000])
def test_vggish_rows_are_the_stock_examples(arrays: dict[str, np.ndarray], samples: int, tmp_path: Path) -> None:
    """From the wav to the log-mel: row k is frames 96 k to 96 k + 96 of the sound's spectrogram, and no row more is valid."""
    import torch

    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(arrays["wav_int16"][:samples].tobytes())
    (feature,) = make_plan(get("native"), backbones=["vggish"], weights="random:0").features
    assert (feature.grid.window_ns, feature.grid.hop_ns, feature.grid.count) == (NS, 960_000_000, None)
    taps = make_plan(get("native"), backbones=["vggish"], weights="random:0").taps([feature.key])
    blocks = [event for event in decode(str(path), 0, None, taps, Limits()) if isinstance(event, Block)]
    rows, valid = np.concatenate([b.data for b in blocks]), np.concatenate([b.valid for b in blocks])
    stock = (1 + (samples - 400) // 160) // 96
    assert valid.tolist() == [1] * stock + [0] * (len(valid) - stock)
    got = log_mel(torch.from_numpy(rows[:stock]), taps[0].view).numpy()  # type: ignore[arg-type]
    assert np.abs(got - arrays["examples"][:stock]).max() <= 5e-5
    for k in range(stock):
        assert np.abs(got[k] - arrays["log_mel"][96 * k : 96 * k + 96]).max() <= 5e-5


def test_every_network_at_its_own_window_and_hop() -> None:
    for name in zoo.names():
        backbone = zoo.get(name)
        views, grid = get("native").column(backbone)
        assert views == backbone.views
        assert grid.window_ns == round(backbone.window_s * NS)
        assert grid.hop_ns == round((backbone.hop_s or backbone.window_s) * NS)
        assert (grid.count, grid.sampling, grid.short) == (None, "centered", "zeros")
    assert {get("native").column(zoo.get(name))[1].hop_ns for name in VARIANTS} == {960_000_000}
    assert {get("per-second").column(zoo.get(name))[1].hop_ns for name in VARIANTS} == {NS}


def test_a_hop_moves_rows_and_changes_keys() -> None:
    plain = make_plan(get("per-second"), backbones=VARIANTS, weights="random:0")
    moved = make_plan(get("per-second"), backbones=VARIANTS, weights="random:0", hop_ns=100_000_000)
    for before, after in zip(plain.features, moved.features, strict=True):
        assert after.grid == replace(before.grid, hop_ns=100_000_000)
        assert after.key != before.key
    assert moved.features[0].grid.windows_ns(3 * NS)[:, 0].tolist() == [k * 100_000_000 for k in range(21)]
    same = make_plan(get("per-second"), backbones=VARIANTS, weights="random:0", hop_ns=NS)
    assert same.keys == plain.keys, "the hop it has anyway"
    native = make_plan(get("native"), backbones=["vggish"], weights="random:0", hop_ns=NS)
    assert native.keys == plain.keys[:1], "the same rows under whatever name"


def test_other_recipes_fix_their_rows() -> None:
    assert {recipe.name for recipe in recipes() if recipe.free} == {"native", "per-second"}
    for recipe in recipes():
        if not recipe.free:
            with pytest.raises(PlanError, match=f"the recipe {recipe.name} fixes where its rows lie, so --hop cannot"):
                make_plan(recipe, weights="random:0", hop_ns=NS)


@pytest.mark.usefixtures("tiny")
def test_the_hop_of_the_command_line(
    way: ModuleType, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c01"])
    base = (str(listed), "--recipe", "per-second", "--backbones", "tiny_sound", "--weights", "random:0")

    def plan(*more: str) -> tuple[int, str]:
        done = way.invoke(capsys, monkeypatch, "plan", *base, *more)
        return done.returncode, done.stdout + done.stderr

    assert "a row every 0.1 s of 1 s" in plan("--hop", "0.1")[1]
    for text, said in (
        ("x", "'x' is not a number of seconds"),
        ("-1", "'-1' is negative"),
        ("0", "--hop 0 is too short: rows lie at least 0.001 s apart"),
        ("0.0000000001", "has 10 places, finer than a nanosecond"),
    ):
        code, out = plan("--hop", text)
        assert code == 2
        assert said in out
    code, out = plan("--recipe", "llp", "--hop", "1")
    assert code == 2
    assert "the recipe llp fixes where its rows lie" in out


@pytest.mark.usefixtures("tiny")
def test_rows_at_a_hop_are_those_of_the_same_windows(way: ModuleType, media: Path, tmp_path: Path) -> None:
    """Every fourth row at a hop of 0.25 s is a row of the plain run, bit for bit; a rerun finds both."""
    listed = way.manifest(tmp_path / "m.csv", media, ["c01"])  # three seconds
    choices = Choices(recipe="per-second", backbones=("tiny_sound", "tiny_frames"), weights="random:0")
    machine = Machine(torch_threads=1)
    api.run(listed, choices, machine, tmp_path / "s")
    api.run(listed, replace(choices, hop_ns=250_000_000), machine, tmp_path / "s")
    store = Store(tmp_path / "s")
    infos = store.keys()
    assert len(infos) == 4
    for name in choices.backbones:
        named = [info.key for info in infos if info.key.startswith(name)]
        keys = {len(store.rows("c01", key).data): key for key in named}
        assert set(keys) == {3, 9}
        plain, fine = (store.rows("c01", keys[count]) for count in (3, 9))
        assert np.array_equal(fine.data[::4], plain.data)
        assert fine.window_ns[:, 0].tolist() == [k * NS // 4 for k in range(9)]
        assert fine.valid.all()
