"""Weights of parsers on disk: safetensors, with what they are in the header. Nothing in a file is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from backbones.state import load_state
from extract.errors import LayoutMismatch, PlanError
from pipelines.parsing.models.dmrn import DMRN
from pipelines.parsing.run_folder import BEST, write_bytes

ADAM = ("exp_avg", "exp_avg_sq", "step")
HEADER = "parser"
"""The one entry of a file's header: JSON."""


def save_weights(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write tensors and what there is to say of them, whole or not at all."""
    # safetensors writes several entries of its header in an order that differs from run to run
    header = {HEADER: json.dumps(told)}
    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, header))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, and what is said of them.

    Raises
    ------
    PlanError
        it is not there or damaged
    """
    if not path.is_file():
        raise PlanError(f"{path} is not there; is {path.parent} the folder of a finished run?")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            return tensors, json.loads((file.metadata() or {}).get(HEADER, "{}"))
    except (SafetensorError, ValueError) as error:
        raise PlanError(
            f"{path} is damaged or no safetensors file: {error}; train again, or give another file"
        ) from error


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors into a network.

    Raises
    ------
    LayoutMismatch
        names or shapes differ
    """
    own = model.state_dict()
    lacks, more = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if lacks or more:
        raise LayoutMismatch(
            f"{path} is of another network: it lacks {', '.join(lacks[:3]) or 'nothing'} and has "
            f"{', '.join(more[:3]) or 'nothing'} besides; give the options it was trained with"
        )
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise LayoutMismatch(
                f"{path}: {name} has the shape {tuple(tensors[name].shape)}, the network takes {tuple(tensor.shape)}: it was "
                "trained on features of other dims, on other classes, or with another width"
            )
    model.load_state_dict(dict(tensors))


def begin_with(model: nn.Module, path: Path) -> str:
    """Put into a network what fits of a run's weights or of a checkpoint.

    Parameters
    ----------
    model
        changed in place; DMRN takes from an AVEL what it was published with, any other network what has its names and shapes
    path
        folder of a run, or a file that :func:`backbones.state.load_state` reads

    Returns
    -------
    str
        for the user: how many tensors, of which file

    Raises
    ------
    PlanError
        there is no such file, nothing in it fits, or an AVEL has other sizes than the DMRN
    """
    file = path / BEST if path.is_dir() else path
    if not file.is_file():
        raise PlanError(f"--init {path}: there is no file {file}; give the folder of a finished run, or a checkpoint")
    own, there = model.state_dict(), load_state(file)
    if isinstance(model, DMRN) and "L1.weight" in there:
        taken = model.start_from(there)
    else:
        fits = {name: tensor for name, tensor in there.items() if name in own and own[name].shape == tensor.shape}
        model.load_state_dict(own | fits)
        taken = len(fits)
    if not taken:
        raise PlanError(
            f"--init {path}: none of its {len(there)} tensors has a name and shape of {type(model).__name__}'s; dmrn takes those "
            "of avel, every other network its own"
        )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return f"begun with {taken} of the network's {len(own)} tensors, from {file} (sha256 {digest})"


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now, on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def resume_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and the optimizer's moments, by name."""
    found = {f"model.{name}": tensor for name, tensor in copy_of(model).items()}
    for i, state in optimizer.state_dict()["state"].items():
        found |= {f"adam.{i}.{name}": state[name].detach().to("cpu", copy=True) for name in ADAM}
    return found


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    """The reverse of :func:`resume_tensors`; raises what :func:`load_into` does."""
    load_into(model, {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}, path)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, number, what = name.split(".")
            state.setdefault(int(number), {})[what] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
