"""Copies of converted weights: never anything else than what the conversion gives, and never needed."""

from __future__ import annotations

import gzip
import hashlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from backbones import converted, weights
from backbones.layouts import Layout, by_layout
from backbones.sources import Source
from backbones.spec import Backbone, Weights
from extract.errors import LayoutMismatch

KERNEL = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")


def turned(states):
    """From the matrices of TensorFlow, in, out; counts how often it is asked."""
    turned.calls += 1
    return by_layout(states[0], (Layout("TF", "fc/w", lambda s: {"fc.weight": s["fc/w"].T, "fc.bias": s["fc/b"]}),))


def as_ours(function: Callable) -> Callable:
    """As if it were of this package: conversions of plug-ins are done each time."""
    function.__module__ = "backbones.conftest"
    return function


as_ours(turned)


@pytest.fixture
def source(tiny: Backbone, tmp_path: Path) -> Callable[[str], tuple[Backbone, Source]]:
    """`tiny` with weights in a file of that name."""
    turned.calls = 0

    def make(name: str, scale: float = 1.0) -> tuple[Backbone, Source]:
        path = tmp_path / name.removesuffix(".gz")
        arrays = {"fc/w": KERNEL * np.float32(scale), "fc/b": np.arange(4, dtype="f4")}
        if ".h5" in name:
            with h5py.File(path, "w") as file:
                for key, value in arrays.items():
                    file[key] = value
        elif ".npz" in name:
            np.savez(path, **arrays)
        else:
            torch.save({key: torch.from_numpy(value) for key, value in arrays.items()}, path)
        if name.endswith(".gz"):
            path.with_name(name).write_bytes(gzip.compress(path.read_bytes()))
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        row = Weights(f"http://127.0.0.1:9/{name}", digest, "MIT")
        return replace(tiny, weights=((row,),), adapt=turned), Source("folder", folder=tmp_path)

    return make


def loaded(backbone: Backbone, source: Source) -> dict[str, torch.Tensor]:
    return weights.materialise(backbone, source).state_dict()


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one)


def copies(cache: Path) -> list[Path]:
    return sorted((cache / "converted").glob("*")) if cache.is_dir() else []


@pytest.mark.parametrize("name", ["w.h5", "w.h5.gz", "w.npz", "w.pth.gz"])
def test_the_second_time_gives_the_same_without_a_conversion(source, cache, name):
    backbone, folder = source(name)
    first = loaded(backbone, folder)
    assert torch.equal(first["fc.weight"], torch.from_numpy(KERNEL.T))
    (copy,) = copies(cache)
    digest = backbone.weights[0][0].sha256
    assert copy.name.startswith(f"tiny-{digest[:12]}-")
    assert copy.suffix == ".safetensors"
    assert same(loaded(backbone, folder), first)
    assert turned.calls == 1


def test_what_is_mapped_anyway_is_not_copied(source, cache, published):
    backbone, folder = source("w.pth")
    assert same(loaded(backbone, folder), loaded(backbone, folder))
    backbone, folder = published("a.pth", "b.pth")
    loaded(backbone, Source("folder", folder=folder))
    assert copies(cache) == []


def test_what_is_computed_anew_is_copied(source, cache):
    backbone, folder = source("w.pth")
    doubled = as_ours(lambda states: {key: 2 * tensor for key, tensor in turned(states).items()})
    first = loaded(replace(backbone, adapt=doubled), folder)
    assert len(copies(cache)) == 1
    assert torch.equal(first["fc.weight"], torch.from_numpy(2 * KERNEL.T))
    assert same(loaded(replace(backbone, adapt=doubled), folder), first)
    assert turned.calls == 1


def test_other_weights_another_name_and_another_layout_have_copies_of_their_own(source, cache):
    backbone, folder = source("w.h5")
    first = loaded(backbone, folder)
    backbone, folder = source("w.h5", scale=2.0)
    assert torch.equal(loaded(backbone, folder)["fc.weight"], 2 * first["fc.weight"])
    loaded(replace(backbone, name="tiny2"), folder)

    class Wider(type(backbone.build())):
        def __init__(self):
            super().__init__()
            self.register_buffer("num_batches_tracked", torch.zeros(()))

    loaded(replace(backbone, build=Wider), folder)
    assert turned.calls == 4
    # the copy of the other layout takes the place of the one that was there
    assert [path.name.split("-")[0] for path in copies(cache)] == ["tiny", "tiny", "tiny2"]


def test_another_version_of_the_package_converts_again(source, cache, monkeypatch):
    backbone, folder = source("w.h5")
    loaded(backbone, folder)
    (before,) = copies(cache)
    monkeypatch.setattr(converted, "_code", lambda: "other")
    loaded(backbone, folder)
    assert turned.calls == 2
    (after,) = copies(cache)  # what the other version left is gone
    assert after != before


def test_a_plug_ins_conversion_is_done_each_time(source, cache):
    backbone, folder = source("w.h5")
    foreign = replace(backbone, adapt=lambda states: dict(turned(states)))
    loaded(foreign, folder)
    loaded(foreign, folder)
    assert turned.calls == 2
    assert copies(cache) == []


def flip(content: bytes) -> bytes:
    """The last bit of the last number."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [flip, lambda c: c[:40], lambda c: b"", lambda c: c.replace(b"fc.bias", b"fc.bios")])
def test_a_damaged_copy_is_made_again(source, cache, caplog, damage):
    backbone, folder = source("w.h5")
    first = loaded(backbone, folder)
    (copy,) = copies(cache)
    whole = copy.read_bytes()
    copy.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING):
        assert same(loaded(backbone, folder), first)
    assert "is damaged and will be made again" in caplog.text
    assert copies(cache) == [copy]
    assert copy.read_bytes() == whole
    assert turned.calls == 2


def test_a_cache_that_cannot_be_written_costs_time_only(source, cache):
    cache.mkdir()
    (cache / "converted").write_text("a file where the folder would be")
    backbone, folder = source("w.h5")
    assert same(loaded(backbone, folder), loaded(backbone, folder))
    assert turned.calls == 2


def test_a_disk_that_is_full_leaves_nothing_behind(source, cache, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    backbone, folder = source("w.h5")
    loaded(backbone, folder)
    assert copies(cache) == []


def test_a_wrong_file_is_told_by_its_name_not_by_the_copys(source, tmp_path):
    backbone, folder = source("w.h5")
    loaded(backbone, folder)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tmp_path / "w.h5", other)
    with h5py.File(other / "w.h5", "a") as file:
        del file["fc"]
        file["dense/kernel"] = KERNEL
    with pytest.raises(LayoutMismatch, match=r"other/w\.h5 for tiny: expected the layout of TF .* dense/kernel"):
        weights.materialise(backbone, Source("folder", folder=other), allow_unverified=True)
