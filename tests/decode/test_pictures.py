"""Pictures are PIL's to the bit, colours are what the tags say, and the JPEG stage is the official one's."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from backbones.spec import Frames
from extract.decode.pictures import Mjpeg, ToRgb, Upright, resized, resized_height_width, short_side, turns
from extract.errors import Undecodable
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video, numbered_picture, read_frame_number

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
LLP = "clips/YapengTian__AVVP-ECCV20/BjCEufrlXm4.mp4"


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pil(picture: np.ndarray, width: int, height: int, name: str = "bilinear") -> Image.Image:
    """What Image.resize gives: the horizontal axis first, as all Pillows before 13 did for every size."""
    image = Image.fromarray(picture)
    return image.resize((width, image.height), FILTERS[name]).resize((width, height), FILTERS[name])


def resize_functional(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width that torchvision's Resize(size) gives."""
    from torchvision import transforms

    image = transforms.Resize(size)(Image.new("L", (width, height)))
    return image.height, image.width


# ---- size ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200), st.integers(1, 200), st.integers(1, 90), st.integers(1, 90), st.sampled_from(sorted(FILTERS))
)
def test_squashing_is_pils_resize(height, width, out_h, out_w, name):
    picture = noise(height, width)
    got = resized(picture, Frames(1, (out_h, out_w), None, interpolation=name), Fraction(1))
    assert (got == np.asarray(pil(picture, out_w, out_h, name))).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 260), st.integers(2, 260), st.integers(2, 80), st.data(), st.sampled_from(sorted(FILTERS)))
def test_short_side_and_crop_are_torchvisions_on_pil(height, width, size, data, name):
    from torchvision import transforms

    crop = data.draw(st.integers(1, size))
    picture = noise(height, width)
    out_h, out_w = resize_functional(height, width, size)
    official = transforms.CenterCrop(crop)(pil(picture, out_w, out_h, name))
    got = resized(picture, Frames(1, size, crop, interpolation=name), Fraction(1))
    assert (got == np.asarray(official)).all()


@pytest.mark.parametrize(("height", "width"), [(240, 320), (360, 640), (1080, 1920), (320, 240), (256, 256), (1, 1)])
def test_the_sizes_of_the_trade(height, width):
    """256 -> 224 as every ImageNet network wants it, and R(2+1)D's 128 x 171 -> 112."""
    from torchvision import transforms

    picture = noise(height, width)
    image = Image.fromarray(picture)
    official = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(image)
    assert (resized(picture, Frames(1, 256, 224), Fraction(1)) == np.asarray(official)).all()
    official = transforms.CenterCrop(112)(pil(picture, 171, 128))
    assert (resized(picture, Frames(1, (128, 171), 112), Fraction(1)) == np.asarray(official)).all()


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 400))
def test_short_side(height, width, size):
    high, wide = short_side(height, width, size)
    assert min(high, wide) == size or max(high, wide) == 1
    assert abs(wide * height - high * width) <= max(height, width), "the aspect, but for the truncation"


def test_display_aspect():
    assert resized_height_width(576, 720, Frames(1, 256, 224), Fraction(16, 15)) == (256, 341)
    assert resized_height_width(576, 720, Frames(1, 256, 224, aspect="storage"), Fraction(16, 15)) == (256, 320)
    assert resized_height_width(576, 720, Frames(1, (112, 112), None), Fraction(16, 15)) == (112, 112)
    assert resized_height_width(240, 320, Frames(1, 256, 224), Fraction(1, 10**9))[1] == 256, "never less than a pixel"


# ---- upright ---------------------------------------------------------------------------------------------------------

ONE = 1 << 16


def matrix(a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    return (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarter", range(4))
def test_every_quarter_turn_and_mirror(quarter, mirrored):
    """The filters do what the matrix does to the corner points: (x, y) -> (a x + c y, b x + d y)."""
    a, b, c, d = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)][quarter]
    if mirrored:
        a, c = -a, -c
    pixels = noise(4, 6)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    steps = turns(matrix(a, b, c, d))
    got = pixels
    for step in steps:
        got = {"hflip": np.fliplr, "vflip": np.flipud, "transpose=cclock_flip": lambda p: p.transpose(1, 0, 2)}[step](
            got
        )
    y, x = (axis.ravel() for axis in np.mgrid[0:4, 0:6])
    u, v = a * x + c * y, b * x + d * y
    wanted = np.zeros_like(got)
    wanted[v - v.min(), u - u.min()] = pixels[y, x]
    assert (got == wanted).all()
    assert Upright()(frame)[1] is False, "a frame without a matrix stays as it is"


