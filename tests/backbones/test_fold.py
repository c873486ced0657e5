"""Folding: exactly the pairs that nothing else looks at, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from backbones import random, registry
from backbones.fold import fold
from backbones.spec import Backbone, Frames

VIEWS = (Frames(count=1, resize=16, crop=16),)
IMAGE = torch.rand(4, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, a normalisation, and a forward of the test's choice."""

    def __init__(self, forward, norm=None, conv=None) -> None:
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = norm or nn.BatchNorm2d(8)
        self.other = nn.BatchNorm2d(8)
        self._forward = forward

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self._forward(self, frames.squeeze(1))


def folded(net: nn.Module) -> int:
    """Fold, and see that nothing but the rounding changed."""
    random.fill(net, seed=3)
    net.eval().requires_grad_(False)
    before = net(IMAGE)
    count = fold(net, VIEWS)
    after = net(IMAGE)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
    assert count == isinstance(net.norm, nn.Identity) + isinstance(net.other, nn.Identity)
    return count


@pytest.mark.parametrize(
    ("conv", "norm"),
    [
        (None, None),
        (nn.Conv2d(3, 8, 3, bias=True), None),
        (nn.Conv2d(3, 9, 5, stride=2, groups=3), nn.BatchNorm2d(9, eps=1e-3)),
        (None, nn.BatchNorm2d(8, affine=False)),
    ],
    ids=["plain", "bias", "groups and eps", "no affine"],
)
def test_a_convolution_and_the_normalisation_after_it_become_one(conv, norm):
    assert folded(Net(lambda net, x: net.norm(net.conv(x)).relu(), norm, conv)) == 1


def test_the_activation_may_be_done_in_place():
    assert folded(Net(lambda net, x: functional.relu_(net.norm(net.conv(x))))) == 1


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.norm(y := net.conv(x)) + y,
        lambda net, x: torch.cat([net.norm(y := net.conv(x)), y.amax(1, keepdim=True)], dim=1),
        lambda net, x: net.norm(net.conv(x).relu()),
        lambda net, x: net.norm(net.conv(x) * 2),
        lambda net, x: net.norm(y := net.conv(x)) + net.other(y),
        lambda net, x: net.norm(net.conv(x)) + net.other(net.conv(x)),
        lambda net, x: net.norm(net.norm(net.conv(x))),
        lambda net, x: net.conv(x) + net.norm.weight.sum(),
    ],
    ids=[
        "the sum needs the convolution too",
        "so does a concatenation",
        "a ReLU lies between",
        "a product lies between",
        "two normalisations of one map",
        "a convolution that runs twice",
        "a normalisation that runs twice",
        "the normalisation never runs",
    ],
)
def test_what_something_else_depends_on_stays(forward):
    assert folded(Net(forward)) == 0


def test_a_normalisation_with_an_activation_inside_stays():
    from timm.layers import BatchNormAct2d

    assert folded(Net(lambda net, x: net.norm(net.conv(x)), norm=BatchNormAct2d(8))) == 0


def test_statistics_of_the_batch_are_not_folded():
    net = Net(lambda net, x: net.norm(net.conv(x)), norm=nn.BatchNorm2d(8, track_running_stats=False))
    assert folded(net) == 0


def test_a_network_that_needs_data_to_run_is_left_alone():
    assert folded(Net(lambda net, x: net.norm(net.conv(x)) if x.sum() > 0 else x)) == 0


@pytest.mark.parametrize(("name", "norms"), [("resnet18", 20), ("r2plus1d_18", 37), ("vggish", 0)])
def test_known_networks_lose_all_their_normalisations(name, norms):
    backbone = registry.get(name)
    with random.skip_initialisation():
        module = backbone.build()
    random.fill(module, 0)
    assert fold(module.eval().requires_grad_(False), backbone.views) == norms
    assert not any(isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d) for part in module.modules())


def test_networks_are_folded_as_they_are_fed_not_as_they_were_registered():
    """A recipe may feed more pixels, and a network may do something else with them."""
    from extract.grid import Grid
    from extract.lane.models import load_models
    from extract.plan import Feature

    def forward(net, x):
        y = net.conv(x)
        return (net.norm(y) + y if x.shape[-1] > 16 else net.norm(y)).mean((2, 3))

    backbone = Backbone(name="wide", view=VIEWS[0], dims=(8,), build=lambda: Net(forward), weights=())
    for view, gone in ((VIEWS[0], True), (Frames(count=1, resize=32, crop=32), False)):
        feature = Feature(backbone, (view,), Grid(), "random:0")
        (model,) = load_models([feature], "random:0", False, "cpu", 2).values()
        assert isinstance(model.module.norm, nn.Identity) is gone
