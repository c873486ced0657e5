"""The best batch size of each network on this machine, once ``extract backbones bench`` has searched for it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.spec import View


def remembered_batch(name: str, views: Sequence[View], device: str, precision: str) -> int | None:
    """Rows per forward that were found fastest; None: nobody has searched.

    Parameters
    ----------
    name, views
        of the backbone, and what it is fed: other sizes have other answers
    device, precision
        as given to the run; ``cuda:1`` counts as ``cuda``
    """
    batch = _read().get(_entry(name, views, device, precision))
    return batch if isinstance(batch, int) and batch >= 1 else None


def remember_batch(name: str, views: Sequence[View], device: str, precision: str, batch: int) -> None:
    """Keep an answer for later runs on this machine; a cache that cannot be written is no reason to fail."""
    known = _read()
    known[_entry(name, views, device, precision)] = batch
    with contextlib.suppress(OSError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=_path().parent, prefix=".batches", delete=False) as file:
            json.dump(known, file, indent=0, sort_keys=True)
        Path(file.name).replace(_path())


def _path() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "extract" / "batches.json"


def _read() -> dict[str, Any]:
    try:
        known = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _entry(name: str, views: Sequence[View], device: str, precision: str) -> str:
    shapes = "+".join("x".join(str(size) for size in view.input_shape) for view in views)
    # caches may lie on a disk that several machines share
    return " ".join((platform.node(), device.partition(":")[0], precision, name, shapes))
