"""What belongs together in two stores: keys by backbone, clips by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extract.errors import StoreError
from extract.store.store import Store
from manifests.built import YOUTUBE_ID

ID_LETTERS = 11
BY_ID, BY_PREFIX = "id", f"id, or first {ID_LETTERS} characters"


@dataclass(frozen=True, slots=True)
class Matched:
    """Clips of two stores.

    Parameters
    ----------
    partners
        of each clip of the first store that has any; more than one where the first knows a video that the second cuts into
        several clips
    only_a, only_b
        clips without a partner
    how
        they were matched
    """

    partners: dict[str, tuple[str, ...]]
    only_a: int
    only_b: int
    how: str


def match_clips(a: Sequence[str], b: Sequence[str]) -> Matched:
    """Clips of equal ids belong together; where one store has bare YouTube ids only, also clips that begin with them.

    Released features are named so: LLP's files by the first 11 characters of a clip's id.
    """
    in_a, in_b = set(a), set(b)
    partners: dict[str, tuple[str, ...]] = {clip: (clip,) for clip in a if clip in in_b}
    rest_a, rest_b = [clip for clip in a if clip not in in_b], [clip for clip in b if clip not in in_a]
    by_id = len(partners)
    used_b = len(partners)
    if rest_a and rest_b and _bare(b):
        bare = set(rest_b)
        partners |= {clip: (clip[:ID_LETTERS],) for clip in rest_a if clip[:ID_LETTERS] in bare}
        used_b = len({found for each in partners.values() for found in each})
    elif rest_a and rest_b and _bare(a):
        bare = set(rest_a)
        of_video: dict[str, list[str]] = {}
        for clip in rest_b:
            if clip[:ID_LETTERS] in bare:
                of_video.setdefault(clip[:ID_LETTERS], []).append(clip)
        partners |= {video: tuple(clips) for video, clips in of_video.items()}
        used_b += sum(map(len, of_video.values()))
    how = BY_ID if len(partners) == by_id else BY_PREFIX
    return Matched(partners, len(in_a) - len(partners), len(in_b) - used_b, how)


def _bare(ids: Sequence[str]) -> bool:
    return all(YOUTUBE_ID.fullmatch(clip_id) for clip_id in ids)


def pair_keys(
    a: Store, b: Store, keys: Mapping[str, str] | None
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...], tuple[str, ...]]:
    """Pairs of full keys, then those of either store without a partner (none where the pairs were named).

    Parameters
    ----------
    a, b
        the stores
    keys
        by key or backbone's name in `a`, that in `b`; None: by backbone

    Raises
    ------
    UnknownName, StoreError
        no such key; no backbone in common; several keys of one backbone
    """
    if keys is not None:
        return tuple((a.resolve(name), b.resolve(other)) for name, other in keys.items()), (), ()
    in_a, in_b = _by_backbone(a), _by_backbone(b)
    both = [name for name in in_a if name in in_b]
    if not both:
        raise StoreError(
            f"{a.path} and {b.path} have no backbone in common: {', '.join(in_a) or 'nothing'} here, "
            f"{', '.join(in_b) or 'nothing'} there; name what is to be compared with --keys A=B"
        )
    for name in both:
        for store, found in ((a, in_a[name]), (b, in_b[name])):
            if len(found) > 1:
                raise StoreError(
                    f"{store.path} has {len(found)} features of {name}: {', '.join(found)}; say with --keys A=B which one"
                )
    return tuple((in_a[name][0], in_b[name][0]) for name in both), _without(in_a, both), _without(in_b, both)


def _without(found: dict[str, list[str]], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(key for name, keys in found.items() if name not in names for key in keys)


def _by_backbone(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for info in store.keys():  # noqa: SIM118
        found.setdefault(info.key.split("@")[0], []).append(info.key)
    return found
