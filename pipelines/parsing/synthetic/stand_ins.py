"""What backbones might give for clips that nobody filmed, with known strengths and known confusions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backbones import registry
from backbones.spec import Frames
from extract.errors import PlanError
from extract.grid import NS
from extract.plan import canonical_json, key_of
from extract.store.rows import KeyInfo
from pipelines.parsing.synthetic.scenes import Drawn, Float, Int, Scene

SOURCE = "synthetic"
LATENT = 64
"""Numbers that a second is made of, before they are spread over the numbers of a feature."""
_SCALE = 0.5  # so that VGGish and ResNet-152 have about the mean and the maximum that they really have
_ZEROS = {"audio": 0.6, "visual": 0.3}
_BLOCK = 4
_OWN = {"audio": ((0, 1), (2, 3)), "visual": ((0, 2), (1, 3))}
_COMMON = ((0, 3), (1, 2))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class StandIn:
    """Stands in for a backbone.

    A second is ``strength * (sum over its events of loudness * prototype) + background + noise`` in 64 numbers, the noise of
    each being normal with variance 1. A random matrix spreads them over the numbers of the feature, and a rectifier cuts off
    what is negative. Prototypes have length 1.

    Parameters
    ----------
    name
        of the backbone that it stands in for
    modality
        what it perceives: ``audio`` or ``visual``
    dims
        shape of a row: (d,), or (H, W, d) for a network that keeps the places of a picture (visual only). An object is then
        in some of the H x W cells only
    strength
        signal to noise of this modality alone: how many standard deviations of the noise an event of loudness 1 moves a
        second towards its class. 0: it perceives nothing
    shared
        0..1: how far it confuses the same classes as the other modality does. Classes are taken in fours; within a four,
        all audio networks take two and two for nearly the same, and all visual networks others. In this share of the fours
        (rounded), the first ones, it takes two and two for the same that are the same for both modalities: of two networks,
        fours that are below both their shares are confused alike, and one modality does not help the other there. A
        network alone is as good at any value
    confusion
        0..1: cosine between the prototypes of two classes that it confuses
    background
        standard deviation of what is added to all seconds of a clip alike
    zeros
        0..1, exclusive: share of the numbers of a silent, empty second that the rectifier sets to zero
    rows_per_second
        1, or more: the rows of one second differ by noise of variance 1 each

    Raises
    ------
    PlanError
        a value is out of its range
    """

    name: str
    modality: Literal["audio", "visual"]
    dims: tuple[int, ...]
    strength: float = 4.0
    shared: float = 0.0
    confusion: float = 0.8
    background: float = 0.7
    zeros: float = 0.3
    rows_per_second: int = 1

    def __post_init__(self) -> None:
        where = f"StandIn {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise PlanError(f"{where}: a name is 1 to 64 letters, digits, '.', '_' or '-'")
        if self.modality not in _OWN:
            raise PlanError(f"{where}: modality is {self.modality!r}; it must be audio or visual")
        maps = len(self.dims) == 3 and self.modality == "visual"
        if not (len(self.dims) == 1 or maps) or min(self.dims) < 1:
            raise PlanError(f"{where}: dims are {self.dims}; they must be (d,), or (H, W, d) of a visual network")
        for name, most in (("strength", 100.0), ("shared", 1.0), ("confusion", 1.0), ("background", 100.0)):
            if not 0 <= getattr(self, name) <= most:
                raise PlanError(f"{where}: {name} is {getattr(self, name)}; it must be from 0 to {most:g}")
        if not 0 < self.zeros < 1:
            raise PlanError(f"{where}: zeros is {self.zeros}; it must be between 0 and 1")
        # a key has one number of rows per clip, and windows are whole nanoseconds
        if not (1 <= self.rows_per_second <= 50 and NS % self.rows_per_second == 0):
            raise PlanError(f"{where}: rows_per_second is {self.rows_per_second}; use 1, 2, 4, 5, 8, 10, ... up to 50")

    def info(self, scene: Mapping[str, Any], seconds: int) -> KeyInfo:
        """What a store keeps of it: an identity that says in every part of it that no network was run.

        Parameters
        ----------
        scene
            JSON-able: all that the events depend on, with its ``seed``
        seconds
            length of a clip
        """
        hop_ns = NS // self.rows_per_second
        made = asdict(self)
        identity = canonical_json(
            {
                "backbone": made.pop("name"),
                "source": SOURCE,
                "scene": scene,
                "stand_in": made,
                "grid": {"window_ns": hop_ns, "hop_ns": hop_ns, "count": seconds * self.rows_per_second},
                "weights": (weights := f"random:{SOURCE}:{scene['seed']}"),
            }
        )
        view = canonical_json([{"kind": f"{SOURCE}: made from labels; no network saw or heard anything"}])
        return KeyInfo(key_of(identity), identity, view, weights, f"none needed ({SOURCE})", self.dims)


def stand_in(name: str, modality: Literal["audio", "visual"], *, strength: float, rows_per_second: int = 1) -> StandIn:
    """One for a backbone of the zoo.

    Parameters
    ----------
    name
        of a backbone
    modality
        what it must perceive
    strength
        see :class:`StandIn`
    rows_per_second
        of image networks; others have one

    Raises
    ------
    UnknownName
        the zoo has no such backbone
    PlanError
        it perceives something else, or its rows have a shape that parsers do not take
    """
    backbone = registry.get(name)
    if backbone.modality != modality:
        raise PlanError(f"{name} is {backbone.modality}, and was given as {modality}")
    image = all(isinstance(view, Frames) and view.count == 1 for view in backbone.views)
    rows = rows_per_second if image else 1
    return StandIn(name, modality, backbone.dims, strength, zeros=_ZEROS[modality], rows_per_second=rows)


def confused(classes: int, of: StandIn) -> list[tuple[int, int]]:
    """Pairs of classes that it takes for nearly the same; no class is in two of them."""
    blocks = classes // _BLOCK
    common = int(of.shared * blocks + 0.5)
    pairs = [(block, pair) for block in range(blocks) for pair in (_COMMON if block < common else _OWN[of.modality])]
    return [(_BLOCK * block + one, _BLOCK * block + other) for block, (one, other) in pairs]


def prototypes(classes: int, of: StandIn) -> Float:
    """(C, 64) float32, rows of length 1: at right angles, but for those that it confuses."""
    found = np.eye(classes, LATENT, dtype=np.float32)
    for number, pair in enumerate(confused(classes, of)):
        for label in pair:
            found[label, label] = math.sqrt(1 - of.confusion)
            found[label, classes + number] = math.sqrt(of.confusion)
    return found


def features(drawn: Drawn, of: StandIn, scene: Scene, classes: int, seed: int, start: int) -> Float:
    r"""What it gives for some clips.

    Parameters
    ----------
    drawn
        N clips
    of
        the network
    scene
        how the clips came about
    classes
        how many there are
    seed, start
        of everything that is random; number of the first of the clips

    Returns
    -------
    (N, R, \*dims) float32, >= 0
        R rows per clip; a function of the arguments alone
    """
    name = list(of.name.encode())
    rng = np.random.default_rng([seed, 3, start, *name])
    modality = ("audio", "visual").index(of.modality)
    clips, cells = len(drawn.label), math.prod(of.dims[:-1])
    strong = _active(drawn.span_s[:, :, modality], scene.seconds) * drawn.loudness[:, None, :, modality]
    if len(of.dims) > 1:
        inside = _inside(drawn.place, of.dims, scene.extent)
        strong = (strong[:, :, None] * inside[:, None]).reshape(clips, scene.seconds * cells, -1)
    # a label of -1 takes the last prototype, nothing of it: its span is empty
    rows = (np.float32(of.strength) * (strong @ prototypes(classes, of)[drawn.label])).reshape(
        clips, scene.seconds, cells, LATENT
    )
    rows += np.float32(of.background) * rng.standard_normal((clips, 1, cells, LATENT), np.float32)
    rows += rng.standard_normal(rows.shape, np.float32)
    variance = 1 + of.background**2
    if of.rows_per_second > 1:
        rows = rows.repeat(of.rows_per_second, axis=1)
        rows += rng.standard_normal(rows.shape, np.float32)
        variance += 1
    # the same for all clips, so not from their generator
    mix = np.random.default_rng([seed, 4, *name]).standard_normal((LATENT, of.dims[-1]), np.float32)
    found: Float = rows @ (mix * np.float32(_SCALE / math.sqrt(LATENT)))
    found -= np.float32(_SCALE * NormalDist(0, math.sqrt(variance)).inv_cdf(of.zeros))
    return np.maximum(found, 0, out=found).reshape(clips, -1, *of.dims)


def _active(span_s: Int, seconds: int) -> Float:
    """(N, T, M) float32: 1 in the seconds of each span."""
    at = np.arange(seconds)[:, None]
    return ((span_s[:, None, :, 0] <= at) & (at < span_s[:, None, :, 1])).astype(np.float32)


def _inside(place: Float, dims: tuple[int, ...], extent: float) -> Float:
    """(N, H * W, M) float32: 1 in the cells that show each object; at least one does."""
    height, width, _ = dims
    row, column = (_covers(place[..., axis], size, extent) for axis, size in enumerate((height, width)))
    both = row[:, :, None] & column[:, None]
    return both.reshape(len(place), height * width, -1).astype(np.float32)


def _covers(middle: Float, cells: int, extent: float) -> NDArray[np.bool_]:
    """(N, cells, M): which cells along one side a stretch of that length covers; it is moved to lie inside."""
    length = max(1, round(extent * cells))
    first = np.rint(middle * (cells - length)).astype(np.int64)[:, None]
    at = np.arange(cells)[:, None]
    return (first <= at) & (at < first + length)
