"""What each key stands for, in words: what the network saw, on which grid, with whose weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from extract.grid import NS
from extract.report.subject import Subject, name_of
from extract.store.importing.released import UNKNOWN
from extract.store.rows import KeyInfo

Kind = Literal["random", "unverified", "imported", "published", "unknown"]


@dataclass(frozen=True, slots=True)
class KeyOrigin:
    """One key.

    Parameters
    ----------
    key, backbone
        its name
    seen
        what the network was fed, in words, one line per view
    grid, precision
        in words; empty where the identity does not say
    weights, kind, licence
        which trained weights, and whether anyone published them
    identity
        all that was hashed into the key, as indented JSON
    """

    key: str
    backbone: str
    seen: tuple[str, ...]
    grid: str
    precision: str
    weights: str
    kind: Kind
    licence: str
    identity: str


def origins(subject: Subject) -> tuple[KeyOrigin, ...]:
    """Every key that has rows."""
    return tuple(_origin(info) for info in subject.store.keys())  # noqa: SIM118


def _origin(info: KeyInfo) -> KeyOrigin:
    identity = _mapping(json.loads(info.identity))
    views = identity.get("views")
    return KeyOrigin(
        info.key,
        name_of(info.key),
        tuple(_view(_mapping(view)) for view in views) if isinstance(views, list) else (),
        _grid(_mapping(identity.get("grid"))),
        str(identity.get("precision", "")),
        info.weights,
        _kind(info.weights),
        info.licence,
        json.dumps(identity, indent=2, ensure_ascii=False),
    )


def _kind(weights: str) -> Kind:
    kinds: dict[str, Kind] = {"random": "random", "file": "unverified", "sha256": "published", "md5": "published"}
    if weights == UNKNOWN:
        return "imported"
    return kinds.get(weights.partition(":")[0], "unknown")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _view(view: Mapping[str, Any]) -> str:
    if view.get("kind") == "Frames":
        count, size = view.get("count"), view.get("resize")
        shape = f"short side {size}" if isinstance(size, int) else f"resized to {_by(size)}"
        crop = f", centre {view['crop']}" if view.get("crop") else ""
        return f"{count} RGB frame{'' if count == 1 else 's'}, {shape}{crop}"
    if view.get("kind") == "Sound" and view.get("samples") and view.get("rate_hz"):
        seconds, spectrogram = view["samples"] / view["rate_hz"], _mapping(view.get("spectrogram"))
        bands = spectrogram.get("n_mels")
        mel = f", {bands} log-mel bands" if bands else ", spectrogram" if spectrogram else ""
        return f"{seconds:.3g} s of sound at {view['rate_hz'] / 1000:g} kHz{mel}"
    return str(view.get("kind", "unknown"))


def _by(size: Any) -> str:
    return " × ".join(map(str, size)) if isinstance(size, list) else str(size)


def _grid(grid: Mapping[str, Any]) -> str:
    if not grid.get("hop_ns") or not grid.get("window_ns"):
        return ""
    rows = f"{grid['count']} rows" if grid.get("count") else f"a row every {grid['hop_ns'] / NS:g} s"
    sampling = f", frames by {grid['sampling']}" if grid.get("sampling") else ""
    return f"{rows} of {grid['window_ns'] / NS:g} s{sampling}"
