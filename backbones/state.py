"""What weight files hold, as tensors by name. Nothing here unpickles: every format is read as plain arrays."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.spec import State
from extract.errors import LayoutMismatch, WeightsError

if TYPE_CHECKING:
    import torch

_WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")


def load_state(path: Path) -> State:
    """Read a weight file.

    Parameters
    ----------
    path
        ``.pth``, ``.pt``, ``.pyth`` or ``.tar`` of torch.save (memory-mapped where its format allows, restricted to plain
        tensors), ``.npz``, ``.h5`` or ``.hdf5`` (keys are the groups joined by ``/``), ``.safetensors``

    Returns
    -------
    mapping of str to tensor on the CPU

    Raises
    ------
    WeightsError
        the file is damaged, of an unknown kind, or holds anything but arrays
    LayoutMismatch
        it holds no tensors by name
    """
    readers: dict[str, Callable[[Path], State]] = {
        ".pth": _load_torch,
        ".pt": _load_torch,
        ".pyth": _load_torch,
        ".tar": _load_torch,
        ".npz": _load_npz,
        ".h5": _load_h5,
        ".hdf5": _load_h5,
        ".safetensors": _load_safetensors,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(f"{path}: weight files of kind {path.suffix!r} are not read; known: {', '.join(readers)}")
    return reader(path)


def _load_torch(path: Path) -> State:
    import numpy as np
    import torch

    # the array constructors that older files of plain numpy arrays name; they build data and run nothing
    rebuild = np.empty(0).__reduce__()[0]
    arrays: list[Any] = [
        (rebuild, "numpy.core.multiarray._reconstruct"),
        (rebuild, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i8")),
    ]
    try:
        # only the zip format (since torch 1.6) can be mapped; the published files of 2017-2019 are older
        with torch.serialization.safe_globals(arrays):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds Python objects besides tensors and was not opened any further: {_brief(error)}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} cannot be read (truncated?): {_brief(error)}") from error
    return _tensors(content, path)


def _tensors(content: Any, path: Path) -> State:
    import numpy as np
    import torch

    if isinstance(content, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                return _tensors(content[wrapper], path)
        state = {
            str(key): torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in content.items()
        }
        if state and all(isinstance(value, torch.Tensor) for value in state.values()):
            if all(key.startswith("module.") for key in state):  # saved from DataParallel
                return {key.removeprefix("module."): value for key, value in state.items()}
            return state
    raise LayoutMismatch(f"{path} holds {type(content).__name__}, not tensors by name")


def _load_npz(path: Path) -> State:
    import numpy as np
    import torch

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is no .npz of plain arrays, or is damaged: {_brief(error)}") from error


def _load_h5(path: Path) -> State:
    import h5py
    import torch

    state: dict[str, torch.Tensor] = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            raise WeightsError(f"{path}: {name} keeps its data in other files, which are not opened")
        if item.dtype.kind in "fiu":
            state[name] = torch.from_numpy(item[()])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is no HDF5 file, or is damaged: {_brief(error)}") from error
    return state


def _load_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is no safetensors file, or is damaged: {_brief(error)}") from error


def fit(module: torch.nn.Module, state: State, what: str) -> None:
    """Copy `state` into `module`: every key and every shape must agree.

    Files of torch < 0.4.1 lack the counters ``num_batches_tracked``, which no forward in eval mode reads: they may.

    Raises
    ------
    LayoutMismatch
        names the keys that are missing, unknown or of another shape, the first few of each; `what` names the file
    """
    wanted = module.state_dict()
    given = dict(state)
    for key, tensor in wanted.items():
        if key.endswith("num_batches_tracked"):
            given.setdefault(key, tensor)
    absent = [key for key in wanted if key not in given]
    unknown = [key for key in given if key not in wanted]
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    problems = [
        f"{len(keys)} {kind}: {some(keys)}"
        for kind, keys in (("missing", absent), ("unknown", unknown), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise LayoutMismatch(f"{what} does not fit: {'; '.join(problems)}")
    module.load_state_dict(given, strict=True)


def some(keys: list[str]) -> str:
    """The first three of `keys`, and that there are more."""
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _brief(error: Exception) -> str:
    """The first line of a message: torch's go on for a page, and advise to switch the protection off."""
    return str(error).strip().split("\n", maxsplit=1)[0][:200]
