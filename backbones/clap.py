"""LAION-CLAP's audio towers (Wu et al. 2023, Large-Scale Contrastive Language-Audio Pretraining), by transformers' ClapModel.

``clap_htsat_fused`` and ``clap_htsat_unfused`` have the weights that Hugging Face serves; the names with ``630k`` those of
laion_clap's own checkpoint, and ``clap_htsat_fused_map`` is VALOR's feature, made with it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, LogMel, Sound, State, Weights

if TYPE_CHECKING:
    import torch

RATE_HZ, HOP = 48_000, 480
_FUSED_MEL = LogMel(
    n_fft=1024,
    win_length=1024,
    hop_length=HOP,
    n_mels=64,
    f_min_hz=50.0,
    f_max_hz=14_000.0,
    mel_scale="htk",
    log="db_abs",
    offset=1e-10,
    pad=(512, 512),
    pad_mode="reflect",
    pcm16=True,
    repeat_to=10 * RATE_HZ,
)
# the official code of the network without fusion takes librosa's filters, that with fusion torchaudio's
_UNFUSED_MEL = replace(_FUSED_MEL, mel_scale="slaney", mel_norm="slaney")
BATCH = 1
HEAD = 656_384
PARAMS = {True: 27_549_128, False: 27_534_488}  # without the projection
GMACS, LOCAL_GMACS = 5.908, 0.037
_HUB = "https://huggingface.co/"
_LAION = _HUB + "lukewys/laion_clap/resolve/main/"


def _build(fusion: bool, output: Literal["embedding", "map"]) -> torch.nn.Module:
    from backbones.nets.clap import Clap

    return Clap(fusion, output)


_OTHER_TOWER = ("text_model.", "text_projection.", "logit_scale_a", "logit_scale_t")
_LAION_REST = (
    "text_branch.",
    "text_projection.",
    "text_transform.",
    "audio_transform.",
    "logit_scale_a",
    "logit_scale_t",
    "audio_branch.spectrogram_extractor.",
    "audio_branch.logmel_extractor.",
    "audio_branch.tscam_conv.",
    "audio_branch.head.",
)
_LAION_NAMES = (
    ("audio_branch.", "audio_model.audio_encoder."),
    ("audio_projection.0.", "audio_projection.linear1."),
    ("audio_projection.2.", "audio_projection.linear2."),
    (".bn0.", ".batch_norm."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
    (".attn.proj.", ".attention.output.dense."),
    (".attn.relative_position_bias_table", ".attention.self.relative_position_bias_table"),
)
_CONSTANTS = (".relative_position_index", ".attn_mask")


def _hugging_face(state: State) -> State:
    return {
        f"net.{key}": tensor
        for key, tensor in state.items()
        if not key.startswith(_OTHER_TOWER) and not key.endswith(_CONSTANTS)
    }


def _laion(state: State) -> State:
    out: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if key.startswith(_LAION_REST) or key.endswith(_CONSTANTS):
            continue
        name = key
        for theirs, ours in _LAION_NAMES:
            name = name.replace(theirs, ours)
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                out["net." + name.replace(".attn.qkv.", f".attention.self.{part}.")] = third
        else:
            out[f"net.{name}"] = tensor
    return out


_LAYOUTS = (
    Layout("transformers' ClapModel", "audio_model.audio_encoder.batch_norm.weight", _hugging_face),
    Layout("laion_clap", "audio_branch.bn0.weight", _laion),
)


def _adapt(states: tuple[State, ...], output: Literal["embedding", "map"]) -> State:
    state = by_layout(states[0], _LAYOUTS)
    if output == "map":
        return {key: tensor for key, tensor in state.items() if not key.startswith("net.audio_projection.")}
    return state


def _hub(name: str) -> tuple[Weights, ...]:
    uri = f"{_HUB}laion/{name}/resolve/main/model.safetensors"
    return (
        Weights(uri, None, "Apache-2.0", filename=f"{name}.safetensors", note="there it is called model.safetensors"),
    )


def _checkpoint(name: str) -> tuple[Weights, ...]:
    return (Weights(_LAION + name, None, "CC0-1.0", note="trained on LAION-Audio-630K"),)


def _register(
    name: str,
    fusion: bool,
    output: Literal["embedding", "map"],
    weights: tuple[Weights, ...],
    note: str,
    seconds: int = 10,
) -> None:
    register(
        Backbone(
            name=name,
            view=Sound(rate_hz=RATE_HZ, samples=seconds * RATE_HZ, spectrogram=_FUSED_MEL if fusion else _UNFUSED_MEL),
            dims=(512,) if output == "embedding" else (64, 768),
            build=partial(_build, fusion, output),
            weights=(weights,),
            adapt=partial(_adapt, output=output),
            window_s=float(seconds),
            batch=BATCH,
            params=PARAMS[fusion] + (HEAD if output == "embedding" else 0),
            gmacs=GMACS + (LOCAL_GMACS if seconds > 10 else 0.0),
            paper="Wu et al. 2023, Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion",
            note=note,
            extra="clap",
        )
    )


_UNIT = "after the projection, of length 1"
_register("clap_htsat_fused", True, "embedding", _hub("clap-htsat-fused"), _UNIT)
_register("clap_htsat_unfused", False, "embedding", _hub("clap-htsat-unfused"), _UNIT)
_register(
    "clap_htsat_fused_30s",
    True,
    "embedding",
    _hub("clap-htsat-fused"),
    f"{_UNIT}; fused from the whole window and three pieces of ten seconds, drawn with the seed 0",
    seconds=30,
)
_register(
    "clap_htsat_fused_630k", True, "embedding", _checkpoint("630k-fusion-best.pt"), f"{_UNIT}; laion_clap's model_id 2"
)
_register(
    "clap_htsat_unfused_630k", False, "embedding", _checkpoint("630k-best.pt"), f"{_UNIT}; laion_clap's model_id 0"
)
_register(
    "clap_htsat_fused_map",
    True,
    "map",
    _checkpoint("630k-fusion-best.pt"),
    "the 64 positions before pooling: VALOR's audio feature, with the weights VALOR used",
)
