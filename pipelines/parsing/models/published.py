"""Checkpoints that others published, or that we saved, into our networks. Nothing in a file is run."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import nn

from backbones.spec import State
from backbones.state import fit, load_state, some
from extract.errors import LayoutMismatch, WeightsError, WeightsMissing
from pipelines.parsing.models.han import HAN

DEAD: dict[str, tuple[str, ...]] = {
    "HAN": ("audio_encoder.", "visual_encoder.", "cmt_encoder.", "hat_encoder.norm1.", "hat_encoder.norm2."),
    "AVEL": (),
    "DMRN": (),
    "PSP": ("temperature", "W1.", "W2.", "linear_v.", "v_classify.", "a_classify.", "L3.", "L4."),
}
"""Parameters of the published networks that no output depends on, by our class: how their names begin. Only those that our
network lacks are dropped: ``linear_v`` of PSP is dead with full supervision only."""


class _Input(NamedTuple):
    """The layer that a feature enters, and what was published with it."""

    key: str
    slot: str
    numbers: int
    feature: str


_VGGISH = ("audio", 128, "vggish")
_MAPS = ("visual", 512, "vgg19_ave")
_INPUTS: dict[str, tuple[_Input, ...]] = {
    "HAN": (
        _Input("fc_a.weight", *_VGGISH),
        _Input("fc_v.weight", "visual", 2048, "resnet152"),
        _Input("fc_st.weight", "clip", 512, "r2plus1d_18"),
    ),
    "AVEL": (_Input("affine_audio.weight", *_VGGISH), _Input("affine_video.weight", *_MAPS)),
    "DMRN": (_Input("affine_audio.weight", *_VGGISH), _Input("affine_video.weight", *_MAPS)),
    "PSP": (
        _Input("fa.0.weight", *_VGGISH),
        _Input("attention.affine_audio.weight", *_VGGISH),
        _Input("attention.affine_video.weight", *_MAPS),
    ),
}
_OUTPUT = {"HAN": "fc_prob.weight", "AVEL": "L2.weight", "DMRN": "L2.weight", "PSP": "L2.weight"}
_LAYER = re.compile(r"hat_encoder\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Told:
    """What was read.

    Parameters
    ----------
    path
        of the checkpoint
    tensors, numbers
        how many were taken
    dropped
        names of those that were left out, for no output depends on them
    """

    path: Path
    tensors: int
    numbers: int
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        left = f"; left out {len(self.dropped)} without effect: {some(list(self.dropped))}" if self.dropped else ""
        return f"{self.path}: {self.tensors} tensors of {self.numbers:,} numbers{left}"


def load_published(model: nn.Module, path: Path) -> Told:
    """Put a checkpoint into a network of :mod:`pipelines.parsing.models`.

    Parameters
    ----------
    model
        HAN, AVEL, DMRN or PSP; left as it was where the file does not fit
    path
        a state dict by torch.save, also from nn.DataParallel or inside a dict under ``state_dict`` or ``model``, or a
        .safetensors file; other types than the network's are cast to it

    Returns
    -------
    Told

    Raises
    ------
    WeightsMissing
        there is no such file
    WeightsError
        it is damaged, holds NaN or infinity, or is a whole pickled network, which cannot be read without running it
    LayoutMismatch
        names or shapes differ from the network's; says which first, and what to do

    Notes
    -----
    A checkpoint does not say how many heads it was trained with, nor, with several layers, whether they were chained: give
    the network those of its paper.
    """
    found = _read(path)
    own, dead = model.state_dict(), _dead(model)
    dropped = tuple(name for name in found if name not in own and name.startswith(dead))
    state = {name: tensor for name, tensor in found.items() if name not in dropped}
    kind = type(model).__name__
    try:
        fit(model, state, f"{path}, as weights of {kind},")
    except LayoutMismatch as error:
        otherwise = f"give {kind} the options that the checkpoint was trained with, or train anew"
        raise LayoutMismatch(f"{error}; {next(_advice(model, found), otherwise)}") from error
    return Told(path, len(state), sum(tensor.numel() for tensor in state.values()), dropped)


def _read(path: Path) -> State:
    if not path.is_file():
        raise WeightsMissing(f"there is no checkpoint {path}; give the path of a .pt or .safetensors file")
    try:
        state = load_state(path)
    except WeightsError as error:
        if isinstance(error.__cause__, pickle.UnpicklingError):
            raise WeightsError(
                f"{path} holds Python objects besides tensors (a whole network?) or is damaged, and was not opened any "
                "further; if you trust it, run torch.save(torch.load(FILE, map_location='cpu', weights_only=False)"
                ".state_dict(), NEW) where the code it was trained with can be imported, and give NEW"
            ) from error
        raise
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise WeightsError(
            f"{path} holds NaN or infinity in {some(broken)}: its training diverged; give another checkpoint"
        )
    return state


def _dead(model: nn.Module) -> tuple[str, ...]:
    names = DEAD.get(type(model).__name__, ())
    if isinstance(model, HAN) and model.encoder_compat == "official":
        names += tuple(f"hat_encoder.layers.{number}." for number in range(model.layers - 1))
    return names


def _advice(model: nn.Module, state: State) -> Iterator[str]:
    """What to do about a file that does not fit, the surest first."""
    own, kind = model.state_dict(), type(model).__name__
    if not any(name in own for name in state):
        yield f"it is of another network than {kind}: choose --model by the network it was trained as"
    for key, slot, numbers, feature in _INPUTS.get(kind, ()):
        if key not in state or key not in own or state[key].ndim != own[key].ndim:
            continue
        wanted, given = state[key].shape[-1], own[key].shape[-1]
        if wanted != given:
            choice = feature if wanted == numbers else f"with a feature of {wanted} numbers"
            yield (
                f"the checkpoint takes {wanted} {slot} numbers, the store's key gives {given}: train anew or choose "
                f"--{slot} {choice}"
            )
    if isinstance(model, HAN):
        yield from _advice_on_han(model, state)
    key = _OUTPUT.get(kind, "")
    if key in state and key in own and state[key].shape[:1] != own[key].shape[:1]:
        yield (
            f"the checkpoint knows {state[key].shape[0]} classes, the task has {own[key].shape[0]}: train anew or choose the "
            "--classes it was trained on"
        )
    if kind == "PSP":
        trained, wanted_here = ("full", "weak") if "fa.0.weight" in state else ("weak", "full")
        if ("fa.0.weight" in state) != ("fa.0.weight" in own):
            yield f"it was trained with {trained} supervision, this network is for {wanted_here}: choose --supervision {trained}"


def _advice_on_han(model: HAN, state: State) -> Iterator[str]:
    if "fc_st.weight" in state and model.clip is None:
        numbers = state["fc_st.weight"].shape[-1]
        choice = "r2plus1d_18" if numbers == 512 else f"with a feature of {numbers} numbers"
        yield f"the checkpoint takes a clip feature of {numbers} numbers besides: choose --clip {choice}"
    if "fc_v.weight" in state and "fc_st.weight" not in state and model.clip is not None:
        yield "the checkpoint takes no clip feature: leave --clip out"
    numbered = {int(found[1]) for name in state if (found := _LAYER.match(name))}
    if not numbered:
        return
    layers = max(numbered) + 1
    if layers != model.layers:
        yield f"the encoder of the checkpoint has {layers} layer(s), the network {model.layers}: choose --set layers={layers}"
    elif model.encoder_compat == "chained" and len(numbered) < layers:
        yield "the checkpoint holds the last layer only: choose --set encoder_compat=official"
