"""Our VGGish against TensorFlow's on the same made-up weights (tests/golden/vggish.npz, made by tensorflow/models code)."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from backbones import registry
from backbones.nets.vggish import VGGish, quantise
from backbones.state import fit, load_state
from backbones.vggish import _TF_LAYERS, VIEW
from extract.errors import LayoutMismatch

SHAPES = {
    "conv1": (3, 3, 1, 64),
    "conv2": (3, 3, 64, 128),
    "conv3/conv3_1": (3, 3, 128, 256),
    "conv3/conv3_2": (3, 3, 256, 256),
    "conv4/conv4_1": (3, 3, 256, 512),
    "conv4/conv4_2": (3, 3, 512, 512),
    "fc1/fc1_1": (12288, 4096),
    "fc1/fc1_2": (4096, 4096),
    "fc2": (4096, 128),
}


def unit(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The goldens' recipe: PCG64 seeded with the key's CRC, 53 bits of each word, in [-1, 1)."""
    raw = np.random.PCG64(zlib.crc32(f"vggish/{key}".encode())).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0).reshape(shape)


@pytest.fixture(scope="module")
def tf_slim() -> dict[str, torch.Tensor]:
    state = {}
    for layer, shape in SHAPES.items():
        kernel = unit(f"vggish/{layer}/weights", shape) * np.sqrt(6.0 / np.prod(shape[:-1]))
        state[f"vggish/{layer}/weights"] = torch.from_numpy(kernel.astype(np.float32))
        state[f"vggish/{layer}/biases"] = torch.from_numpy(
            (0.1 * unit(f"vggish/{layer}/biases", shape[-1:])).astype(np.float32)
        )
    return state


@pytest.fixture(scope="module")
def pca() -> dict[str, torch.Tensor]:
    matrix, means = 0.03 * unit("pca_eigen_vectors", (128, 128)), 0.1 * unit("pca_means", (128,))
    return {
        "pca_eigen_vectors": torch.from_numpy(matrix.astype(np.float32)).double(),
        "pca_means": torch.from_numpy(means.astype(np.float32)).double(),
    }


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "vggish.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def nets(tf_slim, pca) -> dict[str, torch.nn.Module]:
    nets = {}
    for name in ("vggish", "vggish_preact", "vggish_pca8", "vggish_pca8_nearest"):
        backbone = registry.get(name)
        nets[name] = backbone.build().eval()
        fit(nets[name], backbone.adapt((tf_slim, pca)[: len(backbone.weights)]), name)
    return nets


