"""AVSlowFast 4x16 with ResNet-50 (Xiao et al. 2020): one network on the frames and the sound of the same window.

Its weights were never published. A checkpoint of one's own from the author's code (facebookresearch/SlowFast, pull request
219) loads as it is; pytorchvideo's ``create_audio_visual_slowfast`` is another network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.slowfast import SAMPLED, VIEW, WINDOW_S, pyslowfast
from backbones.spec import Backbone, LogMel, Sound, State, View, Weights

if TYPE_CHECKING:
    import torch

RATE_HZ = 16_000
SOUND = Sound(
    rate_hz=RATE_HZ,
    samples=round(WINDOW_S * RATE_HZ),
    spectrogram=LogMel(
        n_fft=512,
        win_length=512,
        hop_length=256,
        n_mels=80,
        f_min_hz=0.0,
        f_max_hz=8000.0,
        mel_scale="htk",
        mel_norm="slaney",
        power=2,
        log="ln",
        offset=1e-8,
    ),
)

_WEIGHTS = (
    Weights(
        uri="",
        sha256=None,
        licence="-",
        filename="avslowfast_4x16_r50.pth",
        note="your own training with the author's code (SlowFast pull request 219, AVSLOWFAST_4x16_R50.yaml)",
    ),
)
_SOUND_NOTE = (
    "the log-mel of the window is taken at 128 places and standardised in the network; sound is resampled with soxr, where "
    "the author's code used a polyphase filter"
)


def _build_joint(output: Literal["all", "slow"]) -> torch.nn.Module:
    from backbones.nets.avslowfast import AVSlowFast

    return AVSlowFast(output)


def _build_fast() -> torch.nn.Module:
    from backbones.nets.slowfast import SlowFast

    return SlowFast("fast")


def _build_audio() -> torch.nn.Module:
    from backbones.nets.avslowfast import AudioOnly

    return AudioOnly()


def _pull_request(state: State) -> State:
    out: dict[str, torch.Tensor] = {}
    for key, tensor in pyslowfast(state).items():
        if ".avs." in key or key.startswith(("fuse.5.", "listen.5.")):  # heads of the synchronisation loss
            continue
        # one frame deep (audio) and one band high as well (its lateral connections): we keep the axes that are used
        if tensor.ndim == 5 and key.startswith("audio."):
            tensor = tensor.squeeze(2)  # noqa: PLW2901
        elif tensor.ndim == 5 and key.startswith("listen."):
            tensor = tensor.squeeze(4).squeeze(2)  # noqa: PLW2901
        out[key] = tensor
    return out


_LAYOUT = Layout("AVSlowFast in PySlowFast", "s1.pathway2_stem.conv_t.weight", _pull_request)


def _adapt(unused: tuple[str, ...], states: tuple[State, ...]) -> State:
    return {key: t for key, t in by_layout(states[0], (_LAYOUT,)).items() if not key.startswith(unused)}


def _register(
    suffix: str,
    view: View | tuple[View, ...],
    build: Callable[[], torch.nn.Module],
    dims: int,
    unused: tuple[str, ...],
    params: int,
    gmacs: float,
    batch: int,
    note: str,
) -> None:
    register(
        Backbone(
            name=f"avslowfast_4x16_r50{suffix}",
            view=view,
            dims=(dims,),
            build=build,
            weights=(_WEIGHTS,),
            adapt=partial(_adapt, unused),
            window_s=WINDOW_S,
            batch=batch,
            params=params,
            gmacs=gmacs,
            paper="Xiao et al. 2020, Audiovisual SlowFast Networks for Video Recognition",
            note=note,
        )
    )


_register(
    "",
    (VIEW, SOUND),
    partial(_build_joint, "all"),
    3328,
    (),
    40_489_384,
    39.60,
    2,
    f"global means, 2048 of the slow pathway, 256 of the fast one, 1024 of sound; {SAMPLED}; {_SOUND_NOTE}",
)
_register(
    "_slow",
    (VIEW, SOUND),
    partial(_build_joint, "slow"),
    2048,
    ("fast.res.5.", "audio.res.5."),
    36_424_360,
    38.15,
    2,
    f"global mean of the slow pathway, into which sound flows; {SAMPLED}; {_SOUND_NOTE}",
)
_register(
    "_fast",
    VIEW,
    _build_fast,
    256,
    ("slow.", "audio.", "fuse.", "listen."),
    514_152,
    6.90,
    2,
    f"global mean of the fast pathway, which neither the slow one nor sound flows into; {SAMPLED}",
)
_register(
    "_audio",
    SOUND,
    _build_audio,
    1024,
    ("slow.", "fast.", "fuse.", "listen."),
    6_124_032,
    4.02,
    4,
    f"global mean of the audio pathway, which needs no frames; {_SOUND_NOTE}",
)
