"""The tensors of a TorchScript archive (``torch.jit.save``), without its code: OpenAI publishes CLIP this way.

``torch.load(weights_only=True)`` refuses such archives, and ``torch.jit.load`` runs what they hold. An archive is a zip
with ``NAME/data.pkl``, which says what the modules' attributes are, and ``NAME/data/N``, the bytes of each storage.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.spec import State

if TYPE_CHECKING:
    import torch

_MOST = 100_000  # attributes in all: modules may be shared, and a file may share them without end


def is_archive(file: Path | io.BytesIO) -> bool:
    """Whether the file is a zip with the record that only TorchScript writes."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())


def read(file: Path | io.BytesIO) -> State:
    """Every tensor among the attributes of the archive's modules, under its place: ``visual.conv1.weight``.

    These are the parameters and buffers, and such tensors as are neither. Nothing of the archive's code is looked at.

    Raises
    ------
    pickle.UnpicklingError
        it holds something besides modules, tensors, numbers and text
    zipfile.BadZipFile, OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError
        it is damaged
    """
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/constants.pkl"))
        return _flat(_attributes(archive, name.removesuffix("constants.pkl")))


def _attributes(archive: zipfile.ZipFile, prefix: str) -> Any:
    """What ``data.pkl`` describes: modules as dicts.

    An Unpickler runs what `find_class` hands out and nothing else. This one hands out the stand-ins below, made anew for
    every file so that none can leave a trace in the next, and types that cannot be changed; there is no way to the rest
    of Python from any of them.
    """
    import torch

    storages: dict[str, torch.Tensor] = {}

    class Module:
        """A module, whichever class of the archive's own code it is of."""

        def __setstate__(self, state: Any) -> None:
            if not isinstance(state, dict):
                raise pickle.UnpicklingError("an object that packs its state (a quantised layer?)")
            self.attributes = state

    def tensor(storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
        return storage.as_strided(tuple(size), tuple(stride), offset)

    def same(value: Any, *_: Any) -> Any:
        return value

    known: dict[str, Any] = {
        "collections.OrderedDict": OrderedDict,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": same,
        **{f"torch.jit._pickle.build_{kind}list": same for kind in ("int", "double", "bool", "tensor")},
        "torch.jit._pickle.restore_type_tag": same,
        **{
            f"torch.{kind}Storage": getattr(torch, dtype)
            for kind, dtype in (
                ("Double", "float64"),
                ("Float", "float32"),
                ("Half", "float16"),
                ("BFloat16", "bfloat16"),
                ("Long", "int64"),
                ("Int", "int32"),
                ("Short", "int16"),
                ("Char", "int8"),
                ("Byte", "uint8"),
                ("Bool", "bool"),
            )
        },
    }

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.split(".", maxsplit=1)[0] == "__torch__":
                return Module
            try:
                return known[f"{module}.{name}"]
            except KeyError:
                raise pickle.UnpicklingError(f"{module}.{name}") from None

        def persistent_load(self, pid: Any) -> torch.Tensor:
            _, dtype, key, _, count = pid
            if key not in storages:
                # stored as they are by torch: what is compressed could be of any size
                if archive.getinfo(f"{prefix}data/{key}").compress_type != zipfile.ZIP_STORED:
                    raise pickle.UnpicklingError(f"{prefix}data/{key} is compressed")
                content = bytearray(archive.read(f"{prefix}data/{key}"))
                if len(content) < count * dtype.itemsize:
                    raise ValueError(f"{prefix}data/{key} holds {len(content)} bytes instead of {count} x {dtype}")
                storages[key] = (
                    torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)
                )
            return storages[key]

    return Reader(io.BytesIO(archive.read(f"{prefix}data.pkl"))).load()


def _flat(root: Any) -> State:
    import torch

    state: dict[str, torch.Tensor] = {}
    ahead, seen = [("", root)], 0
    while ahead:
        place, module = ahead.pop()
        for name, value in getattr(module, "attributes", {}).items():
            seen += 1
            if seen > _MOST:
                raise ValueError(f"more than {_MOST} attributes")
            if isinstance(value, torch.Tensor):
                state[f"{place}{name}"] = value
            elif hasattr(value, "attributes"):
                ahead.append((f"{place}{name}.", value))
    return state
