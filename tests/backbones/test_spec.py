from __future__ import annotations

import pytest

from backbones import registry
from backbones.spec import Frames, LogMel, Sound, describe_view
from backbones.vggish import VIEW

MEL = LogMel(512, 400, 160, 64, 125.0, 7500.0)


def test_input_shapes():
    assert VIEW.input_shape == (96, 64)
    assert registry.get("r2plus1d_18").views[0].input_shape == (16, 3, 112, 112)
    assert Sound(48_000, 48_000, LogMel(512, 512, 242, 0, 0.0, 24_000.0)).input_shape == (197, 257)
    assert Sound(16_000, 100).input_shape == (100,)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Frames(0, 256, 224), "count must be >= 1"),
        (lambda: Frames(1, 224, 256), "must not exceed"),
        (lambda: Frames(1, 224, None).input_shape, "no fixed size"),
        (lambda: LogMel(256, 400, 160, 64, 0.0, 8000.0), "win_length must be in"),
        (lambda: LogMel(512, 400, 0, 64, 0.0, 8000.0), "hop_length must be >= 1"),
        (lambda: LogMel(512, 400, 160, 64, 8000.0, 125.0), "f_min_hz < f_max_hz"),
        (lambda: Sound(0, 100), "must be >= 1"),
        (lambda: Sound(16_000, 399, MEL), "1 spectrogram frames do not fit into 399 samples: only 0 do"),
        (lambda: Sound(8_000, 15_600, MEL), "exceeds half the rate"),
    ],
)
def test_views_that_cannot_be(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_97_frames_do_not_fit_into_a_vggish_example():
    mel = LogMel(512, 400, 160, 64, 125.0, 7500.0, frames=97)
    with pytest.raises(ValueError, match="97 spectrogram frames do not fit into 15600 samples: only 96 do"):
        Sound(16_000, 15_600, mel)


def test_views_of_different_kinds_never_look_alike():
    descriptions = [str(describe_view(view)) for name in registry.names() for view in registry.get(name).views]
    assert len(set(descriptions)) == len({view for name in registry.names() for view in registry.get(name).views})
