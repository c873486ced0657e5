"""VGG-19: torchvision's features, and Keras' on the same made-up weights (tests/golden/vgg19_ave.npz and .png)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from backbones import registry
from backbones.nets.vgg import ROW_BLOCK
from backbones.sources import Source
from backbones.state import fit
from backbones.vgg_ave import _PLACES
from backbones.weights import materialise
from extract.decode.pictures import resized
from extract.errors import LayoutMismatch
from extract.prepare import frames_to_tensor

RANDOM = Source("random", seed=0)
AVE = registry.get("vgg19_ave")
NO_TOP, WITH_TOP = (weights.filename for weights in AVE.weights[0])
NAMES = ("vgg19", "vgg19_bn", "vgg19_pool5", "vgg19_bn_pool5")


def off(ours: torch.Tensor | np.ndarray, theirs: torch.Tensor | np.ndarray) -> float:
    """Largest difference, of the largest value."""
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(np.asarray(theirs)).max())


# ---- torchvision's --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["vgg19", "vgg19_bn"])
def theirs(request: pytest.FixtureRequest) -> tuple[str, torch.nn.Module]:
    """torchvision's whole network with our random weights, and a last layer."""
    ours = materialise(registry.get(request.param), RANDOM, folded=False)
    with torch.device("meta"):
        net = getattr(torchvision.models, request.param)(weights=None, init_weights=False).eval()
    last = {"classifier.6.weight": torch.zeros(1000, 4096), "classifier.6.bias": torch.zeros(1000)}
    net.load_state_dict(ours.state_dict() | last, strict=True, assign=True)
    return request.param, net


@pytest.mark.parametrize("suffix", ["", "_pool5"])
def test_rows_are_torchvisions(theirs, suffix: str) -> None:
    name, net = theirs
    backbone = registry.get(name + suffix)
    module = backbone.build().eval()
    fit(module, backbone.adapt((net.state_dict(),)), name)
    taken = []
    place = net.features if suffix else net.classifier[4]
    hook = place.register_forward_hook(lambda _module, _args, out: taken.append(out))
    # small pictures are fast; the average pooling before the classifier makes seven by seven of their two by two
    frames = torch.randn(3, 1, 3, 64, 64)
    with torch.inference_mode():
        net(frames[:, 0])
        rows = module(frames)
    hook.remove()
    assert rows.min() >= 0, "after a ReLU"
    assert (rows > 0).float().mean() > 0.1
    assert off(rows, taken[0].permute(0, 2, 3, 1) if suffix else taken[0]) < 1e-5


def test_rows_do_not_depend_on_how_many_there_are() -> None:
    module = materialise(registry.get("vgg19"), RANDOM)
    module.features = torch.nn.Identity()
    maps = torch.randn(1, 1, 512, 7, 7).abs()
    with torch.inference_mode():
        alone = module(maps)
        for rows in (2, 3, 5, ROW_BLOCK, ROW_BLOCK + 1):
            assert torch.equal(alone.expand(rows, -1), module(maps.expand(rows, -1, -1, -1, -1))), rows


def published(name: str) -> dict[str, torch.Tensor]:
    """A state with the names and shapes of torchvision's file, its classifier included, that takes no room."""
    with torch.device("meta"):
        net = getattr(torchvision.models, name)(weights=None, init_weights=False)
    shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    return {key: torch.tensor(place / 100).expand(shape) for place, (key, shape) in enumerate(shapes.items(), 1)}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_as_published_fits(tmp_path: Path, name: str) -> None:
    backbone = registry.get(name)
    state = published(name.removesuffix("_pool5"))
    torch.save(state, tmp_path / backbone.weights[0][0].filename)
    module = materialise(backbone, Source("folder", folder=tmp_path), allow_unverified=True, folded=False)
    dropped = "classifier." if name.endswith("_pool5") else "classifier.6."
    ours = module.state_dict()
    assert ours.keys() == {key for key in state if not key.startswith(dropped)}
    for key, tensor in ours.items():
        if not key.endswith("num_batches_tracked"):
            assert tensor.flatten()[0] == tensor.flatten()[-1] == state[key].flatten()[0], key


