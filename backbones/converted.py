"""Weights in the layout of our modules: converted once, then mapped from the cache folder.

A copy is kept where the conversion costs something: where the file must be unpacked or read whole (``.h5``, ``.npz``,
``.gz``, TorchScript), or where most of the tensors are computed anew. A copy is named by everything that its content follows
from, and holds a checksum, so that it can be told from a damaged one; without it the conversion is done again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbones import download
from backbones.spec import Backbone, State
from backbones.state import load_state, mapped, some
from extract.errors import LayoutMismatch

if TYPE_CHECKING:
    import torch

VERSION = 1  # of the copies' own form
_log = logging.getLogger(__name__)
_CHECKSUM = "crc32"
_LIBRARIES = ("torch", "torchvision", "timm", "transformers")  # whose functions conversions may call


def adapted_state(backbone: Backbone, module: torch.nn.Module, paths: Sequence[Path]) -> State:
    """What the files at `paths` hold, as `backbone` adapts it; its keys are not yet held against those of `module`.

    Raises
    ------
    LayoutMismatch
        the files are in none of the layouts that the backbone knows
    WeightsError
        a file is damaged
    """
    copy = _copy(backbone, module, paths)
    if copy is not None and copy.is_file() and (kept := _read(copy)) is not None:
        return kept
    states = tuple(load_state(path) for path in paths)
    state = _adapt(backbone, states, paths)
    if copy is not None and (not all(map(mapped, paths)) or _anew(state, states)):
        _keep(copy, state)
    return state


def _adapt(backbone: Backbone, states: tuple[State, ...], paths: Sequence[Path]) -> State:
    what = f"{' + '.join(str(path) for path in paths)} for {backbone.name}"
    if backbone.adapt is None:
        return {key: tensor for part in states for key, tensor in part.items()}
    try:
        return backbone.adapt(states)
    except LayoutMismatch as error:
        raise LayoutMismatch(f"{what}: {error}") from error
    except (KeyError, IndexError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        # a file with the mark of a layout and without the rest of it
        keys = some(sorted(key for part in states for key in part))
        raise LayoutMismatch(f"{what}: it is in no known layout ({error!r}); its keys are {keys or 'none'}") from error


def _anew(state: State, states: tuple[State, ...]) -> bool:
    """Whether most of the bytes are not those of the files: computed, not renamed, cut out or turned."""
    theirs = {tensor.untyped_storage().data_ptr() for part in states for tensor in part.values()}
    fresh = _bytes(t for t in state.values() if t.untyped_storage().data_ptr() not in theirs)
    return 2 * fresh > _bytes(state.values())


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _copy(backbone: Backbone, module: torch.nn.Module, paths: Sequence[Path]) -> Path | None:
    """Where the copy is or would be; None where what a conversion does cannot be told from this package's content."""
    convert = getattr(backbone.adapt, "func", backbone.adapt)  # of what a partial wraps
    if convert is not None and not str(convert.__module__).startswith("backbones."):
        return None  # a plug-in's conversion may change without a trace
    sources = [download.file_sha256(path) for path in paths]
    layout = [[key, list(tensor.shape), str(tensor.dtype)] for key, tensor in module.state_dict().items()]
    follows = [VERSION, _code(), _versions(), backbone.name, sources, [path.suffixes for path in paths], layout]
    digests = hashlib.sha256(json.dumps(sources).encode()).hexdigest() if len(sources) > 1 else sources[0]
    rest = hashlib.sha256(json.dumps(follows).encode()).hexdigest()
    name = f"{backbone.name.replace(':', '_')}-{digests[:12]}-{rest[:16]}.safetensors"
    return download.cache_folder() / "converted" / name


@functools.cache
def _code() -> str:
    """Digest of all files of this package: any of them may take part in a conversion."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@functools.cache
def _versions() -> tuple[str, ...]:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for library in _LIBRARIES:
        try:
            found.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            found.append(f"{library} none")
    return tuple(found)


def _read(copy: Path) -> State | None:
    """The state in a copy; None where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(copy, framework="pt") as file:
            checksum = (file.metadata() or {}).get(_CHECKSUM)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError, ValueError) as error:
        _log.warning("%s is damaged and will be made again: %s", copy, error)
        return None
    if checksum != _checksum(state):
        _log.warning("%s is damaged and will be made again: its checksum is wrong", copy)
        return None
    return state


def _keep(copy: Path, state: State) -> None:
    """Write a copy in one step, and remove those that older versions made of the same files."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # each tensor gets memory of its own: safetensors saves no views
    whole = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
    part = None
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=copy.parent, prefix=".", suffix=".part")
        os.close(handle)
        part = Path(name)
        save_file(whole, part, {_CHECKSUM: _checksum(whole)})
        part.replace(copy)
        for other in copy.parent.iterdir():
            if other != copy and other.name.rpartition("-")[0] == copy.name.rpartition("-")[0]:
                other.unlink(missing_ok=True)
    except (SafetensorError, OSError) as error:
        _log.info("no converted copy is kept at %s, which costs time only: %s", copy, error)
        if part is not None:
            part.unlink(missing_ok=True)


def _checksum(state: State) -> str:
    import torch

    total = 0
    for key in sorted(state):
        tensor = state[key].contiguous()
        total = zlib.crc32(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
