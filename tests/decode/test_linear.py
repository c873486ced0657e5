"""Two pixels per axis: OpenCV's bytes to the bit, torch's and skimage's floats, and openl3's three ways with a picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.spec import Frames
from extract.decode.linear import cv2_linear, linear
from extract.decode.pictures import resized, resized_height_width
from extract.errors import TooSmall

SQUARE = Fraction(1)
OPENL3 = Frames(1, "openl3", 224, interpolation="linear")
SIDES = st.integers(1, 120)


def noise(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: every pixel another number, the same ones as when tests/golden was made."""
    y, x, c = np.mgrid[:height, :width, :3].astype(np.uint64)
    mixed = (x * x * 7 + y * y * 13 + x * y * 5 + x * 29 + c * 83 + np.uint64(1)) * np.uint64(2654435761)
    return (mixed % np.uint64(2**32) >> np.uint64(24)).astype(np.uint8)


def size_of(name: str) -> tuple[int, int]:
    height, width = map(int, name.split("x"))
    return height, width


def whole(size: tuple[int, int]) -> tuple[int, int, int, int]:
    return 0, 0, *size


def by_torch(picture: np.ndarray, size: tuple[int, int], dtype: str) -> np.ndarray:
    import torch
    from torch.nn import functional

    levels = torch.from_numpy(picture).permute(2, 0, 1)[None].to(getattr(torch, dtype))
    out = functional.interpolate(levels, size=size, mode="bilinear", align_corners=False, antialias=False)
    return out[0].permute(1, 2, 0).numpy()


def allowed(places: str) -> float:
    """Levels that torch may be away: on processors without fused multiply-add its float32 positions are rounded twice."""
    import torch

    return 0.05 if places == "float32" and torch.backends.cpu.get_cpu_capability() == "DEFAULT" else 1e-3


# ---- OpenCV ----------------------------------------------------------------------------------------------------------


def test_bytes_are_opencvs_at_every_ratio(golden: Path) -> None:
    """Made with opencv 4.10: smaller, larger, one axis each, the same, exactly half (an average of squares), one pixel."""
    with np.load(golden / "cv2_linear.npz") as arrays:
        assert len(arrays.files) == 11
        for name in arrays.files:
            source, size = map(size_of, name.split("_"))
            assert np.array_equal(cv2_linear(noise(*source), size, whole(size)), arrays[name]), name


def test_bytes_are_those_that_aves_keras_network_saw(shared: Path) -> None:
    view = Frames(16, (224, 224), None, interpolation="cv2_linear")
    with np.load(shared / "goldens/vgg19_ave_keras.npz") as arrays:
        assert np.array_equal(resized(arrays["image"], view, SQUARE), arrays["resized_cv2"])


@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES))
def test_fixed_point_is_within_a_level_of_exact(source: tuple[int, int], size: tuple[int, int]) -> None:
    picture = noise(*source)
    got = cv2_linear(picture, size, whole(size))
    assert np.abs(got - by_torch(picture, size, "float64")).max() < 2


