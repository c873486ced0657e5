"""Weights of the user's own training, and what licences forbid."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backbones import sources, weights
from backbones.sources import Source
from backbones.weights import weights_id
from extract.errors import WeightsMissing

OFFICIAL = Source("official")


def in_folder(folder: Path) -> Source:
    return Source("folder", folder=folder)


# ---- weights of the user's own training ----------------------------------------------------------------------------------


@pytest.fixture
def own(published) -> tuple:
    """A network that was never published, and the folder of what the user trained."""
    backbone, folder = published("mine.pth", digest=0)
    return replace(backbone, weights=((replace(backbone.weights[0][0], uri="", filename="mine.pth"),),)), folder


def test_own_weights_are_what_their_name_promises(own):
    backbone, folder = own
    full = hashlib.sha256((folder / "mine.pth").read_bytes()).hexdigest()
    assert weights_id(backbone, in_folder(folder)) == f"file:{full}"
    module = weights.materialise(backbone, in_folder(folder))
    assert torch.equal(module.fc.bias, torch.load(folder / "mine.pth", weights_only=True)["fc.bias"])


def test_own_weights_have_no_official_source(own, cache):
    backbone, folder = own
    shutil.copytree(folder, cache)  # what lies in the cache folder is not official for that
    for call in (weights_id, weights.locate, weights.fetch):
        for allow in (False, True):
            with pytest.raises(WeightsMissing, match=r"of tiny were ever published: train it, put your mine\.pth into"):
                call(backbone, OFFICIAL, allow)
    assert not weights.cached(backbone)
    with pytest.raises(WeightsMissing, match=r"holds no mine\.pth, which tiny needs"):
        weights_id(backbone, in_folder(cache.parent))


def test_own_weights_beside_published_ones(published, cache):
    backbone, folder = published(("a.pth", "b.pth"))
    own = replace(backbone.weights[0][0], uri="", sha256=None, filename="mine.pth")
    shutil.copy(folder / "a.pth", folder / "mine.pth")
    backbone = replace(backbone, weights=((*backbone.weights[0], own),))
    assert weights_id(backbone, OFFICIAL) == weights_id(backbone, in_folder(folder))
    for name in ("a.pth", "b.pth"):
        (folder / name).unlink()
    assert weights_id(backbone, in_folder(folder)).startswith("file:")
    with pytest.raises(WeightsMissing, match=r"published at: http://127\.0\.0\.1:9/a\.pth"):
        weights.fetch(backbone, OFFICIAL)


# ---- licences ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("MIT", ""),
        ("BSD-3-Clause", ""),
        ("CC-BY-4.0", ""),
        ("CC-BY-NC-4.0", "no commercial use"),
        ("CC BY-NC-ND 4.0", "no commercial use, no sharing of changed versions"),
        ("non-commercial research", "no commercial use, research only"),
        ("Apache-2.0 (Nvidia)", ""),
    ],
)
def test_what_licences_forbid(published, licence, said):
    backbone, _ = published("a.pth")
    backbone = replace(backbone, weights=((replace(backbone.weights[0][0], licence=licence),),))
    assert sources.restriction(backbone.weights[0][0]) == said
    assert sources.licences(backbone) == (f"{licence} ({said})" if said else licence,)


def test_the_store_says_what_a_licence_forbids(published):
    from extract.grid import Grid
    from extract.lane.lane import key_info
    from extract.plan import Feature

    backbone, _ = published("a.pth")
    backbone = replace(backbone, weights=((replace(backbone.weights[0][0], licence="CC-BY-NC-4.0"),),))
    info = key_info(Feature(backbone, backbone.views, Grid(), "sha256:01234567"))
    assert info.licence == "CC-BY-NC-4.0 (no commercial use)"
    assert key_info(Feature(backbone, backbone.views, Grid(), "random:0")).licence == "none (random weights)"
