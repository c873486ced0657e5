"""Our PolyNet against pretrainedmodels 0.7.4 on the same made-up weights (tests/golden/polynet.npz and .png)."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from backbones import random, registry
from backbones.nets.polynet import Conv, Paths, Poly3, PolyNet, TwoWay, scale
from backbones.sources import Source
from backbones.state import fit
from backbones.weights import materialise
from extract.decode.pictures import resized
from extract.errors import LayoutMismatch
from extract.prepare import frames_to_tensor

STAGES = ("stem", "stage_a", "reduction_a", "stage_b", "reduction_b", "stage_c")
MODULES = ("stage_a.0", "stage_b.0", "stage_b.1", "stage_c.0", "stage_c.1")
CADENE, PYTORCHCV = "polynet-f71d82a5.pth", "polynet-0452-6a1b295d.pth"
POLYNET = registry.get("polynet")


@dataclass(frozen=True)
class Tensors:
    """The tensors of both published files, in the order in which the network runs: pytorchcv 0.0.74's names are its own."""

    shapes: dict[str, tuple[int, ...]]
    scales: dict[str, float]
    pytorchcv: dict[str, str]


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "polynet.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def tensors(arrays) -> Tensors:
    rows = [line.split("\t") for line in arrays["names"].tobytes().decode().split("\n")]
    return Tensors(
        {cadene: ast.literal_eval(shape) for cadene, _, shape, _ in rows},
        {cadene: float(factor) for cadene, _, _, factor in rows},
        {cadene: theirs for cadene, theirs, _, _ in rows},
    )


@pytest.fixture(scope="module")
def ran(golden: Path, golden_weights: ModuleType, tensors, arrays) -> dict[str, np.ndarray]:
    """What the network and its stages give for the golden's picture and its mirror image."""
    module = POLYNET.build().eval()
    fit(module, POLYNET.adapt((golden_weights.torch_state("polynet", tensors.shapes, tensors.scales),)), "golden")
    seen = {}

    def note(name: str, _module: nn.Module, _inputs: object, out: torch.Tensor) -> None:
        seen[f"chmean_{name}"] = out[0].mean((1, 2)).numpy()
        if name == "stage_c":
            seen["map_last_ch0_32"] = out[0, :32].numpy()

    for name in (*STAGES, *MODULES):
        module.net.get_submodule(name).register_forward_hook(partial(note, name))
    pixels = np.asarray(Image.open(golden / "polynet.png"))
    frames = frames_to_tensor(np.stack([pixels, pixels[:, ::-1]])[:, None], POLYNET.view)
    with torch.inference_mode():
        seen["feature"] = module(frames).numpy()
    return seen


@pytest.mark.slow
def test_features_and_every_stage(ran, arrays):
    assert set(ran) == set(arrays) - {"names"}
    for name, got in ran.items():
        expected = arrays[name]
        assert got.shape == expected.shape, name
        assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max(), name


def test_the_view_is_their_transform(shared: Path, golden: Path):
    with np.load(shared / "goldens" / "polynet.npz", allow_pickle=False) as file:
        image, expected = file["image"], file["input_last"]
    pixels = resized(image, POLYNET.view, Fraction(1))
    assert np.array_equal(pixels, np.asarray(Image.open(golden / "polynet.png")))
    assert np.array_equal(frames_to_tensor(pixels[None, None], POLYNET.view)[0, 0].numpy(), expected)


def marked(tensors: Tensors, pytorchcv: bool) -> dict[str, torch.Tensor]:
    """A file of either layout that takes no room: every tensor repeats one number, its place."""
    return {
        tensors.pytorchcv[key] if pytorchcv else key: torch.full((1,), float(place)).expand(shape)
        for place, (key, shape) in enumerate(tensors.shapes.items())
    }


def test_both_layouts_give_the_same_state_and_all_of_it(tensors):
    ours, other = (POLYNET.adapt((marked(tensors, pytorchcv),)) for pytorchcv in (False, True))
    with torch.device("meta"):
        built = POLYNET.build().state_dict()
    shapes = {key: tensor.shape for key, tensor in built.items() if not key.endswith("num_batches_tracked")}
    assert {key: tensor.shape for key, tensor in ours.items()} == shapes
    assert {key: tensor.flatten()[0].item() for key, tensor in ours.items()} == {
        key: tensor.flatten()[0].item() for key, tensor in other.items()
    }