@pytest.mark.parametrize(("name", "other", "mark"), [("vgg19", "vgg19_bn", r"features\.2\.weight"),
                                                     ("vgg19_bn_pool5", "vgg19", r"features\.1\.running_mean")])  # fmt: skip
def test_the_other_variant_is_refused(tmp_path: Path, name: str, other: str, mark: str) -> None:
    backbone = registry.get(name)
    torch.save(published(other), tmp_path / backbone.weights[0][0].filename)
    with pytest.raises(
        LayoutMismatch, match=rf"torchvision's vgg19.* \(with the key {mark}\); the file's keys are class"
    ):
        materialise(backbone, Source("folder", folder=tmp_path), allow_unverified=True)


def test_a_shallower_network_is_refused() -> None:
    backbone = registry.get("vgg19_pool5")
    with torch.device("meta"):
        module = backbone.build()
    with pytest.raises(LayoutMismatch, match=r"20 missing: features\.14\..*8 unknown: features\.15\."):
        fit(module, {k: v for k, v in published("vgg13").items() if k.startswith("features.")}, "vgg13")


# ---- Keras' ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "vgg19_ave.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files} | {
            "resized_cv2": np.asarray(Image.open(golden / "vgg19_ave.png"))
        }


@pytest.fixture(scope="module")
def layers(golden_weights: ModuleType) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel (height, width, in, out) and bias of every layer, made up by the goldens' recipe."""
    made = {}
    before = 3
    for layer in _PLACES:
        width = min(512, 32 << int(layer[5]))
        kernel = golden_weights.unit(f"vgg19_keras/{layer}/kernel", (3, 3, before, width))
        bias = golden_weights.unit(f"vgg19_keras/{layer}/bias", (width,))
        made[layer] = ((kernel * np.sqrt(6 / (9 * before))).astype(np.float32), (0.1 * bias).astype(np.float32))
        before = width
    return made


def keras_state(layers: dict[str, tuple[np.ndarray, np.ndarray]], names: str) -> dict[str, torch.Tensor]:
    """As `load_state` gives it; `names` are those of the kernel and the bias within a layer."""
    return {
        f"{layer}/{name.format(layer)}": torch.from_numpy(array)
        for layer, pair in layers.items()
        for name, array in zip(names.split(), pair, strict=True)
    }


NOW, ONCE = "{0}/kernel:0 {0}/bias:0", "{0}_W_1:0 {0}_b_1:0"


def write_keras(path: Path, state: dict[str, torch.Tensor], names: str) -> None:
    """An .h5 as Keras writes weights: groups by layer, those without weights too, and lists of names in attributes."""
    grouped: dict[str, list[str]] = {"input_1": []}
    for key in state:
        layer, _, name = key.partition("/")
        grouped.setdefault(layer, []).append(name)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in grouped]
        for layer, inside in grouped.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in inside]
            for name in inside:
                group.create_dataset(name, data=state[f"{layer}/{name}"].numpy())


@pytest.fixture(scope="module")
def ave(tmp_path_factory: pytest.TempPathFactory, layers) -> torch.nn.Module:
    folder = tmp_path_factory.mktemp("weights")
    write_keras(folder / NO_TOP, keras_state(layers, NOW), NOW)
    return materialise(AVE, Source("folder", folder=folder), allow_unverified=True)


def fed(pictures: np.ndarray) -> torch.Tensor:
    return frames_to_tensor(pictures[None], AVE.view)


def test_colours_are_bytes_less_the_mean(arrays) -> None:
    frames = fed(np.repeat(arrays["resized_cv2"][None], 16, 0))
    np.testing.assert_allclose(frames[0, 3, :, 0, 0].flip(0), arrays["preprocessed_pixel00"], atol=1e-4)


