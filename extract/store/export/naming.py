"""What an export's files are called: by key, and by clip."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extract.errors import PlanError

if TYPE_CHECKING:
    from extract.store import Store


@dataclass(frozen=True, slots=True)
class ClipNames:
    """One name per clip.

    Parameters
    ----------
    names
        by clip id; no two are equal, and none holds a ``/``
    notes
        for the user, where the names are not those of the videos
    """

    names: dict[str, str]
    notes: tuple[str, ...] = ()


def backbone_of(key: str) -> str:
    """The backbone's name in a full key."""
    return key.rpartition("@")[0] or key


def key_names(keys: Sequence[str]) -> dict[str, str]:
    """By full key: the backbone's name where only one of `keys` has it, otherwise the full key."""
    shared = Counter(backbone_of(key) for key in keys)
    return {key: backbone_of(key) if shared[backbone_of(key)] == 1 else key for key in keys}


def clip_names(store: Store, ids: Sequence[str]) -> ClipNames:
    """Names for layouts that call a file after its video.

    That is the stem of the video's file, as long as no two clips of the store's manifest share one. Where they do (several
    spans of one file, equal names in two folders), or where a clip is not in the manifest, every file is called after its
    clip's id. It is judged on the whole manifest, so that a split is named as the whole is. A ``/`` in an id becomes ``%2F``.

    Raises
    ------
    PlanError
        two ids give one name; the message has both
    """
    manifest = store.manifest
    stems = Counter(_stem(clip.path) for clip in manifest.values())
    outside = next((clip_id for clip_id in ids if clip_id not in manifest), None)
    twice = next((stem for stem, clips in stems.items() if clips > 1), None)
    if outside is None and twice is None:
        return ClipNames({clip_id: _stem(manifest[clip_id].path) for clip_id in ids})
    why = (
        f"{stems[twice]} clips are of videos called {twice!r}"
        if twice is not None
        else f"the store's manifest does not have {outside!r}, for one"
    )
    return ClipNames(_by_id(ids), (f"files are named after the clips' ids, not after their videos: {why}",))


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _by_id(ids: Sequence[str]) -> dict[str, str]:
    names = {clip_id: clip_id.replace("/", "%2F") for clip_id in ids}
    if len(set(names.values())) < len(names):
        first: dict[str, str] = {}
        for clip_id, name in names.items():
            if first.setdefault(name, clip_id) != clip_id:
                raise PlanError(
                    f"clips {first[name]!r} and {clip_id!r} would both be written as {name!r}; export them one after the "
                    "other into two folders, with --only"
                )
    return names
