"""Files of Keras, whose order is not the alphabet's."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from backbones.state import load_state
from extract.errors import WeightsError


def keras(path: Path, layers: dict[str, list[str]], under: str = "", split: bool = False) -> None:
    """A weight file as Keras writes it: layers and weights in an order that is not the alphabet's."""
    with h5py.File(path, "w") as file:
        top = file.require_group(under) if under else file
        names = np.array([layer.encode() for layer in layers])
        if split:
            top.attrs["layer_names0"], top.attrs["layer_names1"] = names[:1], names[1:]
        else:
            top.attrs["layer_names"] = names
        for place, (layer, weights) in enumerate(layers.items()):
            group = top.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in weights]) if weights else []
            for count, name in enumerate(weights):
                group[name] = np.full(2, 10 * place + count, ">f4")
        file.require_group("optimizer_weights")["m"] = np.zeros(1)


LAYERS = {"z_conv": ["z_conv/kernel:0", "z_conv/bias:0"], "pool": [], "a_norm": ["a_norm/gamma:0", "a_norm/beta:0"]}


@pytest.mark.parametrize("how", [{}, {"under": "model_weights"}, {"split": True}])
def test_keras_files_keep_their_order(tmp_path, how):
    keras(tmp_path / "w.h5", LAYERS, **how)
    state = load_state(tmp_path / "w.h5")
    assert list(state) == [f"{layer}/{name}" for layer, names in LAYERS.items() for name in names]
    assert [tensor.tolist() for tensor in state.values()] == [[0, 0], [1, 1], [20, 20], [21, 21]]
    assert state["z_conv/z_conv/bias:0"].dtype == torch.float32


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.attrs.create("layer_names", [b"z_conv", b"gone"]), "names 'gone', which is no group"),
        (lambda file: file.attrs.create("layer_names", [1, 2]), "is no list of names"),
        (lambda file: file["pool"].attrs.pop("weight_names"), "/pool has no attribute weight_names"),
        (
            lambda file: file["pool"].attrs.create("weight_names", [b"x"]),
            "names 'pool/x', which the file does not hold",
        ),
        (lambda file: file["pool"].attrs.create("weight_names", [b"\xff"]), r"names 'pool/\\udcff'"),
        (lambda file: file["pool"].attrs.create("weight_names", [b"../a_norm"]), "does not hold"),
    ],
)
def test_damaged_attributes_of_keras(tmp_path, damage, said):
    keras(tmp_path / "w.h5", LAYERS)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        damage(file)
    with pytest.raises(WeightsError, match=said):
        load_state(tmp_path / "w.h5")


def test_links_out_of_a_keras_file_are_not_followed(tmp_path):
    keras(tmp_path / "other.h5", {"secret": ["w"]})
    keras(tmp_path / "w.h5", LAYERS)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/secret")
        file.attrs["layer_names"] = [b"link"]
    with pytest.raises(WeightsError, match="names 'link', which is no group"):
        load_state(tmp_path / "w.h5")