def test_a_slight_tilt_is_ignored_and_a_real_one_refused():
    assert turns((65_000, 900, 0, -900, 65_000, 0, 0, 0, 1 << 30)) == ()
    with pytest.raises(Undecodable, match=r"\(46341, 46341, -46341, 46341\) is neither a quarter turn nor a mirror"):
        turns((46_341, 46_341, 0, -46_341, 46_341, 0, 0, 0, 1 << 30))
    with pytest.raises(Undecodable):
        turns((0,) * 9)


# ---- colour ----------------------------------------------------------------------------------------------------------

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
PATCHES = np.array(
    [
        [16, 16, 16],
        [235, 235, 235],
        [200, 30, 40],
        [40, 180, 60],
        [30, 60, 200],
        [220, 200, 30],
        [128, 128, 128],
        [60, 20, 90],
    ]
)


def to_yuv(rgb: np.ndarray, standard: str, full: bool) -> np.ndarray:
    kr, kb = WEIGHTS[standard]
    red, green, blue = rgb.astype(float).T / 255
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
    scaled = (y * 255, u * 255 + 128, v * 255 + 128) if full else (y * 219 + 16, u * 224 + 128, v * 224 + 128)
    return np.rint(np.stack(scaled)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("standard", "full", "tagged"),
    [(s, f, True) for s in WEIGHTS for f in (False, True)] + [("bt601", False, False)],
)
def test_colours_against_the_formulas(standard, full, tagged):
    """Untagged pictures are BT.601 of limited range, as ffmpeg takes them."""
    from av.video.reformatter import ColorRange, Colorspace

    frame = av.VideoFrame(16 * len(PATCHES), 16, "yuv420p")
    for plane, values, size in zip(frame.planes, to_yuv(PATCHES, standard, full), (16, 8, 8), strict=True):
        row = np.repeat(values, size)
        data = np.zeros((plane.height, plane.line_size), np.uint8)
        data[:, : len(row)] = row
        plane.update(data.tobytes())
    if tagged:
        frame.colorspace = Colorspace.ITU709 if standard == "bt709" else Colorspace.ITU601
        frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
    got = ToRgb()(frame)[8, 8::16].astype(int)
    assert np.abs(got - PATCHES).max() <= 2


