from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.r2plus1d import LLP_VIEW
from backbones.resnet import VIEW
from backbones.spec import Frames
from extract.prepare import frames_to_tensor


def pixels(n: int, view, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, view.count, *view.height_width, 3), dtype=np.uint8)


def test_bits_are_those_of_torchvisions_transforms():
    transforms = pytest.importorskip("torchvision.transforms")
    frames = pixels(3, VIEW)
    frames[0, 0, :16, :16] = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)  # every level in every channel
    chain = transforms.Compose([transforms.ToTensor(), transforms.Normalize(VIEW.mean, VIEW.std)])
    expected = torch.stack([chain(Image.fromarray(frame)) for frame in frames[:, 0]])
    got = frames_to_tensor(frames, VIEW)
    assert got.shape == (3, 1, 3, 224, 224)
    assert torch.equal(got[:, 0], expected)


def test_memory_is_channels_last_for_images_and_clips():
    images = frames_to_tensor(pixels(2, VIEW), VIEW)
    assert images.squeeze(1).is_contiguous(memory_format=torch.channels_last)
    clips = frames_to_tensor(pixels(2, LLP_VIEW), LLP_VIEW)
    assert clips.shape == (2, 8, 3, 112, 112)
    assert clips.transpose(1, 2).is_contiguous(memory_format=torch.channels_last_3d)


def test_order_of_frames_and_channels():
    frames = np.zeros((2, 8, 112, 112, 3), dtype=np.uint8)
    frames[1, 5, 7, 9, 2] = 255
    got = frames_to_tensor(frames, LLP_VIEW)
    off = got - got[0, 0, :, :1, :1]
    assert off.nonzero().tolist() == [[1, 5, 2, 7, 9]]
    assert got[1, 5, 2, 7, 9].item() == np.float32((np.float32(1) - np.float32(0.37645)) / np.float32(0.216989))


def test_arithmetic_is_float32_whatever_the_result():
    frames = pixels(1, VIEW)
    half = frames_to_tensor(frames, VIEW, dtype=torch.bfloat16)
    assert half.dtype is torch.bfloat16
    assert torch.equal(half, frames_to_tensor(frames, VIEW).to(torch.bfloat16))


def test_input_is_left_alone_even_where_it_is_read_only_or_strided():
    frames = pixels(2, VIEW)
    expected = frames_to_tensor(frames, VIEW)
    copy = frames.copy()
    copy.flags.writeable = False
    assert torch.equal(frames_to_tensor(copy, VIEW), expected)
    assert torch.equal(frames_to_tensor(np.repeat(frames, 2, axis=0)[::2], VIEW), expected)
    assert np.array_equal(copy, frames)


LINEAR = replace(VIEW, interpolation="linear")


def test_float_levels_get_the_arithmetic_of_bytes():
    frames = pixels(2, VIEW)
    got = frames_to_tensor(frames.astype(np.float32), LINEAR)
    assert torch.equal(got, frames_to_tensor(frames, VIEW))
    assert torch.equal(got, frames_to_tensor(frames, LINEAR))
    assert got.squeeze(1).is_contiguous(memory_format=torch.channels_last)
    between = frames_to_tensor(frames.astype(np.float32) + np.float32(0.25), LINEAR)
    step = torch.tensor(0.25 / 255) / torch.tensor(VIEW.std).view(3, 1, 1)
    assert torch.allclose(between - got, step.expand_as(got), atol=2e-6)


def test_openl3s_range_comes_out_as_minus_one_to_one():
    view = Frames(1, "openl3", 224, mean=(0, 0, 0), std=(1, 1, 1), interpolation="linear")
    levels = np.full((1, 1, 224, 224, 3), -255, np.float32)
    levels[..., 1] = 255
    got = frames_to_tensor(levels, view)
    assert got.unique(dim=2).shape[2] == 2
    assert (got.min().item(), got.max().item()) == (-1.0, 1.0)


def test_float_levels_are_left_alone():
    frames = pixels(2, VIEW).astype(np.float32)
    copy = frames.copy()
    expected = frames_to_tensor(frames, LINEAR)
    assert np.array_equal(frames, copy)
    copy.flags.writeable = False
    assert torch.equal(frames_to_tensor(copy, LINEAR), expected)


def test_the_message_names_what_a_linear_view_takes():
    with pytest.raises(ValueError, match=r"uint8 or float32, got .* float64"):
        frames_to_tensor(np.zeros((1, 1, 224, 224, 3)), LINEAR)


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((2, 224, 224, 3), np.uint8, r"must be \(n, t, h, w, 3\) uint8"),
        ((2, 1, 3, 224, 224), np.uint8, r"must be \(n, t, h, w, 3\) uint8"),
        ((2, 1, 224, 224, 3), np.float32, r"must be .* got \(2, 1, 224, 224, 3\) float32"),
        ((2, 8, 224, 224, 3), np.uint8, r"wants 1 frames of \(224, 224\) pixels, got \(8, 224, 224\)"),
        ((2, 1, 112, 112, 3), np.uint8, r"got \(1, 112, 112\)"),
    ],
)
def test_other_arrays_are_refused(shape, dtype, said):
    with pytest.raises(ValueError, match=said):
        frames_to_tensor(np.zeros(shape, dtype=dtype), VIEW)
