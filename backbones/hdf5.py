"""The arrays of an HDF5 file as tensors, in the order in which Keras saved them where Keras did."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.spec import State

if TYPE_CHECKING:
    import h5py

_KERAS = ("layer_names", "layer_names0")  # the second where the list was too long for one attribute


def read(file: Path | io.BytesIO) -> State:
    """Every numeric array.

    Returns
    -------
    mapping of str to tensor
        Keys are the groups joined by ``/``. In a file of Keras they are ``<layer>/<weight name>``, in the order of its
        attributes ``layer_names`` and ``weight_names`` (for networks that are loaded by position), and what these do not
        name is left out, as Keras does; of a whole model it is the part under ``model_weights``.

    Raises
    ------
    ValueError
        the attributes name what is not there, or an array keeps its data in another file
    OSError, RuntimeError, KeyError, TypeError, MemoryError
        the file is damaged
    """
    import h5py
    import numpy as np
    import torch

    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    state = {}
    with h5py.File(file, "r") as root:
        root.visititems(visit)  # follows no links out of the file, so what it finds is all there is to be read
        for key, path in _keras_order(root, found) or ((name, name) for name in found):
            dataset = found[path]
            if dataset.external or dataset.is_virtual:
                raise ValueError(f"{path} keeps its data in other files, which are not opened")
            if dataset.dtype.kind in "fiu":
                state[key] = torch.from_numpy(np.asarray(dataset[()], dataset.dtype.newbyteorder("=")))
    return state


def _keras_order(root: h5py.File, found: dict[str, h5py.Dataset]) -> list[tuple[str, str]]:
    """Keys and the paths of their arrays, in the order of the attributes; empty where Keras did not write the file."""
    import h5py

    whole = root.get("model_weights", getlink=True)
    inside = isinstance(whole, h5py.HardLink) and isinstance(root["model_weights"], h5py.Group)
    top, prefix = (root["model_weights"], "model_weights/") if inside else (root, "")
    if not any(name in top.attrs for name in _KERAS):
        return []
    return [
        (f"{layer}/{weight}", _there(f"{prefix}{layer}/{weight}", found))
        for layer in _names(top, "layer_names")
        for weight in _names(_group(top, layer), "weight_names")
    ]


def _there(path: str, found: dict[str, h5py.Dataset]) -> str:
    if path not in found:
        raise ValueError(f"the attribute weight_names names {path!r}, which the file does not hold")
    return path


def _group(top: h5py.Group, layer: str) -> h5py.Group:
    import h5py

    link = top.get(layer, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(top[layer], h5py.Group):
        raise ValueError(f"the attribute layer_names names {layer!r}, which is no group of the file")
    return top[layer]


def _names(group: h5py.Group, attribute: str) -> list[str]:
    import numpy as np

    def parts() -> Iterator[Any]:
        if attribute in group.attrs:
            yield group.attrs[attribute]
        elif f"{attribute}0" not in group.attrs:
            raise ValueError(f"{group.name} has no attribute {attribute}")
        place = 0
        while f"{attribute}{place}" in group.attrs:
            yield group.attrs[f"{attribute}{place}"]
            place += 1

    names = [name for part in parts() for name in np.atleast_1d(part).tolist()]
    words = [name.decode() if isinstance(name, bytes) else name for name in names]
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"the attribute {attribute} of {group.name} is no list of names")
    return words
