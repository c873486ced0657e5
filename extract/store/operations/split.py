"""One store becomes several, by split, in shards of equal size, or by a list of ids; the source stays as it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.errors import PlanError, StoreError, nearest
from extract.plan import canonical_json
from extract.store.index import Index, age_ranks
from extract.store.operations.contents import (
    Chosen,
    Mask,
    by_part,
    content_name,
    everything,
    fingerprint,
    first_of,
    how_written,
    standing,
    write_chosen,
)
from extract.store.operations.making import copy_ledgers, finish, made, making, put_manifest, quiet
from extract.store.store import Store

UNSPLIT, REST = "unsplit", "rest"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Portion:
    """One of the new stores: its folder, and how many clips it lists or holds."""

    store: Path
    clips: int


def by_split(store: Store) -> dict[str, list[str]]:
    """Clips by the manifest's split; those without one, or that it does not list, are ``unsplit``.

    Raises
    ------
    StoreError
        the store has no manifest, or a split whose name is none for a folder
    """
    if not store.manifest:
        raise StoreError(f"{store.path} has no manifest.csv that says which split a clip is of; use --shards or --ids")
    found: dict[str, list[str]] = {}
    for clip_id in _everyone(store):
        clip = store.manifest.get(clip_id)
        found.setdefault((clip.split if clip else "") or UNSPLIT, []).append(clip_id)
    if any(clip.split == UNSPLIT for clip in store.manifest.values()):
        raise StoreError(f"{UNSPLIT!r} is where clips without a split go; give that split another name in the manifest")
    return found


def by_shards(store: Store, count: int) -> dict[str, list[str]]:
    """Stretches of the manifest of equal length, as far as that is possible; clips it does not list come last.

    Raises
    ------
    PlanError
        fewer than one shard, or more than clips
    """
    everyone = _everyone(store)
    if not 1 <= count <= len(everyone):
        raise PlanError(
            f"--shards {count}: {store.path} has {len(everyone)} clips; ask for 1 to {len(everyone)} shards"
        )
    edges = np.linspace(0, len(everyone), count + 1).round().astype(int).tolist()
    digits = len(str(count - 1))
    return {f"shard-{i:0{digits}d}": everyone[edges[i] : edges[i + 1]] for i in range(count)}


def by_ids(store: Store, listed: Sequence[str], name: str) -> dict[str, list[str]]:
    """The listed clips under `name`, all others under ``rest``.

    Raises
    ------
    UnknownName
        neither the store nor its manifest knows a clip
    StoreError
        `name` is ``rest``
    """
    if name == REST:
        raise StoreError(f"{REST!r} is where the clips go that are not listed; give the list another file name")
    everyone = _everyone(store)
    unknown = sorted(set(listed) - set(everyone))
    if unknown:
        raise nearest(unknown[0], everyone[:10_000], f"clip of {store.path}")
    wanted = frozenset(listed)
    found = {
        name: [each for each in everyone if each in wanted],
        REST: [each for each in everyone if each not in wanted],
    }
    return {each: clips for each, clips in found.items() if clips}


def split(
    store: Store,
    portions: Mapping[str, Sequence[str]],
    out: Path,
    on_part: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> list[Portion]:
    """Make one store per portion; merging them again gives the content digest of the source.

    A split that was killed is finished by the same command.

    Parameters
    ----------
    store
        to be read
    portions
        ids of clips by the name of their new store, each clip once
    out
        folder of the new stores
    on_part
        told after each part the new store's name, how many parts are done, of how many

    Raises
    ------
    StoreError
        a name is none for a folder, or a new store's folder holds something else
    StoreBusy, StoreUnwritable, DamagedPart
        somebody holds the source; no space; the source is damaged
    """
    for name in portions:
        if not _NAME.fullmatch(name):
            raise StoreError(
                f"{name!r} cannot be the folder of a store: 1 to 100 letters, digits, '.', '_' or '-', not beginning with "
                "'.' or '-'"
            )
    quiet(store.path)
    index = store.index
    said = standing(store)
    content = fingerprint(index, everything(index), *said)
    asked = {
        name: {
            "operation": "split",
            "content": content,
            "clips": hashlib.sha256(canonical_json(list(clips)).encode()).hexdigest(),
        }
        for name, clips in portions.items()
    }
    # nothing is written before every folder is known to be free
    complete = {name: made(out / name, asked[name]) is not None for name in portions}
    for name, clips in portions.items():
        if not complete[name]:
            with making(out / name, asked[name]):
                chosen = _chosen(index, clips, said)
                for part, each in enumerate(chosen):
                    if each.count:
                        _write(store, index, part, each, out / name)
                    on_part(name, part + 1, len(chosen))
                _put_labels(store, clips, out / name)
                copy_ledgers([store.path], out / name)
                finish(out / name, asked[name], {"clips": len(clips)})
    return [Portion(out / name, len(clips)) for name, clips in portions.items()]


def _chosen(index: Index, clips: Sequence[str], said: tuple[Mask, Mask]) -> list[Chosen]:
    """What the parts hold of some clips, rows in several of them once."""
    ranks = index.ranks(clips)
    wanted = np.zeros(len(index.ids), bool)
    wanted[ranks[ranks >= 0]] = True
    newest = -age_ranks(index.parts)
    rows = {key: first_of(column, newest) & wanted[column.clip] for key, column in index.columns.items()}
    return by_part(index, rows, said[0] & wanted[index.failed.clip], said[1] & wanted[index.masked.clip])


def _write(store: Store, index: Index, part: int, chosen: Chosen, out: Path) -> None:
    path = out / "parts" / content_name("split", index, chosen)
    if not path.exists():
        provenance, compression = how_written(store.path / "parts" / index.parts[part].name)
        write_chosen(path, store, index, chosen, provenance, compression)


def _put_labels(store: Store, clips: Sequence[str], out: Path) -> None:
    inside = frozenset(clips)
    listed = [store.manifest[clip_id] for clip_id in clips if clip_id in store.manifest]
    put_manifest(out, listed, [event for event in store.events if event.clip_id in inside])


def _everyone(store: Store) -> list[str]:
    """Every clip that the manifest lists, in its order, then those that only the store knows."""
    known = store.index.text(np.arange(len(store.index.ids)))
    return [*store.manifest, *(clip_id for clip_id in known if clip_id not in store.manifest)]
