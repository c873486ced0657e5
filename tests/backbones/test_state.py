"""Every format a weight file comes in, and everything that may be wrong with one."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from backbones.layouts import Layout, by_layout
from backbones.state import fit, load_state
from extract.errors import LayoutMismatch, WeightsError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}


def same(state, expected=STATE) -> bool:
    return set(state) == set(expected) and all(torch.equal(torch.as_tensor(state[k]), expected[k]) for k in expected)


@pytest.mark.parametrize("suffix", ["pth", "pt", "pyth", "PTH"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_old_and_new(tmp_path, suffix, zipped):
    torch.save(STATE, tmp_path / f"w.{suffix}", _use_new_zipfile_serialization=zipped)
    assert same(load_state(tmp_path / f"w.{suffix}"))


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": STATE, "epoch": 3},
        {"model_state": STATE, "cfg": "a: 1"},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module.{key}": value for key, value in STATE.items()}},
        {key: value.numpy() for key, value in STATE.items()},
    ],
)
def test_wrapped_states(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert same(load_state(tmp_path / "w.pth"))


def test_arrays_hdf5_and_safetensors(tmp_path):
    arrays = {"net/conv/weights": np.arange(6.0).reshape(2, 3), "net/conv/biases": np.array([1, 2], np.int64)}
    expected = {key: torch.from_numpy(value) for key, value in arrays.items()}
    np.savez(tmp_path / "w.npz", **arrays)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for key, value in arrays.items():
            file[key] = value
        file["a_text"] = "ignored"
    save_file(expected, tmp_path / "w.safetensors")
    for name in ("w.npz", "w.h5", "w.safetensors"):
        assert same(load_state(tmp_path / name), expected), name


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_bomb_does_not_go_off(tmp_path, zipped):
    torch.save({"a": Bomb(tmp_path / "crater")}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="holds Python objects besides tensors and was not opened any further"):
        load_state(tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", a=np.array([Bomb(tmp_path / "crater")], dtype=object))
    with pytest.raises(WeightsError, match=r"is no \.npz of plain arrays"):
        load_state(tmp_path / "w.npz")
    assert not (tmp_path / "crater").exists()


@pytest.mark.parametrize("kind", ["zip.pth", "legacy.pth", "w.npz", "w.h5", "w.safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_truncated_files(tmp_path, kind, keep):
    path = tmp_path / kind
    big = {"a.weight": torch.arange(60_000.0)}
    if kind.endswith("pth"):
        torch.save(big, path, _use_new_zipfile_serialization=kind == "zip.pth")
    elif kind == "w.npz":
        np.savez(path, **{key: value.numpy() for key, value in big.items()})
    elif kind == "w.h5":
        with h5py.File(path, "w") as file:
            file["a"] = big["a.weight"].numpy()
    else:
        save_file(big, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(WeightsError, match=str(path)):
        load_state(path)


def test_an_hdf5_file_that_points_at_others(tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"secret" * 10)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("a", (10,), "u1", external=[(str(tmp_path / "secret.bin"), 0, 10)])
    with pytest.raises(WeightsError, match="keeps its data in other files, which are not opened"):
        load_state(tmp_path / "w.h5")


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {}, torch.zeros(3)])
def test_what_holds_no_tensors_by_name(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(LayoutMismatch, match="not tensors by name"):
        load_state(tmp_path / "w.pth")


# ---- gzip ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip.pth", "legacy.pth", "script.pt", "w.npz", "w.h5", "w.safetensors"])
def test_gzip_of_every_kind(tmp_path, kind):
    path = tmp_path / kind
    if kind == "script.pt":
        torch.jit.script(nn.BatchNorm1d(3)).save(path)
    elif kind.endswith("pth"):
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip.pth")
    elif kind == "w.npz":
        np.savez(path, **{key: value.numpy() for key, value in STATE.items()})
    elif kind == "w.h5":
        with h5py.File(path, "w") as file:
            for key, value in STATE.items():
                file[key] = value.numpy()
    else:
        save_file(STATE, path)
    packed = tmp_path / f"{kind}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert same(load_state(packed), load_state(path))


def test_a_damaged_or_huge_gzip(tmp_path, monkeypatch):
    path = tmp_path / "w.npz.gz"
    np.savez(tmp_path / "w.npz", a=np.zeros(1000))
    whole = gzip.compress((tmp_path / "w.npz").read_bytes())
    for content in (whole[:50], b"not gzip", whole[:-8] + bytes(8)):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"w\.npz\.gz is no gzip file, or is damaged"):
            load_state(path)
    path.write_bytes(whole)
    monkeypatch.setattr("backbones.state.GZIP_LIMIT_BYTES", 8000)
    with pytest.raises(WeightsError, match="unpacks to more than"):
        load_state(path)
    (tmp_path / "w.txt.gz").write_bytes(whole)
    with pytest.raises(WeightsError, match=r"kind '\.txt' are not read"):
        load_state(tmp_path / "w.txt.gz")


def test_unknown_kinds(tmp_path):
    with pytest.raises(WeightsError, match=r"weight files of kind '\.ckpt' are not read; known: \.pth, \.pt"):
        load_state(tmp_path / "w.ckpt")


def test_fit_is_strict_but_for_the_counters():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    state = {key: torch.ones_like(value) for key, value in module.state_dict().items()}
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    fit(module, old, "w.pth")
    assert torch.equal(module[1].running_mean, torch.ones(2))
    with pytest.raises(LayoutMismatch, match=r"w\.pth does not fit: 1 missing: 0\.bias$"):
        fit(module, {key: value for key, value in state.items() if key != "0.bias"}, "w.pth")
    more = {f"x{place}": torch.zeros(1) for place in range(5)}
    with pytest.raises(LayoutMismatch, match=r"5 unknown: x0, x1, x2, …$"):
        fit(module, state | more, "w.pth")
    with pytest.raises(LayoutMismatch, match=r"1 of another shape: 0\.weight \(3, 2\) instead of \(2, 3\)$"):
        fit(module, state | {"0.weight": torch.zeros(3, 2)}, "w.pth")


def test_layouts_are_told_apart_by_their_mark():
    layouts = (Layout("one", "a", lambda state: {"x": state["a"]}), Layout("two", "b", lambda state: {"x": state["b"]}))
    assert by_layout({"b": torch.tensor(2)}, layouts)["x"] == 2
    with pytest.raises(
        LayoutMismatch, match=r"layout of one \(with the key a\) or two \(with the key b\); the file's keys are c, d$"
    ):
        by_layout({"d": torch.tensor(1), "c": torch.tensor(1)}, layouts)
