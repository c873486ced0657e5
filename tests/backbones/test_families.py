"""Every backbone of the zoo is tested because it exists; what is particular to one family follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from backbones import registry, testing
from backbones.sources import Source
from backbones.state import fit, load_state
from backbones.weights import cached, materialise, weights_id
from extract.errors import LayoutMismatch

RANDOM = Source("random", seed=0)


HEAVY_GMACS = 60.0  # `extract backbones check --all` runs these as well; docs/results.md says when it last did


def one_name_per_network() -> list[str]:
    """Names that differ in their weights only are one network: one of them is built."""
    networks: dict[object, str] = {}
    for name in registry.names():
        backbone = registry.get(name)
        build = backbone.build
        made_by = (getattr(build, "func", build), str(getattr(build, "args", "")), str(getattr(build, "keywords", "")))
        networks.setdefault((made_by, tuple(view.input_shape for view in backbone.views), backbone.dims), name)
    return [name for name in networks.values() if registry.get(name).gmacs <= HEAVY_GMACS]


@pytest.mark.slow
@pytest.mark.parametrize("name", one_name_per_network())
def test_conformance(name):
    backbone = registry.get(name)
    if backbone.extra:
        pytest.importorskip({"clap": "transformers"}[backbone.extra])
    # a large network shows the same faults with fewer rows
    batch = None if backbone.gmacs < 1 else min(backbone.batch, 3 if backbone.gmacs < 10 else 2)
    for result in testing.check(name, RANDOM, batch=batch):
        assert result.passed is not False, f"{result.name}: {result.detail}"


@pytest.mark.parametrize("name", registry.names())
def test_declarations(name):
    backbone = registry.get(name)
    assert backbone.params > 0
    assert backbone.gmacs > 0
    assert backbone.paper
    assert backbone.known is None or backbone.known in testing.ANSWERS
    for entry in backbone.weights:
        assert len({weights.filename for weights in entry}) == len(entry)
        for weights in entry:
            assert weights.uri.startswith(("https://", "http://data.lip6.fr/")) or (
                not weights.uri and not weights.digest
            )
            assert weights.licence
            kind, _, digits = weights.digest.partition(":")
            lengths = {"": (0,), "sha256": (8, 64), "md5": (32,), "sha1": (40,), "git": (40,)}
            assert len(digits) in lengths[kind]
            assert set(digits) <= set("0123456789abcdef")
    assert not cached(backbone)


def with_classifier(name: str, features: int, classes: int) -> dict[str, torch.Tensor]:
    net = materialise(registry.get(name), RANDOM, folded=False).net
    return net.state_dict() | {"fc.weight": torch.zeros(classes, features), "fc.bias": torch.zeros(classes)}


@pytest.mark.parametrize("old", [False, True])
def test_both_serialisations_of_resnet152_fit(old):
    """394f9c45 has the BatchNorm counters, b121ed2d has not; both have the classifier."""
    backbone = registry.get("resnet152")
    state = with_classifier("resnet152", 2048, 1000)
    if old:
        state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    module = backbone.build()
    fit(module, backbone.adapt((state,)), "resnet152")
    assert torch.equal(module.net.layer3[35].conv2.weight, state["layer3.35.conv2.weight"])
    assert {weights.filename for weights in backbone.weights[0]} == {"resnet152-394f9c45.pth", "resnet152-b121ed2d.pth"}


@pytest.mark.parametrize(("name", "features", "classes"), [("resnet18", 512, 1000), ("r2plus1d_18", 512, 400)])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_as_published_gives_the_rows_of_the_network_itself(tmp_path, name, features, classes, zipped):
    backbone = registry.get(name)
    file = backbone.weights[0][0].filename
    state = with_classifier(name, features, classes)
    torch.save(state, tmp_path / file, _use_new_zipfile_serialization=zipped)
    source = Source("folder", folder=tmp_path)
    assert weights_id(backbone, source, allow_unverified=True).startswith("file:")
    module = materialise(backbone, source, allow_unverified=True)
    ours = materialise(backbone, RANDOM)
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), ours.state_dict().values(), strict=True))
    assert load_state(tmp_path / file)["fc.bias"].shape == (classes,)


def test_resnet_is_torchvisions_pooled_feature():
    torchvision = pytest.importorskip("torchvision")
    module = materialise(registry.get("resnet18"), RANDOM)
    theirs = torchvision.models.resnet18(weights=None).eval()
    theirs.load_state_dict(with_classifier("resnet18", 512, 1000))
    taken = []
    theirs.avgpool.register_forward_hook(lambda _module, _args, out: taken.append(out.flatten(1)))
    frames = torch.randn(2, 1, 3, 224, 224)
    with torch.inference_mode():
        theirs(frames[:, 0])
        torch.testing.assert_close(module(frames), taken[0], rtol=1e-4, atol=1e-4)


def test_r2plus1d_eats_any_number_of_frames_in_order():
    module = materialise(registry.get("r2plus1d_18"), RANDOM)
    frames = torch.randn(1, 8, 3, 32, 32)
    with torch.inference_mode():
        assert module(frames).shape == (1, 512)
        assert not torch.allclose(module(frames), module(frames.flip(1)), rtol=1e-3)


def test_another_depth_is_refused():
    backbone = registry.get("resnet34")
    with pytest.raises(LayoutMismatch, match=r"\d+ missing: net\.layer1\.2\.conv1\.weight"):
        fit(backbone.build(), backbone.adapt((with_classifier("resnet18", 512, 1000),)), "resnet18.pth for resnet34")


def test_variants_of_vggish_share_their_random_weights():
    relu, preact = (materialise(registry.get(name), RANDOM) for name in ("vggish", "vggish_preact"))
    examples = torch.randn(3, 96, 64)
    with torch.inference_mode():
        assert torch.equal(relu(examples), preact(examples).relu())


def test_vggish_rows_do_not_depend_on_their_place():
    """Found by `check`: MKL rounds the last two of ten rows differently."""
    module = materialise(registry.get("vggish_preact"), RANDOM)
    example, others = torch.randn(1, 96, 64).abs(), torch.randn(10, 96, 64).abs()
    rows = []
    with torch.inference_mode():
        for place in range(10):
            batch = others.clone()
            batch[place] = example
            rows.append(module(batch)[place])
    assert all(torch.equal(row, rows[0]) for row in rows)


def test_precision_is_that_of_the_weights_but_pca_stays_exact():
    module = materialise(registry.get("vggish_pca8"), RANDOM, precision="bfloat16")
    assert module.embeddings[0].weight.dtype is torch.bfloat16
    assert module.pca_eigen_vectors.dtype is torch.float64


def test_image_networks_are_channels_last():
    conv = materialise(registry.get("resnet18"), RANDOM).net.layer1[0].conv1.weight
    assert conv.is_contiguous(memory_format=torch.channels_last)
    conv = materialise(registry.get("r2plus1d_18"), RANDOM).net.layer1[0].conv1[0][0].weight
    assert conv.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_variant_with_another_name_keeps_its_weights(zoo):
    registry.register(replace(registry.get("resnet18"), name="resnet18_squash"))
    one, other = (materialise(registry.get(name), RANDOM) for name in ("resnet18", "resnet18_squash"))
    assert torch.equal(one.net.conv1.weight, other.net.conv1.weight)
