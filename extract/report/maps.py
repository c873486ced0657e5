"""Clips as points in a plane, per backbone: principal components of their mean rows, or UMAP where it is installed."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError, nearest
from extract.report.sample import SEED, Looked
from extract.report.subject import NO_SPLIT
from extract.report.words import cut
from manifests.clip import Clip

Method = Literal["pca", "umap"]
COLOURS = 7
FEWEST, FEWEST_UMAP = 3, 16
TITLE_CHARS = 100
OTHERS, NONE = "other labels", "no label"
SIDE = 1000


@dataclass(frozen=True, slots=True)
class Group:
    """Points of one colour: `colour` from 1, 0 is grey; a point is x, y and its title."""

    name: str
    colour: int
    points: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class Map:
    """One backbone's map.

    Parameters
    ----------
    key
        its name
    method
        ``PCA`` or ``UMAP``
    explained
        percent of the variance that each axis holds; empty for UMAP
    clips
        points
    height
        of the picture whose width is 1000
    groups
        the most frequent first, grey last
    """

    key: str
    method: str
    explained: tuple[float, ...]
    clips: int
    height: int
    groups: tuple[Group, ...]


def check_method(method: str) -> None:
    """Refuse a method that is unknown or not installed, before anything is read.

    Raises
    ------
    UnknownName, PlanError
        see above
    """
    if method not in get_args(Method):
        raise nearest(method, list(get_args(Method)), "map")
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise PlanError("--map umap needs umap-learn, which is not installed: pip install umap-learn, or use --map pca")


def draw(looked: Looked, clips: Mapping[str, Clip], method: str) -> Map | None:
    """The map of one key; None of fewer than three clips."""
    if len(looked.ids) < FEWEST:
        return None
    explained: tuple[float, ...] = ()
    if method == "umap" and len(looked.ids) >= FEWEST_UMAP:
        plane, name = _umap(looked.means), "UMAP"
    else:
        plane, explained = principal(looked.means)
        name = "PCA"
    spread = np.ptp(plane, axis=0)
    scale = (SIDE - 40) / max(float(spread.max()), 1e-30)
    height = int(np.clip(spread[1] * scale + 40, SIDE * 0.56, SIDE))
    centred = (plane - (plane.max(axis=0) + plane.min(axis=0)) / 2) * scale
    places = np.rint(centred * (1, -1) + (SIDE / 2, height / 2)).astype(int)
    return Map(looked.key, name, explained, len(looked.ids), height, _groups(looked.ids, places, clips))


def principal(means: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """The first two principal components of (n, D), as (n, 2), and the percent of the variance that each holds.

    From the eigenvectors of the smaller one of the two products, which is exact; the largest loading of a component is positive,
    so that a map does not mirror itself from one report to the next.
    """
    centred = means - means.mean(axis=0, dtype=np.float64).astype(np.float32)
    wide = centred.shape[0] <= centred.shape[1]
    product = (centred @ centred.T if wide else centred.T @ centred).astype(np.float64)
    values, vectors = np.linalg.eigh(product)
    values, vectors = np.maximum(values[::-1][:2], 0.0), vectors[:, ::-1][:, :2]
    plane = vectors * np.sqrt(values) if wide else centred.astype(np.float64) @ vectors
    if plane.shape[1] < 2:
        plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    farthest = plane[np.abs(plane).argmax(axis=0), np.arange(plane.shape[1])]
    total = float(np.trace(product))
    explained = tuple(100 * float(value) / total for value in values) if total > 0 else ()
    return plane * np.where(farthest < 0, -1.0, 1.0), explained


def _umap(means: NDArray[np.float32]) -> NDArray[np.float64]:
    umap = importlib.import_module("umap")
    return np.asarray(umap.UMAP(n_components=2, random_state=SEED).fit_transform(means), np.float64)


def _groups(ids: tuple[str, ...], places: NDArray[np.int64], clips: Mapping[str, Clip]) -> tuple[Group, ...]:
    names = [_group_name(clips.get(clip_id)) for clip_id in ids]
    if not any(clip.labels for clip in clips.values()):
        names = [(clips[clip_id].split or NO_SPLIT) if clip_id in clips else NONE for clip_id in ids]
    coloured = [
        name for name, _ in sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])) if name != NONE
    ]
    order = {name: i for i, name in enumerate(coloured[:COLOURS], 1)}
    points: dict[str, list[tuple[int, int, str]]] = {name: [] for name in (*order, OTHERS, NONE)}
    for clip_id, name, (x, y) in zip(ids, names, places.tolist(), strict=True):
        chosen = name if name in order or name == NONE else OTHERS
        points[chosen].append((x, y, _title(clip_id, clips.get(clip_id))))
    return tuple(Group(name, order.get(name, 0), tuple(found)) for name, found in points.items() if found)


def _group_name(clip: Clip | None) -> str:
    return clip.labels[0] if clip is not None and clip.labels else NONE


def _title(clip_id: str, clip: Clip | None) -> str:
    text = clip_id if clip is None or not clip.labels else f"{clip_id}: {', '.join(clip.labels)}"
    return cut(text, TITLE_CHARS)
