"""The recipe of AVE: shapes, what is fed, and identities that must never change by accident."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from backbones import registry as zoo
from backbones.spec import Backbone, Frames, Sound
from extract import api
from extract.decode.pictures import resized
from extract.grid import NS, Grid
from extract.job import Choices
from extract.recipes import default_for, get, make_plan
from extract.running import Machine
from extract.store.catalog import Store
from extract.testing import make_video
from manifests import ave
from manifests.clip import Clip, write_manifest

CLIP = Clip("RUhOCu3LNXM_Church-bell", "RUhOCu3LNXM.mp4", labels=("Church bell",), split="train")

# The identities that every store of official AVE features is keyed by. A change here means that a new version finds nothing of
# what its users have computed, in days of work, and computes it again. So it is only right where the numbers themselves are to
# change; then say so in the changelog.
IDENTITIES = {
    "vgg19_ave@e9ca67858373": (
        '{"backbone":"vgg19_ave","grid":{"count":10,"hop_ns":1000000000,"sampling":"interval","short":"stretch","stride":1,'
        '"window_ns":1000000000},"precision":"float32","views":[{"aspect":"storage","count":16,"crop":null,"interpolation":'
        '"cv2_linear","jpeg":null,"kind":"Frames","mean":[0.4850196078431373,0.457956862745098,0.4076039215686274],'
        '"resize":[224,224],"std":[0.00392156862745098,0.00392156862745098,0.00392156862745098]}],"weights":"md5:253f8cb5"}'
    ),
    "vggish@7fb0eefa9a35": (
        '{"backbone":"vggish","grid":{"count":10,"hop_ns":1000000000,"short":"zeros","window_ns":1000000000},"precision":'
        '"float32","views":[{"kind":"Sound","rate_hz":16000,"resample":"resampy_rows","samples":15600,"spectrogram":'
        '{"db_range":80.0,"f_max_hz":7500.0,"f_min_hz":125.0,"frames":96,"hop_length":160,"log":"ln","mel_norm":null,'
        '"mel_scale":"htk","mel_sqrt":false,"n_fft":512,"n_mels":64,"offset":0.01,"pad":[0,0],"pad_mode":"zeros","power":1,'
        '"triangles":"mel","win_length":400}}],"weights":"sha256:10086976"}'
    ),
}
KEYS = {"ave": tuple(IDENTITIES), "ave-clean": ("vgg19_ave@38c39166c615", "vggish@6d1fd4150d47")}


@pytest.mark.parametrize("recipe", KEYS)
def test_keys_do_not_change_silently(recipe: str) -> None:
    plan = make_plan(get(recipe))
    if recipe == "ave":
        assert {feature.key: feature.identity_json for feature in plan.features} == IDENTITIES
    assert plan.keys == KEYS[recipe]


def test_ave_is_the_default_of_ave_manifests_and_of_no_others() -> None:
    repeated = replace(CLIP, clip_id="RUhOCu3LNXM_Rodents-rats-mice", labels=("Rodents, rats, mice",), split="")
    assert default_for([CLIP, repeated]).name == "ave"
    for other in (
        replace(CLIP, clip_id="RUhOCu3LNXM_Whale", labels=("Whale",)),
        replace(CLIP, clip_id="RUhOCu3LNXM_Bark"),
        replace(CLIP, clip_id="RUhOCu3LNXM"),
        replace(CLIP, clip_id="short_Church-bell"),
        replace(CLIP, labels=("Church bell", "Bark")),
        replace(CLIP, labels=()),
    ):
        assert default_for([other]).name == "per-second"
        assert default_for([CLIP, other]).name == "per-second"


def test_the_official_list_is_claimed(shared: Path) -> None:
    built = ave.clips(shared / "data/ave/Annotations.txt")
    assert ave.categories(built.clips) == ave.LABELS
    assert default_for(built.clips).name == "ave"


@pytest.mark.parametrize("recipe", ["ave", "ave-clean"])
@pytest.mark.parametrize("seconds", [9, 10, 12])
def test_rows_of_the_published_shapes(recipe: str, seconds: int) -> None:
    features = make_plan(get(recipe)).features
    shapes = [(feature.grid.rows(seconds * NS), *feature.backbone.dims) for feature in features]
    assert shapes == [(10, 7, 7, 512), (10, 128)]


def test_what_ave_feeds() -> None:
    plan = make_plan(get("ave"), backbones=["vgg19_ave", "vggish", "resnet152", "r2plus1d_18"])
    (maps,), (sound,), (image,), (clip,) = (feature.views for feature in plan.features)
    assert maps == replace(zoo.get("vgg19_ave").view, aspect="storage")
    assert (maps.count, maps.resize, maps.crop, maps.interpolation) == (16, (224, 224), None, "cv2_linear")
    assert sound == replace(zoo.get("vggish").view, resample="resampy_rows")
    assert image == replace(zoo.get("resnet152").view, aspect="storage")
    assert clip == replace(zoo.get("r2plus1d_18").view, aspect="storage")
    frames = Grid(count=10, sampling="interval", short="stretch")
    assert [feature.grid for feature in plan.features] == [frames, Grid(count=10, short="zeros"), frames, frames]


def test_what_the_scripts_cannot_feed_is_fed_as_it_was_trained() -> None:
    sound = Sound(48_000, 480_000)
    for views in ((sound,), (Frames(8, (112, 112), None), replace(sound, samples=48_000))):
        backbone = Backbone("other", views, (4,), build=torch.nn.Identity, weights=())
        assert get("ave").column(backbone) == get("ave-clean").column(backbone) == (views, Grid(count=10))


def test_clean_feeds_every_network_as_it_was_trained() -> None:
    for name in zoo.names():
        assert get("ave-clean").column(zoo.get(name)) == (zoo.get(name).views, Grid(count=10))


class Thumbnail(torch.nn.Module):
    """Every frame of a window as a picture of 7 x 7, in bytes, averaged over time."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(frames.flatten(0, 1), 7)
        return small.reshape(*frames.shape[:2], 3, 7, 7).mean(1).permute(0, 2, 3, 1)


