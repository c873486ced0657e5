"""VGGish (Hershey et al. 2017): the audio feature of LLP and AVE, and the other outputs it is published with.

Before August 2020 the released network ended in a ReLU; what LLP and AVE use has it. AudioSet's released embeddings are
``vggish_pca8``; torchvggish's postprocessor gives ``vggish_pca8_nearest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, LogMel, Sound, State, Weights

if TYPE_CHECKING:
    import torch

# 0.975 s: 96 frames of 25 ms every 10 ms, the one example that the AVE code cuts from every annotated second
VIEW = Sound(
    rate_hz=16_000,
    samples=15_600,
    spectrogram=LogMel(
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=64,
        f_min_hz=125.0,
        f_max_hz=7500.0,
        triangles="mel",
        power=1,
        log="ln",
        offset=0.01,
        frames=96,
    ),
)

_RELEASES = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"
_GOOGLE = "https://storage.googleapis.com/audioset/"
_TF_NOTE = "vggish_model.ckpt with every variable under its own name (vggish/conv1/weights, …)"
NETWORK = (
    Weights(uri=_RELEASES + "vggish-10086976.pth", sha256="10086976", licence="Apache-2.0"),
    Weights(uri="https://download.pytorch.org/torchaudio/models/vggish.pt", sha256=None, licence="Apache-2.0"),
    Weights(_GOOGLE + "vggish_model.ckpt", None, "Apache-2.0", filename="vggish_model.npz", note=_TF_NOTE),
    Weights(_GOOGLE + "vggish_model.ckpt", None, "Apache-2.0", filename="vggish_model.h5", note=_TF_NOTE),
)
PCA = (
    Weights(
        uri=_GOOGLE + "vggish_pca_params.npz",
        sha256="4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
        licence="Apache-2.0",
    ),
    Weights(uri=_RELEASES + "vggish_pca_params-970ea276.pth", sha256="970ea276", licence="Apache-2.0"),
)

_TF_LAYERS = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3/conv3_1": "features.6",
    "conv3/conv3_2": "features.8",
    "conv4/conv4_1": "features.11",
    "conv4/conv4_2": "features.13",
    "fc1/fc1_1": "embeddings.0",
    "fc1/fc1_2": "embeddings.2",
    "fc2": "embeddings.4",
}


Output = Literal["relu", "preact", "pca8"]
Rounding = Literal["truncate", "nearest"]


def _build(output: Output, rounding: Rounding) -> torch.nn.Module:
    from backbones.nets.vggish import VGGish

    return VGGish(output, rounding)


def _torchvggish(state: State) -> State:
    # a file saved from torchvggish's whole model carries its PCA too; ours comes from the PCA's own file
    return {key: tensor for key, tensor in state.items() if not key.startswith("pproc.")}


def _torchaudio(state: State) -> State:
    return {key.replace("_network.", "s." if key.startswith("embedding") else "."): t for key, t in state.items()}


def _tf_slim(state: State) -> State:
    out: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        layer, _, leaf = name.removesuffix(":0").removeprefix("vggish/").rpartition("/")
        ours = _TF_LAYERS.get(layer)
        if ours and leaf == "weights":
            # TF keeps kernels as height, width, in, out and matrices as in, out
            out[f"{ours}.weight"] = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
        elif ours and leaf == "biases":
            out[f"{ours}.bias"] = tensor
        else:
            out[name] = tensor
    return out


_LAYOUTS = (
    Layout("torchvggish", "features.0.weight", _torchvggish),
    Layout("torchaudio", "features_network.0.weight", _torchaudio),
    Layout("TF-slim", "vggish/conv1/weights", _tf_slim),
    Layout("TF-slim with :0", "vggish/conv1/weights:0", _tf_slim),
)


def _adapt(states: tuple[State, ...]) -> State:
    state = dict(by_layout(states[0], _LAYOUTS))
    for pca in states[1:]:
        state |= _pca(pca)
    return state


def _pca(state: State) -> Mapping[str, torch.Tensor]:
    # torchvggish keeps the means as a column
    return {key: tensor.flatten() if key == "pca_means" else tensor for key, tensor in state.items()}


def _register(name: str, output: Output, known: str, note: str, rounding: Rounding = "truncate") -> None:
    register(
        Backbone(
            name=name,
            view=VIEW,
            dims=(128,),
            build=partial(_build, output, rounding),
            weights=(NETWORK, PCA) if output == "pca8" else (NETWORK,),
            adapt=_adapt,
            window_s=1.0,
            hop_s=0.96,
            batch=10,
            params=72_141_184,
            gmacs=0.864,
            known=known,
            paper="Hershey et al. 2017, CNN Architectures for Large-Scale Audio Classification",
            note=note,
        )
    )


_register("vggish", "relu", "vggish_silence", "after the last ReLU: what LLP and AVE use")
_register("vggish_preact", "preact", "vggish_sine", "before the last ReLU: the release since August 2020")
_register("vggish_pca8", "pca8", "vggish_sine_pca8", "whitened and quantised to 0…255: AudioSet's released embeddings")
_register(
    "vggish_pca8_nearest",
    "pca8",
    "vggish_sine_pca8",
    "the same, rounded to the nearest level as torchvggish does: half of the values are one higher",
    rounding="nearest",
)
