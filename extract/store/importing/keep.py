"""The store's own lists of clips and events, when a release brings more of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from extract.errors import ManifestError
from extract.store.importing.released import Release
from extract.store.sink import unwritable
from extract.store.store import Store
from manifests.clip import Clip, write_manifest
from manifests.dense import Event, dense_path, read_dense, write_dense


def keep_lists(store_path: Path, release: Release, given: Sequence[Clip] | None, manifest: Path | None) -> None:
    """Add clips and events to ``manifest.csv`` and ``manifest.dense.csv`` of a store.

    Parameters
    ----------
    store_path
        of a store that is held
    release
        what is imported
    given, manifest
        clips of the manifest that the user named, and its path: they replace what the store says of the same ids. None:
        the release's clips are added, and what the store knows stays

    Raises
    ------
    ManifestError
        the events beside the manifest cannot be read
    StoreUnwritable
        no space, no permission, ...
    """
    store = Store(store_path)
    old = store.manifest
    clips = {**old, **{clip.clip_id: clip for clip in given}} if given is not None else dict(old)
    for clip in release.clips:
        clips.setdefault(clip.clip_id, clip)
    if list(clips.values()) != list(old.values()):
        _write(store_path / "manifest.csv", 100 * len(clips), lambda path: write_manifest(path, clips.values()))
    new = release.events
    if manifest is not None and dense_path(manifest).is_file():
        new = read_dense(dense_path(manifest))
    events = _united(store.events, [event for event in new if event.clip_id in clips], replace=given is not None)
    if events != store.events:
        _write(store_path / "manifest.dense.csv", 60 * len(events), lambda path: write_dense(path, events))


def _united(old: Sequence[Event], new: Sequence[Event], *, replace: bool) -> tuple[Event, ...]:
    """Events of both; of a clip that both know, those of one."""
    losing = {event.clip_id for event in (new if replace else old)}
    if replace:
        return (*(event for event in old if event.clip_id not in losing), *new)
    return (*old, *(event for event in new if event.clip_id not in losing))


def _write(path: Path, needed: int, write: Callable[[Path], None]) -> None:
    try:
        write(path)
    except ManifestError as error:
        if isinstance(error.__cause__, OSError):
            raise unwritable(path, needed, error.__cause__) from error
        raise
