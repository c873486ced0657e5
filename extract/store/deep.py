"""Is a store plausible: do rows lie on their grid, are they features at all, does the zoo know what its keys claim."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones import registry, sources
from backbones.spec import Backbone, View, describe_view
from extract.errors import ExtractError, ManifestError
from extract.grid import NS, Grid
from extract.store.catalog import Catalog
from extract.store.finding import Finding, Level
from extract.store.index import Index
from extract.store.rows import KeyInfo
from extract.store.scrub import Looked
from manifests.clip import Clip

Fed = Callable[[Backbone], Iterable[tuple[View, ...]]]
"""How recipes feed a network: its views, once per recipe."""
_MANY = 3  # rows; two equal ones are no wonder
_SHOWN = 5
Problem = tuple[str, Level]


class Deep:
    """What goes beyond checksums, for one store; told of each part, key and clip in turn.

    Parameters
    ----------
    store_path
        folder of the store, for its copy of the manifest
    fed
        see :func:`extract.store.verify.verify`
    """

    def __init__(self, store_path: Path, fed: Fed | None) -> None:
        self._catalog = Catalog(store_path, strict=False)
        self._fed = fed
        self._grids: dict[str, Grid | None] = {}
        self._masked: Mapping[str, Mapping[str, str]] = {}
        self._part = ""
        self._unexplained: list[tuple[str, str, str]] = []
        self._manifest: dict[str, Clip] = {}
        self._unread: list[Finding] = []
        try:
            self._manifest = self._catalog.manifest
        except ManifestError as error:
            self._unread.append(Finding("manifest.csv", "", "", str(error)))

    def begin(self, part: str, masked: Mapping[str, Mapping[str, str]]) -> None:
        """A part begins, with these remarks of ``/masked``: reason by key and clip."""
        self._part, self._masked = part, masked

    # ---- keys ----------------------------------------------------------------------------------------------------

    def key(self, info: KeyInfo) -> Iterator[Problem]:
        """What is odd about a key; once per key."""
        if info.key in self._grids:
            return
        identity: dict[str, Any] = json.loads(info.identity)
        try:
            self._grids[info.key] = Grid(**identity["grid"])
        except (KeyError, TypeError, ValueError):
            self._grids[info.key] = None
            text = f"its identity has no grid that could be compared with its rows: {identity.get('grid')}"
            yield text, "suspect"
        if identity.get("storage", "float32") != info.storage:
            said = identity.get("storage", "float32")
            yield f"its identity says that it is stored as {said}, its rows are {info.storage}", "suspect"
        yield from _network(info, identity, self._fed)

    # ---- clips ---------------------------------------------------------------------------------------------------

    def clip(self, info: KeyInfo, clip_id: str, looked: Looked) -> Iterator[Problem]:
        """What is odd about a clip's rows."""
        valid, traits = looked.valid, looked.traits
        own = int((valid > 0).sum())
        if traits.constant:
            yield f"{traits.constant} of its {own} valid rows hold one value everywhere", "suspect"
        if traits.alike and own >= _MANY:
            yield f"its {own} valid rows are all the same", "suspect"
        grid = self._grids.get(info.key)
        if grid is not None:
            yield from _on_grid(grid, looked.window_ns, self._length_ns(clip_id))
        remark = self._masked.get(info.key, {}).get(clip_id)
        if remark is None and own < len(valid):
            self._unexplained.append((self._part, info.key, clip_id))
        elif remark is not None and own == len(valid):
            yield f"is remarked as masked ({remark}), but all its {own} rows are valid", "suspect"

    def _length_ns(self, clip_id: str) -> int | None:
        clip = self._manifest.get(clip_id)
        return None if clip is None or clip.stop_ns is None else clip.stop_ns - clip.start_ns

    # ---- the store -----------------------------------------------------------------------------------------------

    def whole(self, index: Index) -> Iterator[Finding]:
        """What only the whole store tells; `index` is of all its parts."""
        yield from self._unread
        for part, key, clip_id in self._still_unexplained(index):
            text = "has rows that a policy filled (valid = 0), and no remark in /masked says why"
            yield Finding(part, key, clip_id, text, "suspect")
        if self._manifest:
            yield from self._unlisted(index)
            yield from self._labels()

    def _still_unexplained(self, index: Index) -> Iterator[tuple[str, str, str]]:
        """A remark may lie in another part than its rows."""
        if not self._unexplained:
            return
        words = {word: i for i, word in enumerate(index.words)}
        ranks = index.ranks([clip_id for _, _, clip_id in self._unexplained])
        keys = np.array([words.get(key, -1) for _, key, _ in self._unexplained], np.int64)
        wide = len(words) + 1
        told = np.isin(ranks * wide + keys, index.masked.clip.astype(np.int64) * wide + index.masked.key)
        told &= (ranks >= 0) & (keys >= 0)
        for which, explained in zip(self._unexplained, told.tolist(), strict=True):
            if not explained:
                yield which

    def _unlisted(self, index: Index) -> Iterator[Finding]:
        listed = np.array([clip_id.encode() for clip_id in self._manifest])
        for key, column in sorted(index.columns.items()):
            there = np.unique(column.clip)
            beside = there[~np.isin(index.ids[there], listed)]
            if len(beside):
                some = index.text(beside[:_SHOWN])
                part = index.parts[int(column.part[np.searchsorted(column.clip, beside[0])])].name
                yield Finding(part, key, some[0], _unlisted(len(beside), some), "note")

    def _labels(self) -> Iterator[Finding]:
        name = "manifest.dense.csv"
        try:
            events = self._catalog.events
        except ManifestError as error:
            yield Finding(name, "", "", str(error))
            return
        for event in events:
            length_ns = self._length_ns(event.clip_id)
            if event.clip_id not in self._manifest:
                yield Finding(
                    name, "", event.clip_id, "has labels with times, but manifest.csv does not list it", "suspect"
                )
            elif length_ns is not None and event.offset_s * NS >= length_ns + NS:
                text = f"its label {event.label!r} ends at {event.offset_s} s, the clip at {length_ns / NS:g} s"
                yield Finding(name, "", event.clip_id, text, "suspect")