@pytest.mark.parametrize("places", ["cv2", "float32", "float64"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_crop_is_the_crop_of_the_whole(places: str, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(8, 90)), data.draw(st.integers(8, 90))
    picture = noise(*data.draw(st.sampled_from([(97, 61), (2 * height, 2 * width), (height, width)])))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    crop = (top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))

    def make(part: tuple[int, int, int, int]) -> np.ndarray:
        size = (height, width)
        return cv2_linear(picture, size, part) if places == "cv2" else linear(picture, size, part, places)

    everything = make(whole((height, width)))
    assert np.array_equal(make(crop), everything[top : top + crop[2], left : left + crop[3]])


@pytest.mark.parametrize("interpolation", ["cv2_linear", "linear"])
def test_the_same_size_is_the_same_picture(interpolation: str) -> None:
    picture = noise(40, 56)
    assert np.array_equal(resized(picture, Frames(1, (40, 56), None, interpolation=interpolation), SQUARE), picture)


def test_a_read_only_picture_serves_as_well(golden: Path) -> None:
    """Pictures behind the JPEG stage are."""
    picture = noise(97, 131)
    picture.flags.writeable = False
    with np.load(golden / "cv2_linear.npz") as arrays:
        assert np.array_equal(cv2_linear(picture, (48, 64), whole((48, 64))), arrays["97x131_48x64"])


def test_the_crop_is_torchvisions() -> None:
    for interpolation in ("cv2_linear", "linear"):
        view = Frames(1, 61, 50, interpolation=interpolation)
        got = resized(noise(97, 131), view, SQUARE)
        uncropped = resized(noise(97, 131), Frames(1, (61, 82), None, interpolation=interpolation), SQUARE)
        assert np.array_equal(got, uncropped[6:56, 16:66]), "(61 - 50) / 2 rounds to even"


# ---- torch -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES))
def test_floats_are_torchs(source: tuple[int, int], size: tuple[int, int]) -> None:
    picture = noise(*source)
    for places in ("float32", "float64"):
        got = linear(picture, size, whole(size), places)
        assert got.dtype == np.float32
        assert np.abs(got - by_torch(picture, size, places)).max() <= allowed(places)


@pytest.mark.parametrize("source", [(240, 320), (360, 640), (480, 854), (720, 1280), (1080, 1920)])
def test_usual_videos_are_torchs(source: tuple[int, int]) -> None:
    """Positions in float32 differ from exact ones by up to 0.03 levels here: torch's must be met where it has them."""
    picture = noise(*source)
    for size in ((224, 224), (128, 171)):
        view = Frames(1, size, None, interpolation="linear")
        got = resized(picture, view, SQUARE)
        assert np.abs(got - by_torch(picture, size, "float32")).max() <= allowed("float32")
        exact = linear(picture, size, whole(size), "float64")
        assert np.abs(exact - by_torch(picture, size, "float64")).max() <= 1e-3


# ---- openl3 ----------------------------------------------------------------------------------------------------------


def test_openl3s_steps(golden: Path) -> None:
    """Made with openl3 0.4.2's steps and skimage 0.26; every seventh pixel. Halved levels show the division by the maximum."""
    halved = {"255x301": 2, "256x256": 2}
    with np.load(golden / "openl3_frames.npz") as arrays:
        sizes = [name for name in arrays.files if not name.endswith("_of_0_and_1")]
        assert len(sizes) == 9
        for name in sizes:
            got = resized(noise(*size_of(name)) // halved.get(name, 1), OPENL3, SQUARE)
            assert (got.shape, got.dtype) == ((224, 224, 3), np.float32)
            assert np.abs(got[::7, ::7] / np.float32(255) - arrays[name]).max() <= 1e-6, name


def test_openl3s_pictures(shared: Path) -> None:
    with np.load(shared / "goldens/openl3_image.npz") as arrays:
        for name in ("360x480", "240x320"):
            got = resized(arrays[f"image_{name}"], OPENL3, SQUARE) / np.float32(255)
            assert np.abs(got - arrays[f"pre_{name}"]).max() <= 1e-4
        small = resized(arrays["image_224"], OPENL3, SQUARE) / np.float32(255)
        assert [small.min(), small.max()] == arrays["pre_224_minmax"].tolist()
        assert np.abs(small - (arrays["image_224"] / 127.5 - 1)).max() <= 1e-6


def test_openl3_divides_only_by_what_is_more_than_one(golden: Path) -> None:
    got = resized(noise(255, 301) >> 7, OPENL3, SQUARE)
    with np.load(golden / "openl3_frames.npz") as arrays:
        assert np.abs(got[::7, ::7] / np.float32(255) - arrays["255x301_of_0_and_1"]).max() <= 1e-6
    assert got.max() == 255
    black = resized(np.zeros((240, 320, 3), np.uint8), OPENL3, SQUARE)
    assert not black.any()


def test_openl3_takes_the_maximum_of_what_it_keeps() -> None:
    picture = np.full((240, 320, 3), 100, np.uint8)
    picture[:, 0] = 255
    assert (resized(picture, OPENL3, SQUARE) == 255).all()


def test_openl3_goes_by_the_picture_as_it_is_shown() -> None:
    assert resized_height_width(240, 200, OPENL3, Fraction(3, 2)) == (240, 300)
    assert resized_height_width(576, 720, OPENL3, Fraction(16, 15)) == (256, 341)
    assert resized_height_width(224, 112, OPENL3, Fraction(2)) == (224, 224)
    stored = Frames(1, "openl3", 224, interpolation="linear", aspect="storage")
    assert resized_height_width(576, 720, stored, Fraction(16, 15)) == (256, 320)
    wide = resized(np.full((224, 112, 3), 200, np.uint8), OPENL3, Fraction(2))
    assert np.abs(wide - 145).max() < 1e-3, "shown 224 x 224: scaled to [-1, 1]"
    with pytest.raises(TooSmall, match=r"a picture of 200x240 is smaller than the 224x224 pixels"):
        resized(noise(240, 200), stored, Fraction(3, 2))


@pytest.mark.parametrize("size", [(223, 400), (400, 223), (180, 320), (1, 1)])
def test_openl3_takes_no_small_pictures(size: tuple[int, int]) -> None:
    with pytest.raises(TooSmall, match=f"{size[1]}x{size[0]} is smaller"):
        resized(np.zeros((*size, 3), np.uint8), OPENL3, SQUARE)