def test_maps_are_keras(ave, arrays) -> None:
    """Of one frame: as many of them as in a second are averaged, which changes nothing where all are alike."""
    with torch.inference_mode():
        row = ave(fed(np.repeat(arrays["resized_cv2"][None], 16, 0))[:, :1])
    assert row.shape == (1, 7, 7, 512)
    assert off(row[0], arrays["pool5_hwc"]) < 1e-5


def test_a_row_is_the_mean_of_its_frames(ave, arrays) -> None:
    picture = fed(np.repeat(arrays["resized_cv2"][None], 16, 0))[:, :1, :, :64, :64]
    frames = torch.cat([picture, picture.flip(-1), picture.flip(-2)], 1)
    with torch.inference_mode():
        row = ave(frames)
        each = torch.cat([ave(frames[:, place : place + 1]) for place in range(3)])
    assert off(row[0], each.mean(0)) < 1e-5
    assert off(row[0], each[0]) > 0.1


def test_the_golden_is_the_official_one(shared: Path, arrays) -> None:
    with np.load(shared / "goldens/vgg19_ave_keras.npz", allow_pickle=False) as file:
        for key in arrays:
            np.testing.assert_array_equal(file[key], arrays[key])
        np.testing.assert_array_equal(resized(file["image"], AVE.view, Fraction(1)), file["resized_cv2"])


@pytest.mark.parametrize("names", [NOW, ONCE, "kernel bias"])
@pytest.mark.parametrize("top", [False, True])
def test_names_of_all_times_fit(ave, layers, names: str, top: bool) -> None:
    state = keras_state(layers, names)
    if top:
        state |= {f"{layer}/{layer}_W_1:0": torch.zeros(4, 4) for layer in ("fc1", "fc2", "predictions")}
        state |= {f"{layer}/{layer}_b_1:0": torch.zeros(4) for layer in ("fc1", "fc2", "predictions")}
    adapted, ours = AVE.adapt((state,)), ave.state_dict()
    assert adapted.keys() == ours.keys()
    assert all(torch.equal(adapted[key], ours[key]) for key in ours)


def test_both_files_are_known(tmp_path: Path, layers) -> None:
    small = {layer: tuple(array[..., :2] for array in pair) for layer, pair in layers.items()}
    write_keras(tmp_path / WITH_TOP, keras_state(small, ONCE), ONCE)
    with pytest.raises(LayoutMismatch, match=r"32 of another shape: .*features\.0\.\w+ \("):
        materialise(AVE, Source("folder", folder=tmp_path), allow_unverified=True)


def test_other_layouts_are_refused(layers) -> None:
    with torch.device("meta"):
        module = AVE.build()
    with pytest.raises(
        LayoutMismatch, match=r"Keras' VGG19 \(with the key block1_conv1/block1_conv1/kernel:0\); the file"
    ):
        AVE.adapt((published("vgg19"),))
    state = keras_state(layers, NOW)
    vgg16 = {key: tensor for key, tensor in state.items() if "conv4" not in key}
    with pytest.raises(LayoutMismatch, match=r"6 missing: features\.16\.weight, features\.16\.bias"):
        fit(module, AVE.adapt((vgg16,)), "vgg16")
    theano = {key: tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor for key, tensor in state.items()}
    with pytest.raises(LayoutMismatch, match="16 of another shape"):
        fit(module, AVE.adapt((theano,)), "theano")
    twice = state | {"block1_conv1/again:0": state["block1_conv1/block1_conv1/bias:0"]}
    with pytest.raises(LayoutMismatch, match="1 unknown: block1_conv1/again:0"):
        fit(module, AVE.adapt((twice,)), "twice")
    with pytest.raises(LayoutMismatch, match="1 unknown: optimizer/step"):
        fit(module, AVE.adapt((state | {"optimizer/step": torch.zeros(1)},)), "more")