def run(net: torch.nn.Module, examples: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net(torch.from_numpy(examples)).numpy()


@pytest.mark.parametrize(("name", "key"), [("vggish_preact", "embedding_preact"), ("vggish", "embedding_relu")])
def test_embeddings(nets, arrays, name, key):
    got, expected = run(nets[name], arrays["examples"]), arrays[key]
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_embeddings_of_one_example_per_second(nets, arrays):
    got, expected = run(nets["vggish_preact"], arrays["examples_per_second"]), arrays["embedding_per_second_preact"]
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_maps_are_flattened_as_time_band_channel(nets, arrays):
    with torch.inference_mode():
        maps = (
            nets["vggish"].features(torch.from_numpy(arrays["examples"][:1]).unsqueeze(1)).permute(0, 2, 3, 1).numpy()
        )
    expected = arrays["pool4_nhwc"]
    assert np.abs(maps - expected).max() <= 1e-5 * np.abs(expected).max()


def test_pca_and_truncation_are_those_of_tensorflow(nets, arrays):
    net = nets["vggish_pca8"]
    whitened = net.whiten(torch.from_numpy(arrays["embedding_preact"])).numpy()
    assert np.abs(whitened - arrays["pca_applied"]).max() <= 1e-5
    assert np.array_equal(run(net, arrays["examples"]), arrays["post_uint8_preact"].astype(np.float32))
    relu = quantise(net.whiten(torch.from_numpy(arrays["embedding_relu"])), "truncate").numpy()
    assert np.array_equal(relu, arrays["post_uint8_relu"].astype(np.float32))


def test_torchvggish_rounds_instead(arrays, nets):
    rounded = run(nets["vggish_pca8_nearest"], arrays["examples"])
    levels = (np.clip(arrays["pca_applied"].astype(np.float64), -2, 2) + 2) * 63.75
    assert np.abs(levels % 1 - 0.5).min() > 1e-4, "no level so near an edge that rounding it is luck"
    assert np.array_equal(rounded, np.rint(levels))
    difference = rounded - arrays["post_uint8_preact"]
    assert set(np.unique(difference)) == {0.0, 1.0}
    assert 0.2 < difference.mean() < 0.8  # about half of the values differ


def test_variants_differ_in_their_output_only():
    names = ("vggish", "vggish_preact", "vggish_pca8", "vggish_pca8_nearest")
    variants = [registry.get(name) for name in names]
    assert {(variant.view, variant.window_s, variant.hop_s) for variant in variants} == {(VIEW, 1.0, 0.96)}
    assert [len(variant.weights) for variant in variants] == [1, 1, 2, 2]


def test_quantise_clips():
    levels = quantise(torch.tensor([-9.0, -2.0, 0.0, 2.0, 9.0]), "truncate")
    assert levels.tolist() == [0, 0, 127, 255, 255]


def to_torchvggish(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(registry.get("vggish").adapt((state,)))


@pytest.mark.parametrize("layout", ["torchvggish", "torchvggish whole model", "torchaudio", "TF-slim with :0"])
def test_every_known_layout_gives_the_same_state(tf_slim, layout):
    ours = to_torchvggish(tf_slim)
    state = {
        "torchvggish": ours,
        "torchvggish whole model": ours
        | {"pproc.pca_matrix": torch.zeros(128, 128), "pproc.pca_means": torch.zeros(128, 1)},
        "torchaudio": {
            key.replace("features.", "features_network.").replace("embeddings.", "embedding_network."): value
            for key, value in ours.items()
        },
        "TF-slim with :0": {f"{key}:0": value for key, value in tf_slim.items()},
    }[layout]
    adapted = registry.get("vggish").adapt((state,))
    assert set(adapted) == set(VGGish().state_dict())
    assert all(torch.equal(adapted[key], ours[key]) for key in ours)


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_converted_checkpoints_are_read_by_their_variable_names(tmp_path, tf_slim, kind):
    arrays = {f"vggish/{layer}/biases": tf_slim[f"vggish/{layer}/biases"].numpy() for layer in _TF_LAYERS}
    arrays["vggish/conv1/weights"] = tf_slim["vggish/conv1/weights"].numpy()
    if kind == "npz":
        np.savez(tmp_path / "vggish_model.npz", **arrays)
    else:
        with h5py.File(tmp_path / "vggish_model.h5", "w") as file:
            for key, value in arrays.items():
                file[key] = value
    adapted = registry.get("vggish").adapt((load_state(tmp_path / f"vggish_model.{kind}"),))
    assert torch.equal(adapted["features.0.weight"], tf_slim["vggish/conv1/weights"].permute(3, 2, 0, 1))
    assert torch.equal(adapted["embeddings.4.bias"], tf_slim["vggish/fc2/biases"])


@pytest.mark.parametrize("shape", [(128,), (128, 1)])
def test_pca_means_may_be_a_column(tf_slim, pca, shape):
    columns = pca | {"pca_means": pca["pca_means"].reshape(shape)}
    adapted = registry.get("vggish_pca8").adapt((tf_slim, columns))
    assert torch.equal(adapted["pca_means"], pca["pca_means"])


def test_unknown_and_incomplete_layouts(tf_slim):
    backbone = registry.get("vggish")
    with pytest.raises(
        LayoutMismatch, match=r"torchvggish .* or torchaudio .* or TF-slim .* the file's keys are conv1\.weight"
    ):
        backbone.adapt(({"conv1.weight": torch.zeros(1)},))
    short = {key: value for key, value in tf_slim.items() if not key.startswith("vggish/fc2")}
    with pytest.raises(LayoutMismatch, match=r"2 missing: embeddings\.4\.weight, embeddings\.4\.bias"):
        fit(backbone.build(), backbone.adapt((short,)), "short.npz")
    with pytest.raises(LayoutMismatch, match="1 unknown: vggish/fc3/weights"):
        fit(backbone.build(), backbone.adapt((tf_slim | {"vggish/fc3/weights": torch.zeros(1)},)), "long.npz")