def official_maps(path: Path, view: Frames) -> np.ndarray:
    """Of all frames of a file: 16 of each tenth, squashed, less the mean colour, in pictures of 7 x 7, averaged."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    interval = int(len(frames) / 10)
    rows = []
    for second in range(10):
        chosen = [frames[int(second * interval + (i / 16.0) * interval)] for i in range(16)]
        small = [resized(picture, view, Fraction(1)).reshape(7, 32, 7, 32, 3).mean((1, 3)) for picture in chosen]
        rows.append(np.mean(small, 0) - (123.68, 116.779, 103.939))
    return np.array(rows)


def test_two_clips_all_the_way(tmp_path: Path, way, tiny) -> None:
    """A network of no weights through the view of vgg19_ave, against its definition; and networks of other kinds."""
    view = zoo.get("vgg19_ave").view
    thumbnail = Backbone("tiny_ave", view, (7, 7, 3), build=Thumbnail, weights=(), batch=2)
    zoo.register(thumbnail)
    make_video(tmp_path / "RUhOCu3LNXM.mp4", width=64, height=48, fps=25, duration_s=10.28)
    make_video(tmp_path / "aaaaaaaaaaa.mp4", width=64, height=48, fps=12, duration_s=8)
    short = Clip("aaaaaaaaaaa_Cat", "aaaaaaaaaaa.mp4", labels=("Cat",))
    write_manifest(tmp_path / "m.csv", [CLIP, short])
    names = ("tiny_ave", *way.TRIO)
    choices = Choices(backbones=names, weights="random:0")
    done = api.run(tmp_path / "m.csv", choices, Machine(torch_threads=1), tmp_path / "s")
    store = Store(tmp_path / "s")
    for clip in (CLIP, short):
        maps, frames, clips, sound = (store.rows(clip.clip_id, store.resolve(name)) for name in names)
        expected = official_maps(tmp_path / clip.path, view)
        assert maps.data.shape == expected.shape
        np.testing.assert_allclose(maps.data, expected, atol=0.01)
        assert [rows.data.shape for rows in (frames, clips, sound)] == [(10, 8)] * 3
        assert maps.valid.all()
        assert frames.source_ns[:, 0].tolist() == maps.source_ns[:, 0].tolist(), "the first frame of each tenth"
        assert clips.source_ns[:, 0].tolist() == maps.source_ns[:, 0].tolist()
    # 257 frames: 25 for each row, and seven are left over
    times = store.rows(CLIP.clip_id, store.resolve("tiny_ave")).source_ns
    assert times[:, 0].tolist() == [second * NS for second in range(10)]
    assert times[0].tolist() == [int(i / 16 * 25) * NS // 25 for i in range(16)]
    sound = store.rows(short.clip_id, store.resolve("tiny_sound"))
    assert sound.valid.tolist() == [1] * 8 + [0] * 2
    assert (done.complete, done.masked, done.masked_reasons) == (1, 1, {"too_short": 1})
