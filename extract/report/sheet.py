"""Contact sheets: for a few clips, pictures, sound, labels and rows on one time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.errors import ExtractError, PlanError, nearest
from extract.grid import NS
from extract.job import limits_of
from extract.plan import Limits
from extract.report import media
from extract.report.lanes import KeyLane, Lane, event_lanes, key_lane, ticks
from extract.report.media import Media
from extract.report.subject import Subject, name_of
from extract.store.rows import Rows
from extract.todo import remembered_choices
from manifests.clip import Clip, resolve

SHOWN = 4
MOST = 12
SHOWN_S = 60.0
SQUARES = 8  # (R, R) pictures per clip
EVENTS_MOST = 200


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything about one clip on one axis of `seconds`; `cut` where the clip is longer than what is shown."""

    clip_id: str
    labels: tuple[str, ...]
    split: str
    file: str
    seconds: float
    cut: bool
    ticks: tuple[tuple[float, float], ...]
    media: Media
    thumbs: tuple[tuple[float, float, float, str], ...]
    mel_width: float
    lanes: tuple[Lane, ...]
    keys: tuple[KeyLane, ...]
    remarks: tuple[tuple[str, str], ...]


def chosen_clips(subject: Subject, asked: Sequence[str]) -> tuple[str, ...]:
    """The clips to show: those asked for, or one that was masked, one that failed in part, and the first others with rows.

    Raises
    ------
    PlanError
        more than twelve are asked for
    UnknownName
        the store knows no such clip
    """
    there = subject.store.clip_ids()
    if asked:
        if len(asked) > MOST:
            raise PlanError(f"--clips names {len(asked)} clips; a page shows at most {MOST}")
        known = {*there, *subject.clips, *(remark.clip_id for remark in (*subject.failed, *subject.masked))}
        for clip_id in asked:
            if clip_id not in known:
                raise nearest(clip_id, sorted(known)[:10_000], f"clip of {subject.store.path}")
        return tuple(dict.fromkeys(asked))
    with_rows = set(there)
    special = [
        next((r.clip_id for r in remarks if r.clip_id in with_rows), None)
        for remarks in (subject.masked, subject.failed)
    ]
    ordered = (clip_id for clip_id in (subject.clips or there) if clip_id in with_rows)
    found = dict.fromkeys(clip_id for clip_id in special if clip_id is not None)
    for clip_id in ordered:
        if len(found) >= SHOWN:
            break
        found.setdefault(clip_id)
    place = {clip_id: i for i, clip_id in enumerate(subject.clips or there)}
    return tuple(sorted(found, key=lambda clip_id: place.get(clip_id, len(place))))


def make_sheet(subject: Subject, clip_id: str, videos: str) -> Sheet:
    """Everything there is to see of one clip; what there is not is said in its place.

    Parameters
    ----------
    subject
        with the clip
    clip_id
        whose
    videos
        folder that the manifest's paths count from; empty: the one of the last run
    """
    clip = subject.clips.get(clip_id)
    rows, unread = _rows(subject, clip_id)
    seconds = _seconds(clip, rows)
    shown, file = _media(subject, clip, videos, seconds)
    seconds = seconds or shown.seconds
    axis_s = min(seconds, SHOWN_S) or 1.0
    keys = tuple(
        key_lane(name_of(key), rows.get(key), unread.get(key) or _why(subject, clip_id, key), axis_s, place < SQUARES)
        for place, key in enumerate(subject.wanted)
    )
    return Sheet(
        clip_id,
        clip.labels if clip is not None else (),
        clip.split if clip is not None else "",
        file,
        seconds,
        seconds > SHOWN_S,
        ticks(axis_s),
        shown,
        tuple(
            (100 * t.start_s / axis_s, 100 * (min(t.stop_s, axis_s) - t.start_s) / axis_s, t.at_s, t.address)
            for t in shown.thumbs
            if t.start_s < axis_s
        ),
        100 * shown.mel_s / axis_s,
        event_lanes([event for event in subject.events if event.clip_id == clip_id][:EVENTS_MOST], axis_s),
        keys,
        tuple((remark.reason, remark.message) for remark in subject.masked if remark.clip_id == clip_id),
    )


def _rows(subject: Subject, clip_id: str) -> tuple[dict[str, Rows], dict[str, str]]:
    found: dict[str, Rows] = {}
    unread: dict[str, str] = {}
    for info in subject.store.keys():  # noqa: SIM118
        if info.key in subject.older or (clip_id, info.key) not in subject.store:
            continue
        try:
            found[info.key] = subject.store.rows(clip_id, info.key)
        except ExtractError as error:
            unread[info.key] = str(error)
    return found, unread


def _why(subject: Subject, clip_id: str, key: str) -> str:
    remarks = (
        remark for remark in (*subject.failed, *subject.masked) if (remark.clip_id, remark.key) == (clip_id, key)
    )
    remark = next(remarks, None)
    return "not computed yet" if remark is None else f"{remark.reason}: {remark.message}"


def _seconds(clip: Clip | None, rows: Mapping[str, Rows]) -> float:
    if clip is not None and clip.stop_ns is not None:
        return (clip.stop_ns - clip.start_ns) / NS
    return max((float(each.window_ns[-1, 1]) / NS for each in rows.values()), default=0.0)


def _media(subject: Subject, clip: Clip | None, videos: str, seconds: float) -> tuple[Media, str]:
    if clip is None:
        why = "the store's manifest does not list this clip, so its file is unknown"
        return Media(no_frames=why, no_sound=why), ""
    manifest = subject.header.get("manifest")
    if not manifest and not videos and not Path(clip.path).is_absolute():
        why = "no run is recorded, so the folder of the files is unknown; --videos DIR names it"
        return Media(no_frames=why, no_sound=why), clip.path
    limits, folder = Limits(), videos
    if manifest:
        try:
            choices = remembered_choices(subject.header)
            limits, folder = limits_of(choices), videos or choices.videos
        except (KeyError, TypeError, AttributeError) as error:
            subject.problems.append(f"the choices of the last run are not those of this version: {error}")
    path = resolve(clip, str(manifest or ""), folder or None)
    if not path.is_file():
        why = f"the file is not there: {path}" + ("" if videos else "; --videos DIR names another folder")
        return Media(no_frames=why, no_sound=why), str(path)
    return media.look(path, clip.start_ns, clip.stop_ns, limits, SHOWN_S, seconds), str(path)
