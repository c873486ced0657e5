from __future__ import annotations

import numpy as np
import torch
from torch import nn

from backbones import random, registry
from backbones.sources import Source
from backbones.weights import materialise

EXPECTED = [0.7178043127059937, -0.5857032537460327, 0.8044033646583557, 0.4357199966907501, 0.2623023986816406]


def test_the_stream_never_changes():
    """These numbers are part of every random:0 key ever stored."""
    drawn = random.values(0, "features.0.weight", 5)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, np.array(EXPECTED, dtype=np.float32))
    assert np.array_equal(random.values(0, "features.0.weight", 4), drawn[:4])


def test_values_are_uniform():
    drawn = random.values(3, "x", 200_001)
    assert drawn.shape == (200_001,)
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.var() - 1 / 3) < 0.01
    assert -1 <= drawn.min() < -0.999
    assert 0.999 < drawn.max() <= 1
    assert not np.array_equal(random.values(4, "x", 10), drawn[:10])
    assert not np.array_equal(random.values(3, "y", 10), drawn[:10])


def test_fill_scales_by_kind():
    module = nn.Sequential(nn.Conv2d(8, 64, 3), nn.BatchNorm2d(64))
    random.fill(module, 0)
    conv, norm = module
    assert abs(conv.weight.var().item() / (2 / 72) - 1) < 0.1
    assert conv.bias.abs().max() <= 0.1
    assert (norm.weight - 1).abs().max() <= 0.2
    assert (norm.running_var - 1).abs().max() <= 0.2
    assert norm.running_mean.abs().max() <= 0.1
    assert norm.num_batches_tracked == 0


def test_residual_branches_are_damped():
    net = materialise(registry.get("resnet50"), Source("random", seed=0), folded=False).net
    for block in (net.layer1[0], net.layer4[2]):
        assert block.bn3.weight.mean() < 0.3 < 0.8 < block.bn2.weight.mean()
    assert net.layer1[0].downsample[1].weight.mean() > 0.8
    clip = materialise(registry.get("r2plus1d_18"), Source("random", seed=0), folded=False).net
    assert clip.layer1[0].conv2[1].weight.mean() < 0.3 < 0.8 < clip.layer1[0].conv2[0][1].weight.mean()


def test_nothing_is_drawn_while_building():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with random.skip_initialisation():
        nn.Linear(4, 4)
        nn.Conv2d(3, 8, 3)
        nn.init.trunc_normal_(torch.empty(4, 4))
        nn.init.kaiming_normal_(torch.empty(4, 4))
        nn.init.xavier_uniform_(torch.empty(4, 4))
        assert torch.equal(nn.init.ones_(torch.empty(3)), torch.ones(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert nn.init.normal_(torch.zeros(4)).abs().sum() > 0
