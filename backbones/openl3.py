"""OpenL3's audio networks (Cramer et al. 2019): twelve sets of outputs, and the three front ends that they are met with.

The mel front end changed silently between releases (docs/adr/0011-openl3-front-ends.md): ``kapre014`` is what the networks
were trained with and what openl3 gave up to 0.3.1; ``kapre`` is what openl3 0.4 gives, ``librosa`` its other choice. The linear
spectrogram is the same in all.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from backbones.registry import register
from backbones.spec import Backbone, LogMel, Sound, State, Weights
from backbones.state import some
from extract.errors import LayoutMismatch

if TYPE_CHECKING:
    import torch

PAPER = "Cramer et al. 2019, Look, Listen, and Learn More: Design Choices for Deep Audio Embeddings"
LICENCE = "CC BY 4.0"
RATE_HZ = 48_000
HOP_S = 0.1
_HOSTS = ("https://github.com/marl/openl3/raw/models/", "https://raw.githubusercontent.com/marl/openl3/models/")
_TORCHOPENL3 = "https://github.com/torchopenl3/torchopenl3-models/raw/master/"

_LINEAR = LogMel(512, 512, 242, 0, 0.0, 24_000.0, power=1, log="db")
_MEL = LogMel(2048, 2048, 242, 256, 0.0, 24_000.0, mel_norm="slaney", log="db", frames=199)
_FRONT_ENDS = {
    "kapre014": replace(_MEL, mel_scale="htk", power=2, mel_sqrt=True, pad=(982, 982)),
    "kapre": replace(_MEL, mel_scale="slaney", power=1, pad=(0, 1964)),
    "librosa": replace(_MEL, mel_scale="slaney", power=1, pad=(1024, 1024)),
}
_NOTES = {
    "linear": "linear spectrogram, the same in every openl3",
    "kapre014": "front end kapre014: the one of its training and of openl3 <= 0.3.1; openl3 0.4 gives {name}_kapre",
    "kapre": "front end kapre: the default of openl3 0.4, not the one of its training",
    "librosa": "front end librosa: openl3 0.4's other choice, with librosa >= 0.10; not the one of its training",
}
_POOLS = {
    "linear": {512: (32, 24), 6144: (8, 8)},
    "mel128": {512: (16, 24), 6144: (4, 8)},
    "mel256": {512: (32, 24), 6144: (8, 8)},
}
_GMACS = {"linear": 10.19, "mel128": 5.11, "mel256": 10.23}
# git blob ids (sha1) of the .h5.gz in marl/openl3, branch models at c2321e8c: no sha256 was ever published
_BLOBS = {
    "linear_env": "7837407f033f3564c7e8d53fc4a4241fe160478b",
    "linear_music": "4e2e61beb17865481c8b8791c72eac8307e2753a",
    "mel128_env": "8c3dfee140f7776373841e5938a3e76c54f28942",
    "mel128_music": "73ff29de441865318c4b3a3f98c40763c4773e7c",
    "mel256_env": "34dbd7a91cdd2de6a3d6d036ac0a24d27d78e3cc",
    "mel256_music": "15e483646fa3d4091a463f0affbb706e6bbbb098",
}


def view(representation: str, front: str) -> Sound:
    """One second at 48 kHz as a spectrogram.

    Parameters
    ----------
    representation
        ``linear``, ``mel128`` or ``mel256``
    front
        ``kapre014``, ``kapre`` or ``librosa``; of no consequence for ``linear``
    """
    if representation == "linear":
        return Sound(RATE_HZ, RATE_HZ, _LINEAR)
    return Sound(RATE_HZ, RATE_HZ, replace(_FRONT_ENDS[front], n_mels=int(representation.removeprefix("mel"))))


def official(modality: str, content: str, blob: str) -> tuple[Weights, ...]:
    """The publications of one network by openl3: its download, unpacked, and as an installed ``openl3`` package has it.

    Parameters
    ----------
    modality
        ``audio`` or ``image``
    content
        representation and training set, such as ``mel256_env``
    blob
        git blob id of the ``.h5.gz``
    """
    stem = f"openl3_{modality}_{content}"
    packed = f"{stem}-v0_4_0.h5.gz"
    uri, mirror = (host + packed for host in _HOSTS)
    installed = "as in the folder of an installed openl3 package: give that folder with --weights DIR"
    return (
        Weights(uri, None, LICENCE, mirrors=(mirror,), checksum=f"git:{blob}"),
        Weights(uri, None, LICENCE, filename=f"{stem}-v0_4_0.h5", note="the same, unpacked"),
        Weights(uri, None, LICENCE, filename=f"{stem}.h5", note=installed),
    )


def from_keras(state: State) -> State:
    """The state dict of backbones.nets.openl3 from openl3's ``.h5``, layer by layer in the file's order.

    Keras numbers layers as a session made them, so their names say nothing. Files before 0.4 hold the spectrogram's kernels too,
    which are computed here.

    Raises
    ------
    LayoutMismatch
        the layers with weights are not eight batch normalisations and eight convolutions in turn
    """
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in state.items():
        layer, _, leaf = key.removesuffix(":0").partition("/")
        if "spectrogram" not in layer:
            layers.setdefault(layer, {})[leaf.rpartition("/")[2]] = tensor
    out: dict[str, torch.Tensor] = {}
    for place, (layer, found) in enumerate(layers.items()):
        ours, leaves = (("norms", _NORM), ("convs", _CONV))[place % 2]
        if place >= 16 or set(found) != set(leaves):
            raise LayoutMismatch(
                "expected openl3's eight batch normalisations and eight convolutions in turn; layer "
                f"{place + 1} with weights is {layer!r} with {some(sorted(found))}"
            )
        for leaf, name in leaves.items():
            tensor = found[leaf]
            # Keras keeps kernels as height, width, in, out
            out[f"{ours}.{place // 2}.{name}"] = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
    return out


_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_CONV = {"kernel": "weight", "bias": "bias"}


def _from_torchopenl3(state: State) -> State:
    out = {}
    for key, tensor in state.items():
        layer, _, leaf = key.partition(".")
        kind, _, number = layer.rpartition("_")
        if layer == "speclayer":
            continue  # the spectrogram's kernels
        if layer == "audio_embedding_layer":
            out[f"convs.7.{leaf}"] = tensor
        elif kind in ("batch_normalization", "conv2d") and number.isdecimal():
            out[f"{'convs' if kind == 'conv2d' else 'norms'}.{int(number) - 1}.{leaf}"] = tensor
        else:
            out[key] = tensor
    return out


def _adapt(states: tuple[State, ...]) -> State:
    state = states[0]
    if "audio_embedding_layer.weight" in state:
        return _from_torchopenl3(state)
    if not any(key.removesuffix(":0").endswith("/gamma") for key in state):
        raise LayoutMismatch(
            "expected the layout of openl3 (Keras, with keys such as batch_normalization/gamma:0) or torchopenl3 (with the key "
            f"audio_embedding_layer.weight); the file's keys are {some(sorted(state)) or 'none'}"
        )
    return from_keras(state)


def _build(pool: tuple[int, int]) -> torch.nn.Module:
    from backbones.nets.openl3 import Audio

    return Audio(pool)


def _register(representation: str, data: str, size: int, front: str) -> None:
    content = f"{representation}_{data}"
    name = f"openl3_audio_{content}_{size}"
    torchopenl3 = Weights(
        f"{_TORCHOPENL3}torchopenl3_{content}_{size}.pth.tar", None, LICENCE, note="converted by torchopenl3"
    )
    register(
        Backbone(
            name=name if front in ("linear", "kapre014") else f"{name}_{front}",
            view=view(representation, front),
            dims=(size,),
            build=partial(_build, _POOLS[representation][size]),
            weights=((*official("audio", content, _BLOBS[content]), torchopenl3),),
            adapt=_adapt,
            window_s=1.0,
            hop_s=HOP_S,
            batch=2,
            params=4_687_042,
            gmacs=_GMACS[representation],
            paper=PAPER,
            note=_NOTES[front].format(name=name),
        )
    )


for _representation in ("linear", "mel128", "mel256"):
    for _data in ("music", "env"):
        for _size in (512, 6144):
            for _front in ("linear",) if _representation == "linear" else tuple(_FRONT_ENDS):
                _register(_representation, _data, _size, _front)
