"""The recipe of the MTSM paper's collocations: what is fed, from one decode, and identities that must not change by accident."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backbones import registry as zoo
from backbones.spec import Frames, Sound
from extract.decode.clip import decode
from extract.decode.events import Block, Opened
from extract.grid import NS
from extract.plan import Limits, canonical_json
from extract.recipes import get, make_plan
from extract.testing import make_video
from pipelines.mtsm import AUDIO, BACKBONES, IMAGE, official

RECIPES = ("collocation", "collocation-clean")


@pytest.mark.parametrize("recipe", RECIPES)
def test_keys_do_not_change_silently(golden: Path, recipe: str) -> None:
    """Stores are keyed by these; see tests/pipelines/test_llp.py."""
    features = make_plan(get(recipe), backbones=BACKBONES).features
    expected = json.loads((golden / "collocation.json").read_text())[recipe]
    assert {feature.key: feature.identity_json for feature in features} == {
        key: canonical_json(identity) for key, identity in expected.items()
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_of_every_network(recipe: str) -> None:
    plan = make_plan(get(recipe), weights="random:0")
    rows = {f.backbone.name: (f.grid.rows(10 * NS), *f.backbone.dims) for f in plan.features}
    assert rows == {
        "vggish": (10, 128),
        "openl3_audio_mel256_env_512": (10, 512),
        "resnet152": (80, 2048),
        "vgg19_bn": (80, 4096),
        "senet154": (80, 2048),
        "polynet": (80, 2048),
        "openl3_image_mel256_env_512": (80, 512),
        "r2plus1d_18": (10, 512),
    }
    assert len(AUDIO) * len(IMAGE) == 10


def test_columns_of_llp_are_those_of_llp() -> None:
    """So that a store of LLP features only lacks the other networks."""
    for ours, theirs in (("collocation", "llp"), ("collocation-clean", "llp-clean")):
        plan = make_plan(get(theirs))
        assert make_plan(get(ours), backbones=[f.backbone.name for f in plan.features]).keys == plan.keys


def test_what_is_fed() -> None:
    plan = make_plan(get("collocation"), weights="random:0")
    fed = {feature.backbone.name: feature.views[0] for feature in plan.features}
    for name in IMAGE:
        view = fed[name]
        assert isinstance(view, Frames)
        assert view == replace(zoo.get(name).view, jpeg="mjpeg_200k", aspect="storage")
    assert isinstance(fed["vggish"], Sound)
    assert fed["vggish"].resample == "moviepy"
    assert fed["openl3_audio_mel256_env_512"] == zoo.get("openl3_audio_mel256_env_512").view
    assert fed["openl3_audio_mel256_env_512"].resample == "soxr_hq"
    shared = [name for name in IMAGE if fed[name] == fed["resnet152"]]
    assert shared == ["resnet152", "vgg19_bn", "senet154"]
    assert len(plan.taps(plan.keys)) == 6


@pytest.mark.parametrize(("resize", "crop"), [("openl3", 224), ((224, 224), None), ((48, 64), 32)])
def test_other_ways_to_resize_stay_what_they_are(resize, crop) -> None:
    own = Frames(count=1, resize=resize, crop=crop, interpolation="linear")
    views, grid = official(replace(zoo.get("resnet18"), view=own))
    assert views == (replace(own, jpeg="mjpeg_200k", aspect="storage"),)
    assert grid.rows(10 * NS) == 80


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_decode_makes_all_of_it(tmp_path: Path, recipe: str) -> None:
    path = make_video(tmp_path / "clip.mp4", width=320, height=240, fps=25, duration_s=10, rate_hz=48_000)
    plan = make_plan(get(recipe), weights="random:0")
    taps = plan.taps(plan.keys)
    made = dict.fromkeys(range(len(taps)), 0)
    opened = 0
    for event in decode(str(path), 0, 10 * NS, taps, Limits()):
        opened += isinstance(event, Opened)
        if isinstance(event, Block):
            made[event.tap] += len(event.data)
            view = taps[event.tap].view
            expected = (view.count, *view.height_width, 3) if isinstance(view, Frames) else (view.samples,)
            assert event.data.shape[1:] == expected
    assert opened == 1
    assert made == {place: tap.grid.rows(10 * NS) for place, tap in enumerate(taps)}
