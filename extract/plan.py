"""What a run computes, as hashable data: features with their identities, and the views they share. No input or output."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from backbones.spec import Backbone, Frames, View, describe_view
from extract.errors import PlanError
from extract.grid import Grid

Precision = Literal["float32", "bfloat16", "float16"]
Storage = Literal["float32", "float16"]
MissingAudio = Literal["mask", "skip", "error"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask of this machine before it is refused as too large.

    Parameters
    ----------
    pixels
        width x height of one frame; the default admits 8K
    seconds, frames
        of the clip's span, not of its file
    """

    pixels: int = 40_000_000
    seconds: float = 12 * 3600.0
    frames: int = 3_000_000


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the store: a backbone on a grid, at a precision, with certain weights.

    Parameters
    ----------
    backbone
        the network
    views
        what it is fed here; a recipe may differ from the network's own view
    grid
        the row axis
    weights_id
        which trained weights: ``sha256:<8 digits>`` or another published digest, ``file:<sha256 of an unverified file>`` or
        ``random:<seed>``
    precision
        arithmetic of the network
    storage
        type of the stored numbers; what a network gives is float32
    """

    backbone: Backbone
    views: tuple[View, ...]
    grid: Grid
    weights_id: str
    precision: Precision = "float32"
    storage: Storage = "float32"

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that was asked for and changes the numbers. Versions and devices are provenance, not identity."""
        grid = asdict(self.grid)
        if not any(isinstance(view, Frames) for view in self.views):
            del grid["sampling"], grid["stride"]
        # left out where it is the default, so that keys of stores made before there was a choice stay what they are
        stored = {} if self.storage == "float32" else {"storage": self.storage}
        return {
            **stored,
            "backbone": self.backbone.name,
            "views": [describe_view(view) for view in self.views],
            "grid": grid,
            "weights": self.weights_id,
            "precision": self.precision,
        }

    @property
    def identity_json(self) -> str:
        """The identity in its canonical form, the one that is hashed and stored."""
        return canonical_json(self.identity)

    @property
    def gmacs(self) -> float:
        """Multiply-adds of one row in units of 1e9: the backbone's figure, scaled where it is fed more or fewer pixels."""
        fed, own = (sum(_values(view) for view in views) for views in (self.views, self.backbone.views))
        return self.backbone.gmacs * fed / own

    @property
    def key(self) -> str:
        """``name@12 hex`` of the identity: the feature's name in the store."""
        return key_of(self.identity_json)


@dataclass(frozen=True, slots=True)
class Tap:
    """One view on one grid: what the decoder must deliver. Equal taps are computed once."""

    view: View
    grid: Grid


@dataclass(frozen=True, slots=True)
class Plan:
    """What to compute for every clip of a manifest.

    Parameters
    ----------
    recipe
        name of the recipe it was made from
    features
        distinct keys
    missing_audio
        for clips without sound: ``mask`` stores zero rows with ``valid = 0``, ``skip`` stores none, ``error`` fails the feature
    limits
        what a file may ask of this machine
    """

    recipe: str
    features: tuple[Feature, ...]
    missing_audio: MissingAudio = "mask"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.features:
            raise PlanError("a plan needs at least one backbone; see `extract backbones list`")
        keys = [feature.key for feature in self.features]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise PlanError(f"asked for twice: {', '.join(twice)}")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the features, in their order."""
        return tuple(feature.key for feature in self.features)

    def feature(self, key: str) -> Feature:
        """The feature with that key."""
        return next(feature for feature in self.features if feature.key == key)

    def taps(self, keys: Iterable[str]) -> tuple[Tap, ...]:
        """What must be decoded for those features: each distinct (view, grid) once, in the order of the features."""
        wanted = set(keys)
        taps = (Tap(v, f.grid) for f in self.features if f.key in wanted for v in f.views)
        return tuple(dict.fromkeys(taps))


def _values(view: View) -> int:
    return math.prod(view.input_shape)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, the same for equal values on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def key_of(identity_json: str) -> str:
    """The store key of an identity in canonical JSON: ``backbone@first 12 hex of its sha256``."""
    name = json.loads(identity_json)["backbone"]
    return f"{name}@{hashlib.sha256(identity_json.encode()).hexdigest()[:12]}"