def test_counters_travel_too(tensors):
    with torch.device("meta"):
        built = set(POLYNET.build().state_dict())
    for pytorchcv in (False, True):
        state = marked(tensors, pytorchcv)
        counters = [key.replace("running_var", "num_batches_tracked") for key in state if key.endswith("running_var")]
        assert len(counters) == 537
        assert set(POLYNET.adapt((state | {key: torch.tensor(1) for key in counters},))) == built


@pytest.mark.parametrize("file", [CADENE, PYTORCHCV])
def test_published_files(tmp_path: Path, tensors, file):
    torch.save(marked(tensors, file == PYTORCHCV), tmp_path / file)
    assert (tmp_path / file).stat().st_size < 3_000_000
    net = materialise(POLYNET, Source("folder", folder=tmp_path), allow_unverified=True, folded=False).net
    place = list(tensors.shapes).index("stage_b.18.path0_7x1.conv.weight")
    for branch in net.stage_b[18].branches:
        assert branch[0][0][2].conv.weight.unique().tolist() == [place]


def test_a_wrong_file_is_named(tmp_path: Path, tensors):
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / CADENE)
    source = Source("folder", folder=tmp_path)
    with pytest.raises(LayoutMismatch, match=r"pretrainedmodels .* or pytorchcv .*layer1\.0\.conv1\.weight"):
        materialise(POLYNET, source, allow_unverified=True)
    state = marked(tensors, pytorchcv=True)
    del state["features.stage3.unit3.twoway.res_blocks.1.conv.bn.weight"]
    torch.save(state | {"features.stage9.weight": torch.zeros(1)}, tmp_path / CADENE)
    with pytest.raises(
        LayoutMismatch, match=r"1 missing: net\.stage_c\.3\.branches\.1\.1\.bn\.weight; 1 unknown: net\.stage9\.weight"
    ):
        materialise(POLYNET, source, allow_unverified=True)


def small_branch() -> nn.Sequential:
    return nn.Sequential(
        Paths([Conv(4, 2, 1), nn.Sequential(Conv(4, 2, 1), Conv(2, 2, 3, padding=1))]), Conv(4, 4, 1, relu=False)
    )


def test_modules_follow_their_formulas():
    maps = torch.rand(2, 4, 5, 5) - 0.5
    two, poly = (kind(small_branch, 0.9).eval() for kind in (TwoWay, Poly3))
    for seed, module in enumerate((two, poly)):
        random.fill(module, seed)
    with torch.inference_mode():
        f, g = two.branches
        torch.testing.assert_close(two(maps), (maps + 0.9 * f(maps) + 0.9 * g(maps)).relu())
        first, second, third = poly.branches
        once = first(maps)
        twice = second(once.relu())
        thrice = third(twice.relu())
        torch.testing.assert_close(poly(maps), (maps + 0.9 * (once + twice + thrice)).relu())


def test_orders_share_their_inner_convolutions_only():
    first, *higher = Poly3(small_branch, 1.0).branches
    for branch in higher:
        assert branch[0][1][1].conv is first[0][1][1].conv
        assert branch[0][1][1].bn is not first[0][1][1].bn
        assert branch[1].conv is not first[1].conv


def test_scales_fall_from_one_to_seven_tenths():
    modules = [m for m in torch_meta().modules() if isinstance(m, TwoWay | Poly3)]
    assert [m.scale for m in modules] == [scale(number) for number in range(40)]
    assert [scale(number) for number in (0, 1, 20, 38, 39)] == [1.0, 0.992308, 0.846154, 0.707692, 0.7]


def torch_meta() -> PolyNet:
    with torch.device("meta"):
        return PolyNet()


def test_random_weights_damp_the_branches():
    module = TwoWay(small_branch, 1.0)
    random.fill(module, 0)
    for inner, closing in module.branches:
        assert closing.bn.weight.mean() < 0.4 < 0.7 < inner[0].bn.weight.mean()


@pytest.mark.slow
def test_random_weights_stay_in_range_through_forty_modules():
    module = materialise(POLYNET, Source("random", seed=0), folded=False)
    with torch.inference_mode():
        # a smaller picture shows the same growth at a seventh of the work
        rows = module(torch.from_numpy(random.values(0, "frames", 139 * 139 * 3)).reshape(1, 1, 3, 139, 139))
    assert 0.1 < rows.std() < 1000