def _unlisted(count: int, some: tuple[str, ...]) -> str:
    more = f" and {count - len(some)} more" if count > len(some) else ""
    return f"manifest.csv does not list {count} clip(s) that have rows: {', '.join(some)}{more}"


def _on_grid(grid: Grid, window_ns: NDArray[np.int64], length_ns: int | None) -> Iterator[Problem]:
    rows = len(window_ns)
    if grid.count is not None and rows != grid.count:
        yield f"has {rows} rows, its key's grid {grid.count}", "suspect"
    # a file may end before its clip does, so fewer rows than the span has room for are no fault
    if grid.count is None and length_ns is not None and rows > grid.rows(length_ns):
        most = grid.rows(length_ns)
        yield f"has {rows} rows, its key's grid has {most} on the {length_ns / NS:g} s of the manifest", "suspect"
    start = np.arange(rows, dtype=np.int64) * grid.hop_ns
    beside = np.flatnonzero((window_ns[:, 0] != start) | (window_ns[:, 1] != start + grid.window_ns))
    if len(beside):
        row = int(beside[0])
        is_s, grid_s = window_ns[row] / NS, np.array([start[row], start[row] + grid.window_ns]) / NS
        yield (
            (
                f"the windows of {len(beside)} rows are not those of its key's grid: row {row} is "
                f"[{is_s[0]:g}, {is_s[1]:g}) s, must be [{grid_s[0]:g}, {grid_s[1]:g}) s"
            ),
            "suspect",
        )


def _network(info: KeyInfo, identity: Mapping[str, Any], fed: Fed | None) -> Iterator[Problem]:
    """What a key claims, beside what the zoo knows."""
    name = str(identity.get("backbone"))
    try:
        backbone = registry.get(name)
    except (ExtractError, ImportError) as error:
        yield f"the zoo here cannot tell about {name}: {error}", "note"
        return
    if info.dims != backbone.dims:
        yield f"its rows have shape {info.dims}, those of {name} are {backbone.dims}", "suspect"
    if "imported" in identity:
        yield "was imported; how it was computed is not known", "note"
        return
    if identity.get("source") == "synthetic":
        yield "is synthetic: made from drawn labels, no network saw or heard anything", "note"
        return
    yield from _weights(str(identity.get("weights", "not named")), backbone)
    if fed is not None:
        described = [[describe_view(view) for view in views] for views in (backbone.views, *fed(backbone))]
        plain = json.loads(json.dumps(described))
        if identity.get("views") not in plain:
            yield f"its views are neither those of {name} itself nor of a recipe that is known here", "suspect"


def _weights(said: str, backbone: Backbone) -> Iterator[Problem]:
    kind = said.partition(":")[0]
    published = sources.digests(backbone)
    if kind == "random":
        yield f"its weights are random ({said}): rows to try things out with, no features", "note"
    elif kind == "file":
        yield "its weights came from a file that nobody published a digest of, or from one's own training", "note"
    elif said != _joined(published):
        yield (
            f"its weights are {said}, those published for {backbone.name} are {_joined(published) or 'without digest'}",
            "suspect",
        )


def _joined(digests: Sequence[str | None]) -> str:
    """As backbones.weights.weights_id names official weights; empty where one file has no published digest."""
    known = [digest for digest in digests if digest]
    if len(known) < len(digests) or not known:
        return ""
    kinds = {digest.partition(":")[0] for digest in known}
    return "+".join(known) if len(kinds) > 1 else f"{kinds.pop()}:{'+'.join(d.partition(':')[2] for d in known)}"
