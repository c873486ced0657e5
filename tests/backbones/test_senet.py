"""SENet-154 against pretrainedmodels 0.7.4 on the same made-up weights (tests/golden/senet154.npz and .png)."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from backbones import registry
from backbones.sources import Source
from backbones.state import fit
from backbones.weights import materialise
from extract.decode.pictures import resized
from extract.errors import LayoutMismatch
from extract.prepare import frames_to_tensor

SENET = registry.get("senet154")
# their stage 0 includes the pooling after it
STAGES = {"layer0": "pool0", "layer1": "layer1", "layer2": "layer2", "layer3": "layer3", "layer4": "layer4"}
TIMM, CADENE = (weights.filename for weights in SENET.weights[0])


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "senet154.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    """What both published files hold, the classifier included."""
    with torch.device("meta"):
        return {key: tuple(t.shape) for key, t in timm.create_model("legacy_senet154").state_dict().items()}


@pytest.fixture(scope="module")
def state(shapes, golden_weights: ModuleType) -> dict[str, torch.Tensor]:
    closing = {key: 0.25 for key in shapes if re.fullmatch(r"layer[1-4]\.\d+\.bn3\.weight", key)}
    return golden_weights.torch_state("senet154", shapes, closing)


@pytest.fixture(scope="module")
def picture(golden: Path) -> torch.Tensor:
    """The golden's picture as the network is fed it, (1, 1, 3, 224, 224)."""
    pixels = np.asarray(Image.open(golden / "senet154.png"))
    return frames_to_tensor(resized(pixels, SENET.view, Fraction(1))[None, None], SENET.view)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, state, picture) -> dict[str, np.ndarray]:
    """What the network and its stages give for the picture and its mirror image, loaded as a run loads a published file."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state, folder / CADENE, _use_new_zipfile_serialization=False)
    module = materialise(SENET, Source("folder", folder=folder), allow_unverified=True)
    (folder / CADENE).unlink()
    taken = {}
    for stage, place in STAGES.items():
        hook = lambda _module, _args, out, stage=stage: taken.update({stage: out[0].mean((1, 2)).numpy()})  # noqa: E731
        module.net.get_submodule(place).register_forward_hook(hook)
    with torch.inference_mode():
        feature = module(torch.cat([picture, picture.flip(-1)]))
        logits = torch.nn.functional.linear(feature, state["last_linear.weight"], state["last_linear.bias"])
    return taken | {"feature": feature.numpy(), "logits": logits.numpy()}


def off(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference, of the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_the_picture_is_prepared_as_theirs(picture, arrays) -> None:
    np.testing.assert_array_equal(picture[0, 0, :, ::16, ::16].numpy(), arrays["input_every_16th"])


@pytest.mark.parametrize("what", ["feature", "logits"])
def test_rows_are_theirs(ran, arrays, what: str) -> None:
    assert ran[what].shape == arrays[what].shape
    assert off(ran[what], arrays[what]) < 1e-5


@pytest.mark.parametrize("stage", STAGES)
def test_stages_are_theirs(ran, arrays, stage: str) -> None:
    assert off(ran[stage], arrays[f"chmean_{stage}"]) < 1e-5


def test_the_golden_is_the_official_one(shared: Path, golden: Path, arrays, state, shapes, picture) -> None:
    import hashlib

    with np.load(shared / "goldens/senet154.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["image"], np.asarray(Image.open(golden / "senet154.png")))
        np.testing.assert_array_equal(file["input_last"], picture[0, 0].numpy())
        for key in ("feature", "logits"):
            np.testing.assert_array_equal(file[key], arrays[key])
    lines = (shared / "goldens/senet154_layout.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    assert [row[0] for row in rows] == list(state)
    assert [row[1] for row in rows] == [str(shapes[row[0]]) for row in rows]
    for key, _, _, _, digest in rows[::37]:
        assert hashlib.sha256(state[key].numpy().tobytes()).hexdigest().startswith(digest), key


def constants(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """A state whose tensors hold one value each and take no room, neither in memory nor in a file."""
    return {key: torch.tensor(place / 1000).expand(shape) for place, (key, shape) in enumerate(shapes.items(), 1)}


def test_timms_file_fits(tmp_path: Path, shapes) -> None:
    """It holds BatchNorm counters, which Cadene's, older than torch 0.4.1, lacks; both hold the classifier, which is not used."""
    state = constants(shapes)
    torch.save(state, tmp_path / TIMM)
    source = Source("folder", folder=tmp_path)
    ours = materialise(SENET, source, allow_unverified=True, folded=False).net.state_dict()
    assert state.keys() - ours.keys() == {"last_linear.weight", "last_linear.bias"}
    assert ours.keys() <= state.keys()
    for key, tensor in ours.items():
        if not key.endswith("num_batches_tracked"):
            assert tensor.min() == tensor.max() == state[key].flatten()[0], key


def test_other_files_are_refused(shapes) -> None:
    gluon = {"conv1.0.weight": torch.zeros(64, 3, 3, 3), "layer1.0.se.fc1.weight": torch.zeros(8, 256, 1, 1)}
    with pytest.raises(
        LayoutMismatch, match=r"expected the layout of pretrainedmodels and timm .* keys are conv1\.0\."
    ):
        SENET.adapt((gluon,))
    state = constants(shapes)
    with torch.device("meta"):
        module = SENET.build()
    shallower = {key: tensor for key, tensor in state.items() if not key.startswith("layer3.35.")}
    with pytest.raises(LayoutMismatch, match=r"19 missing: net\.layer3\.35\.conv1\.weight"):
        fit(module, SENET.adapt((shallower,)), "a shallower network")
    with pytest.raises(LayoutMismatch, match=r"1 unknown: net\.layer5\.weight"):
        fit(module, SENET.adapt((state | {"layer5.weight": torch.zeros(1)},)), "a longer network")
