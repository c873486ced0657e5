"""The pair of networks of CMAC (Min et al. 2021): R(2+1)D-18 on the frames of a second, ResNet-9 on its sound.

The paper follows GDT (Patrick et al. 2021, facebookresearch/GDT), and so does what it leaves open: the standardisation of
pixels, the front end of the sound. CMAC published neither code nor weights; GDT's visual networks have the same layers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from backbones.layouts import Layout, by_layout
from backbones.r2plus1d import build_18
from backbones.registry import register
from backbones.spec import Backbone, Frames, LogMel, Sound, State, Weights

if TYPE_CHECKING:
    import torch

_MEAN, _STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
VIEW = Frames(count=30, resize=128, crop=128, mean=_MEAN, std=_STD, interpolation="linear")
# python_speech_features.logfbank on 16-bit numbers: their range over the square root of its 1/n_fft is 32768 / 32
SOUND = Sound(
    rate_hz=24_000,
    samples=24_000,
    spectrogram=LogMel(
        n_fft=1024,
        win_length=480,
        hop_length=240,
        n_mels=257,
        f_min_hz=0.0,
        f_max_hz=12_000.0,
        triangles="bins",
        power=2,
        log="ln_max",
        offset=2.220446049250313e-16,
        window="rectangular",
        preemphasis=0.97,
        scale=1024.0,
    ),
)
_PAPER = "Min et al. 2021, Cross-Modal Attention Consistency for Video-Audio Unsupervised Learning"


def _build_audio() -> torch.nn.Module:
    from backbones.nets.cmac import ResNet9

    return ResNet9()


def _bare(state: State) -> State:
    return {f"net.{key}": tensor for key, tensor in state.items() if not key.startswith("fc.")}


def _network(name: str, state: State) -> State:
    """One of the two networks of GDT's model; the other one and the contrastive heads are left out."""
    others = {"video_network.", "audio_network.", "mlp_v.", "mlp_a."} - {f"{name}."}
    kept = {key: tensor for key, tensor in state.items() if not key.startswith(tuple(others))}
    # neither library's classifier is part of GDT's forward, but the audio network of its model has one
    ours = {key: tensor for key, tensor in kept.items() if not key.startswith(f"{name}.base.fc.")}
    return {key.replace(f"{name}.base.", "net.", 1): tensor for key, tensor in ours.items()}


def _adapt(network: str, bare: str, states: tuple[State, ...]) -> State:
    layouts = (
        Layout("torchvision", bare, _bare),
        Layout("GDT", f"{network}.base.{bare}", partial(_network, network)),
    )
    return by_layout(states[0], layouts)


_visual = partial(_adapt, "video_network", "layer1.0.conv1.0.0.weight")
_audio = partial(_adapt, "audio_network", "layer1.0.conv1.weight")


def _own(name: str, more: str = "") -> tuple[tuple[Weights, ...], ...]:
    note = f"your own training: the network alone in torchvision's layout, or GDT's whole model{more}"
    return ((Weights(uri="", sha256=None, licence="-", filename=f"{name}.pth", note=note),),)


# facebookresearch/GDT: the 40 filters of its published training script make its audio networks other ones than ours
_STAND_IN = (
    ". GDT's own files, https://dl.fbaipublicfiles.com/GDT/gdt_{K400,HT100M,IG65M}.pth, are CC-BY-NC-4.0 (no commercial use); "
    "saved as its code saves them, they hold Python objects too, which are not read: save their 'model' alone"
)

register(
    Backbone(
        name="cmac_r2plus1d_18",
        view=VIEW,
        dims=(512,),
        build=build_18,
        weights=_own("cmac_r2plus1d_18", _STAND_IN),
        adapt=_visual,
        batch=1,
        params=31_300_125,
        gmacs=100.32,
        paper=_PAPER,
        note="mean of the last residual block over one second of 30 frames; the paper averages ten such clips. Pixels are "
        "standardised as in GDT",
    )
)
register(
    Backbone(
        name="cmac_resnet9",
        view=SOUND,
        dims=(512,),
        build=_build_audio,
        weights=_own("cmac_resnet9"),
        adapt=_audio,
        batch=8,
        params=4_899_520,
        gmacs=0.48,
        paper=_PAPER,
        note="mean of the last residual block over one second; the front end is GDT's with 257 filters (aud_spec_type 2)",
    )
)
