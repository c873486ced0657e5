"""The recipes: shapes, what is fed, and identities that must never change by accident."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from backbones import registry as zoo
from backbones.spec import Frames, Sound
from extract import api
from extract.grid import NS
from extract.job import Choices
from extract.recipes import default_for, get, make_plan
from extract.running import Machine
from extract.store.catalog import Store
from manifests.clip import Clip, write_manifest

LLP = Clip("BjCEufrlXm4_20_30", "BjCEufrlXm4.mp4", 0, 10 * NS, ("Speech", "Vacuum_cleaner"), "train")

# The identities of the features that every store of official LLP features is keyed by. A change here means that a new
# version finds nothing of what its users have computed, in days of work, and computes it again. So it is only right where
# the numbers themselves are to change; then say so in the changelog.
IDENTITIES = {
    "resnet152@e22c6597ee6a": (
        '{"backbone":"resnet152","grid":{"count":80,"hop_ns":125000000,"sampling":"ffmpeg_r8","short":"stretch","stride":1,'
        '"window_ns":125000000},"precision":"float32","views":[{"aspect":"storage","count":1,"crop":224,"interpolation":'
        '"bilinear","jpeg":"mjpeg_200k","kind":"Frames","mean":[0.485,0.456,0.406],"resize":256,"std":[0.229,0.224,0.225]}]'
        ',"weights":"sha256:394f9c45"}'
    ),
    "r2plus1d_18@8654d8f38fc4": (
        '{"backbone":"r2plus1d_18","grid":{"count":10,"hop_ns":1000000000,"sampling":"ffmpeg_r8","short":"stretch",'
        '"stride":1,"window_ns":1000000000},"precision":"float32","views":[{"aspect":"storage","count":8,"crop":null,'
        '"interpolation":"bilinear","jpeg":"mjpeg_200k","kind":"Frames","mean":[0.43216,0.394666,0.37645],'
        '"resize":[112,112],"std":[0.22803,0.22145,0.216989]}],"weights":"sha256:91a641e6"}'
    ),
    "vggish@69078a3cfe37": (
        '{"backbone":"vggish","grid":{"count":10,"hop_ns":1000000000,"short":"zeros","window_ns":1000000000},"precision":'
        '"float32","views":[{"kind":"Sound","rate_hz":16000,"resample":"moviepy","samples":15600,"spectrogram":{"db_range":'
        '80.0,"f_max_hz":7500.0,"f_min_hz":125.0,"frames":96,"hop_length":160,"log":"ln","mel_norm":null,"mel_scale":"htk",'
        '"mel_sqrt":false,"n_fft":512,"n_mels":64,"offset":0.01,"pad":[0,0],"pad_mode":"zeros","power":1,"triangles":"mel",'
        '"win_length":400}}],"weights":"sha256:10086976"}'
    ),
}
KEYS = {
    "llp": tuple(IDENTITIES),
    "llp-clean": ("resnet152@639e991478e7", "r2plus1d_18@21fc002205b8", "vggish@6d1fd4150d47"),
    "per-second": ("resnet152@1fe6d358f071", "r2plus1d_18@d9d05b6ee198", "vggish@7c9c8735b857"),
}


@pytest.mark.parametrize("recipe", KEYS)
def test_keys_do_not_change_silently(recipe: str) -> None:
    plan = make_plan(get(recipe))
    if recipe == "llp":
        assert {feature.key: feature.identity_json for feature in plan.features} == IDENTITIES
    assert plan.keys == KEYS[recipe]


def test_llp_is_the_default_of_llp_manifests_and_of_no_others() -> None:
    assert default_for([LLP]).name == "llp"
    for other in (
        Clip("BjCEufrlXm4_20_30", "a.mp4", 0, 10 * NS, ("Speech", "Whale"), "train"),
        Clip("BjCEufrlXm4_20_30", "a.mp4", 0, 10 * NS),
        Clip("someclip", "a.mp4", 0, 10 * NS, ("Speech",), "train"),
    ):
        assert default_for([other]).name == "per-second"
        assert default_for([LLP, other]).name == "per-second"


@pytest.mark.parametrize("recipe", ["llp", "llp-clean"])
def test_rows_of_the_published_shapes(recipe: str) -> None:
    plan = make_plan(get(recipe))
    shapes = [(feature.grid.rows(10 * NS), *feature.backbone.dims) for feature in plan.features]
    assert shapes == [(80, 2048), (10, 512), (10, 128)]
    assert shapes == [(feature.grid.rows(9 * NS), *feature.backbone.dims) for feature in plan.features]


def test_what_llp_feeds() -> None:
    image, clip, sound = (feature.views[0] for feature in make_plan(get("llp")).features)
    assert isinstance(image, Frames)
    assert isinstance(clip, Frames)
    assert isinstance(sound, Sound)
    assert (image.count, image.resize, image.crop, image.jpeg, image.aspect) == (1, 256, 224, "mjpeg_200k", "storage")
    assert (clip.count, clip.resize, clip.crop, clip.jpeg) == (8, (112, 112), None, "mjpeg_200k")
    assert (sound.resample, sound.samples, sound.rate_hz) == ("moviepy", 15_600, 16_000)
    grids = [feature.grid for feature in make_plan(get("llp")).features]
    assert [(grid.sampling, grid.short) for grid in grids[:2]] == [("ffmpeg_r8", "stretch")] * 2
    assert grids[2].short == "zeros"


@pytest.mark.parametrize("recipe", ["llp-clean", "per-second"])
def test_the_others_feed_every_network_as_it_was_trained(recipe: str) -> None:
    for name in zoo.names():
        views, grid = get(recipe).column(zoo.get(name))
        assert views == zoo.get(name).views
        assert grid.sampling == "centered"


def test_equal_views_are_decoded_once() -> None:
    plan = make_plan(get("llp"), backbones=["resnet18", "resnet152", "vggish"])
    assert len(plan.taps(plan.keys)) == 2
    assert len(plan.taps(plan.keys[:1])) == 1


@pytest.mark.usefixtures("tiny")
def test_the_tiny_networks_through_llp(way: ModuleType, tmp_path: Path) -> None:
    """Shapes, times and masks of the whole way, on a clip whose frames are numbered."""
    from extract.testing import make_video

    make_video(tmp_path / "BjCEufrlXm4.mp4", width=64, height=48, fps=25, duration_s=10)
    make_video(tmp_path / "aaaaaaaaaaa.mp4", width=64, height=48, fps=25, duration_s=7)
    short = Clip("aaaaaaaaaaa_0_10", "aaaaaaaaaaa.mp4", 0, 10 * NS, ("Cat",), "train")
    write_manifest(tmp_path / "m.csv", [LLP, short])
    choices = Choices(backbones=way.TRIO, weights="random:0")
    done = api.run(tmp_path / "m.csv", choices, Machine(torch_threads=1), tmp_path / "s")
    store = Store(tmp_path / "s")
    for clip in (LLP.clip_id, short.clip_id):
        shapes = [store.rows(clip, store.resolve(name)).data.shape for name in way.TRIO]
        assert shapes == [(80, 8), (10, 8), (10, 8)]
    frames, clips, sound = (store.rows(LLP.clip_id, store.resolve(name)) for name in way.TRIO)
    assert frames.valid.all()
    assert clips.valid.all()
    assert frames.window_ns[:2].tolist() == [[0, NS // 8], [NS // 8, NS // 4]]
    # 25 frames per second at 8: every row shows a frame within a frame's length of its slot, ever later ones
    assert np.abs(frames.source_ns[:, 0] - frames.window_ns[:, 0]).max() < NS // 4
    assert (np.diff(frames.source_ns[:, 0]) > 0).all()
    assert clips.source_ns.reshape(-1).tolist() == frames.source_ns[:, 0].tolist(), "eight frames of each second"
    assert sound.source_ns[:, 0].tolist() == [second * NS for second in range(10)]
    # seven seconds: pictures are stretched over all rows, as the official scripts do; sound ends, and is marked
    stretched, _, ended = (store.rows(short.clip_id, store.resolve(name)) for name in way.TRIO)
    assert stretched.valid.all()
    assert stretched.source_ns.max() < 7 * NS
    assert ended.valid.tolist() == [1] * 7 + [0] * 3
    assert (done.complete, done.masked, done.masked_reasons) == (1, 1, {"too_short": 1})
    assert json.loads(store.keys()[0].identity)["grid"]["count"] in (80, 10)


def test_networks_that_see_and_hear_are_fed_as_in_the_clean_recipe() -> None:
    """Stretched frames and sound as it is would not be of the same moment."""
    joint = zoo.get("avslowfast_4x16_r50")
    assert get("llp").column(joint) == get("llp-clean").column(joint)
