"""The resize equals PIL's, bit for bit, horizontal axis first, whatever Pillow is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extract.decode.resize import Source

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def picture(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return noise if seed % 2 else (noise > 127).astype(np.uint8) * 255  # extremes make bicubic overshoot


def by_axis(image: np.ndarray, height: int, width: int, name: str) -> np.ndarray:
    """PIL, one axis per call: no version of it can choose another order."""
    narrow = Image.fromarray(image).resize((width, image.shape[0]), FILTERS[name])
    return np.asarray(narrow.resize((width, height), FILTERS[name]))


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    to=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    seed=st.integers(0, 1000),
    name=st.sampled_from(sorted(FILTERS)),
)
def test_any_size_is_bit_equal(size: tuple[int, int], to: tuple[int, int], seed: int, name: str) -> None:
    image = picture(*size, seed)
    ours = Source(image).resized(to, (0, 0, *to), name)
    assert np.array_equal(ours, by_axis(image, *to, name))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_crop_is_the_crop_of_the_whole(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(8, 120)), data.draw(st.integers(8, 120))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    source = Source(picture(97, 131, 1))
    whole = source.resized((height, width), (0, 0, height, width))
    assert np.array_equal(source.resized((height, width), (top, left, h, w)), whole[top : top + h, left : left + w])


@pytest.mark.parametrize("size", [(240, 320), (360, 640), (480, 360), (720, 1280), (144, 192)])
def test_usual_videos_equal_one_call_of_pil(size: tuple[int, int]) -> None:
    """The order of the axes does not matter to users of Pillow 12 and 13 at the sizes that videos have."""
    image = picture(*size, 3)
    for to in ((256, round(256 * size[1] / size[0])), (112, 112)):
        whole = np.asarray(Image.fromarray(image).resize((to[1], to[0]), Image.Resampling.BILINEAR))
        assert np.array_equal(Source(image).resized(to, (0, 0, *to)), whole)
