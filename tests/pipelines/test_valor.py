"""The recipes of VALOR: shapes, what is fed, and keys that must never change by accident."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from backbones import registry as zoo
from backbones.spec import Frames, Sound
from extract import api
from extract.decode.sampling import select
from extract.grid import NS, Grid
from extract.job import Choices
from extract.recipes import default_for, get, make_plan
from extract.running import Machine
from manifests.clip import Clip, write_manifest
from pipelines import llp
from pipelines.valor import PAIR

CLIP = ["clip_vit_l14_l2"]
LLP = Clip("BjCEufrlXm4_20_30", "BjCEufrlXm4.mp4", 0, 10 * NS, ("Speech", "Vacuum_cleaner"), "train")
WHOLE = Grid(10 * NS, 10 * NS, 1)


@pytest.mark.parametrize(
    ("recipe", "key"), [("valor", "clip_vit_l14_l2@9353e2e6cf86"), ("valor-clean", "clip_vit_l14_l2@a15eee306cb0")]
)
def test_keys_do_not_change_silently(recipe: str, key: str) -> None:
    assert make_plan(get(recipe), backbones=CLIP).keys == (key,)


def test_llp_manifests_go_to_llp_unless_valor_is_named() -> None:
    assert default_for([LLP]).name == "llp"


@pytest.mark.parametrize("recipe", ["valor", "valor-clean"])
@pytest.mark.parametrize("seconds", [9, 10])
def test_rows_of_the_published_shapes(recipe: str, seconds: int) -> None:
    plan = make_plan(get(recipe), weights="random:0")
    shapes = [(feature.grid.rows(seconds * NS), *feature.backbone.dims) for feature in plan.features]
    assert shapes == [(10, 768), (1, 64, 768)]


def test_what_clip_is_fed() -> None:
    """ToTensor and Resize((224, 224)) of torchvision 0.13, on the JPEGs of LLP's script."""
    (feature,) = make_plan(get("valor"), backbones=CLIP).features
    (view,) = feature.views
    (own,) = zoo.get(CLIP[0]).views
    assert isinstance(view, Frames)
    assert isinstance(own, Frames)
    assert (view.count, view.resize, view.crop, view.interpolation) == (1, (224, 224), None, "linear")
    assert (view.jpeg, view.aspect, view.mean, view.std) == ("mjpeg_200k", "storage", own.mean, own.std)
    assert feature.grid == Grid(count=10, sampling="ffmpeg_r8", short="stretch")
    (clean,) = make_plan(get("valor-clean"), backbones=CLIP).features
    assert clean.views == (own,)
    assert clean.grid == Grid(count=10)


@pytest.mark.parametrize("fps", [25, 30])
def test_frames_are_spread_over_the_jpegs(fps: int) -> None:
    """``np.round(np.linspace(0, n - 1, 10))`` of the files that ffmpeg writes."""
    pts_ns = np.arange(10 * fps, dtype=np.int64) * NS // fps
    (feature,) = make_plan(get("valor"), backbones=CLIP).features
    windows_ns = feature.grid.windows_ns(10 * NS)
    chosen = select(feature.grid, 1, windows_ns, pts_ns, np.full_like(pts_ns, NS // fps))
    assert chosen.index[:, 0].tolist() == [round(place) for place in np.linspace(0, len(chosen.slots) - 1, 10)]
    assert len(chosen.slots) == 82


def test_a_picture_is_what_torchvision_makes_of_it() -> None:
    from fractions import Fraction

    from torchvision.transforms import functional

    from extract.decode.pictures import resized
    from extract.prepare import frames_to_tensor

    (feature,) = make_plan(get("valor"), backbones=CLIP).features
    (view,) = feature.views
    assert isinstance(view, Frames)
    picture = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    ours = frames_to_tensor(np.asarray(resized(picture, view, Fraction(1)))[None, None], view)[0, 0]
    floats = functional.resize(functional.to_tensor(picture), [224, 224], antialias=False)
    theirs = functional.normalize(floats, list(view.mean), list(view.std))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_what_clap_is_fed() -> None:
    official, clean = (
        make_plan(get(name), backbones=PAIR[1:], weights="random:0") for name in ("valor", "valor-clean")
    )
    for plan, resample in ((official, "indexed"), (clean, "soxr_hq")):
        (feature,) = plan.features
        (view,) = feature.views
        assert isinstance(view, Sound)
        assert (view.rate_hz, view.samples, view.resample) == (48_000, 480_000, resample)
        assert feature.grid == WHOLE


def test_other_networks_are_fed_as_by_llp() -> None:
    for name in ("r2plus1d_18", "vggish"):
        assert get("valor").column(zoo.get(name)) == llp.official(zoo.get(name))
        assert get("valor-clean").column(zoo.get(name)) == llp.clean(zoo.get(name))


@pytest.mark.usefixtures("tiny")
def test_a_run_with_tiny_networks(way: ModuleType, tmp_path: Path) -> None:
    from extract.store.catalog import Store
    from extract.testing import make_video

    make_video(tmp_path / "BjCEufrlXm4.mp4", width=64, height=48, fps=25, duration_s=10)
    write_manifest(tmp_path / "m.csv", [LLP])
    choices = Choices(recipe="valor", backbones=way.TRIO, weights="random:0")
    api.run(tmp_path / "m.csv", choices, Machine(torch_threads=1), tmp_path / "s")
    store = Store(tmp_path / "s")
    infos = store.keys()
    shapes = {info.key.split("@")[0]: store[LLP.clip_id, info.key].shape for info in infos}
    assert shapes == dict.fromkeys(way.TRIO, (10, 8))
