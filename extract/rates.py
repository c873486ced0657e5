"""How fast this machine was the last time: the base of `extract plan`'s estimate, kept in the user's cache."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Rate:
    """Multiply-adds per second of a whole run on this machine, all lanes together."""

    gmac_per_s: float


def _path() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "extract" / "rate.json"


def remember(rate: Rate) -> None:
    """Keep a rate; a cache that cannot be written is no reason to fail."""
    with contextlib.suppress(OSError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        _path().write_text(json.dumps(asdict(rate)))


def remembered_rate() -> Rate | None:
    """The last rate kept; None: there is none that can be read."""
    try:
        return Rate(float(json.loads(_path().read_text())["gmac_per_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
