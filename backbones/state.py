"""What weight files hold, as tensors by name. Nothing here runs what a file says: every format is read as plain arrays."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones import hdf5, torchscript
from backbones.spec import State
from extract.errors import LayoutMismatch, WeightsError

if TYPE_CHECKING:
    import torch

GZIP_LIMIT_BYTES = 4 << 30  # of what a .gz unpacks to, in memory; such weights are published up to some 20 MB
_TORCH = (".pth", ".pt", ".pyth", ".bin", ".tar")
_WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")


def load_state(path: Path) -> State:
    """Read a weight file.

    Parameters
    ----------
    path
        ``.pth``, ``.pt``, ``.pyth``, ``.bin`` or ``.tar`` of torch.save (memory-mapped where its format allows, restricted to
        plain tensors) or of torch.jit.save (see backbones.torchscript), ``.npz``, ``.h5`` or ``.hdf5`` (keys are the groups
        joined by ``/``, in Keras' own order where Keras wrote it), ``.safetensors``; any of them with ``.gz`` behind

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
    readers: dict[str, Callable[[Path | io.BytesIO, Path], State]] = {
        **dict.fromkeys(_TORCH, _load_torch),
        ".npz": _load_npz,
        ".h5": _load_h5,
        ".hdf5": _load_h5,
        ".safetensors": _load_safetensors,
    }
    packed = path.suffix.lower() == ".gz"
    suffix = Path(path.stem).suffix if packed else path.suffix
    reader = readers.get(suffix.lower())
    if reader is None:
        raise WeightsError(
            f"{path}: weight files of kind {suffix!r} are not read; known: {', '.join(readers)}, each also with .gz"
        )
    return reader(_unpacked(path) if packed else path, path)


def mapped(path: Path) -> bool:
    """Whether `load_state` maps the file, or at most has to read it, so that nothing is gained by keeping a copy."""
    if path.suffix.lower() == ".safetensors":
        return True
    return path.suffix.lower() in _TORCH and not torchscript.is_archive(path)


def _unpacked(path: Path) -> io.BytesIO:
    try:
        with gzip.open(path) as file:
            content = file.read(GZIP_LIMIT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise WeightsError(f"{path} is no gzip file, or is damaged: {_brief(error)}") from error
    if len(content) > GZIP_LIMIT_BYTES:
        raise WeightsError(
            f"{path} unpacks to more than {GZIP_LIMIT_BYTES >> 30} GiB; unpack it yourself if you trust it"
        )
    return io.BytesIO(content)


def _load_torch(file: Path | io.BytesIO, path: Path) -> State:
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
        if torchscript.is_archive(file):
            return _tensors(torchscript.read(file), path)
        # only the zip format (since torch 1.6) can be mapped; the published files of 2017-2019 are older
        mapped = isinstance(file, Path) and zipfile.is_zipfile(file)
        if isinstance(file, io.BytesIO):
            file.seek(0)
        with torch.serialization.safe_globals(arrays):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds Python objects besides tensors and was not opened any further: {_brief(error)}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} cannot be read (truncated?): {_brief(error)}") from error
    except (zipfile.BadZipFile, MemoryError) as error:
        raise WeightsError(f"{path} is damaged: {_brief(error)}") from error
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


def _load_npz(file: Path | io.BytesIO, path: Path) -> State:
    import numpy as np
    import torch

    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is no .npz of plain arrays, or is damaged: {_brief(error)}") from error


def _load_h5(file: Path | io.BytesIO, path: Path) -> State:
    try:
        return hdf5.read(file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise WeightsError(f"{path} is no HDF5 file of weights, or is damaged: {_brief(error)}") from error


def _load_safetensors(file: Path | io.BytesIO, path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        return load_file(file) if isinstance(file, Path) else load(file.getvalue())
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
    return str(error).strip().split("\n", maxsplit=1)[0].split(" In PyTorch", maxsplit=1)[0][:200]