def test_the_bt709_full_range_clip_against_the_formulas(run, shared):
    path = shared / "clips/pytorch__torchcodec/bt709_full_range.mp4"
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
    y, u, v = (
        np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].astype(float) for p in frame.planes
    )
    u, v = (np.repeat(np.repeat(c, 2, 0), 2, 1)[: y.shape[0], : y.shape[1]] - 128 for c in (u, v))
    wanted = np.stack([y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u], axis=2).clip(0, 255)
    got = run(path, [Tap(Frames(1, y.shape, None), Grid(NS // 30, NS // 30, 1))]).rows[0][0, 0]
    flat = np.abs(np.diff(u, axis=1, prepend=u[:, :1])) + np.abs(np.diff(u, axis=0, prepend=u[:1])) < 1
    assert flat.mean() > 0.3
    difference = np.abs(got - wanted)[flat]
    assert np.median(difference) <= 2
    assert difference.mean() <= 2


def test_turning_a_picture_does_not_change_its_colours(run, tmp_path):
    """The turn is done by FFmpeg's filters on the decoder's own format, so tags must get through them."""
    options = {"width": 160, "height": 160, "frames": 1, "audio": None, "video": "mjpeg"}
    flat = make_video(tmp_path / "flat.mp4", **options)
    turned = make_video(tmp_path / "turned.mp4", rotation=90, **options)
    tap = Tap(Frames(1, (160, 160), None), Grid(NS // 30, NS // 30, 1))
    straight, upright = (run(p, [tap]).rows[0][0, 0].astype(int) for p in (flat, turned))
    assert np.abs(straight - upright).mean() < 2


def test_turned_limited_bt709_keeps_its_tags():
    from av.video.reformatter import ColorRange, Colorspace

    from extract.decode.pictures import _graph

    frame = av.VideoFrame.from_ndarray(noise(48, 64) // 4 * 4, format="rgb24").reformat(
        format="yuv444p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.JPEG
    )
    frame.colorspace, frame.color_range = Colorspace.ITU709, ColorRange.JPEG
    graph = _graph(("hflip",), frame)
    graph.vpush(frame)
    assert (ToRgb()(graph.vpull()) == np.fliplr(ToRgb()(frame))).all()


# ---- the JPEG stage --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llp_jpegs(shared) -> tuple[list[np.ndarray], list[dict]]:
    """Each of the 82 slots through the JPEG stage: pictures, and quantisation tables of the bytes behind them."""
    slots = json.loads((shared / "data/llp/frames_BjCEufrlXm4/frame_map.json").read_text())["jpeg_to_source_frame"]
    with av.open(str(shared / LLP)) as file:
        frames = list(file.decode(video=0))
    stage = Mjpeg()
    tables = []
    opened = Image.open

    def noting(stream):
        image = opened(stream)
        tables.append(image.quantization)
        return image

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("extract.decode.pictures.Image.open", noting)
        pictures = [stage(frames[slot]) for slot in slots]
    return pictures, tables


def official_jpeg(shared: Path, slot: int) -> Image.Image:
    return Image.open(shared / f"data/llp/frames_BjCEufrlXm4/{slot + 1:06d}.jpg")


def test_jpegs_look_like_the_official_ones(shared, llp_jpegs):
    distances = [
        np.abs(got.astype(int) - np.asarray(official_jpeg(shared, k).convert("RGB"))).mean()
        for k, got in enumerate(llp_jpegs[0])
    ]
    assert len(distances) == 82
    assert np.mean(distances) <= 0.5
    assert max(distances) <= 2.0


def test_jpegs_have_the_official_quality(shared, llp_jpegs):
    same = [got == official_jpeg(shared, k).quantization for k, got in enumerate(llp_jpegs[1])]
    assert len(same) == 82
    assert sum(same) >= 80


def test_the_whole_llp_view_is_official_to_the_last_row(run, shared, llp_jpegs):
    """Rows of the recipe `llp` are PIL's resize of exactly these JPEGs; slots 20 and 61 are left out."""
    from torchvision import transforms

    view = Frames(1, 256, 224, jpeg="mjpeg_200k", aspect="storage")
    grid = Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch")
    got = run(shared / LLP, [Tap(view, grid)]).rows[0]
    kept = [picture for k, picture in enumerate(llp_jpegs[0]) if k not in (20, 61)]
    official = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for row, picture in zip(got, kept, strict=True):
        assert (row[0] == np.asarray(official(Image.fromarray(picture)))).all()


def test_the_stage_repeats_itself(llp_jpegs, run, shared):
    view = Frames(8, (112, 112), None, jpeg="mjpeg_200k", aspect="storage")
    tap = Tap(view, Grid(count=10, sampling="ffmpeg_r8", short="stretch"))
    first, second = (run(shared / LLP, [tap]).rows[0] for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize(("width", "height", "format_"), [(1, 1, "yuv444p"), (33, 17, "yuv420p"), (16, 16, "yuvj422p")])
def test_jpeg_of_odd_sizes_and_formats(width, height, format_):
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 100, np.uint8), format="rgb24").reformat(
        format=format_
    )
    got = Mjpeg()(frame)
    assert got.shape == (height, width, 3)
    assert np.abs(got.astype(int) - 100).max() <= 4


def test_a_picture_that_changes_its_size_is_scaled_to_the_first_one_as_ffmpeg_does():
    stage = Mjpeg()
    for k, (width, height) in enumerate([(320, 240), (160, 120), (640, 400), (320, 240)]):
        frame = av.VideoFrame.from_ndarray(numbered_picture(width, height)(k, 0.0), format="rgb24")
        got = stage(frame)
        assert got.shape == (240, 320, 3)
        assert read_frame_number(got) == k


def test_the_quality_depends_on_the_sequence():
    """Why every slot must pass in order: the same picture after others has another quality."""
    frame = av.VideoFrame.from_ndarray(noise(240, 320), format="rgb24")
    alone, after = Mjpeg(), Mjpeg()
    for _ in range(10):
        last = after(frame)
    assert (alone(frame) != last).any()
