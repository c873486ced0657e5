"""The one exception tree.

Everything this project raises on purpose is an :class:`ExtractError`. A :class:`ClipError` concerns one clip: it becomes
a row in ``/failed`` under its ``reason`` and the run goes on. Every other one stops the command with its message and
``exit_code``. This file imports nothing, so that every package may raise from it.
"""

from __future__ import annotations

from typing import ClassVar


class ExtractError(Exception):
    """Base of everything this project raises on purpose. The message says what was wrong, and what to do."""

    exit_code: ClassVar[int] = 2


# ---- what the user handed us -----------------------------------------------------------------------------------------


class ManifestError(ExtractError):
    """A manifest or an annotation file cannot be used as it is."""


class MissingManifest(ManifestError):
    """There is no manifest at the given path; the message shows the builder command that makes one."""


class DuplicateClip(ManifestError):
    """Two rows of one manifest carry the same clip id."""


class UnknownName(ExtractError):
    """A backbone, recipe, reason, policy or layout of that name does not exist; the nearest names are suggested."""


class PlanError(ExtractError):
    """The asked-for combination of recipe, backbones and options cannot be run."""


class Diverged(PlanError):
    """The loss of a training is not finite any more."""


class DeviceUnavailable(ExtractError):
    """The asked-for device is not on this machine; nothing falls back to another one silently."""


# ---- weights ---------------------------------------------------------------------------------------------------------


class WeightsError(ExtractError):
    """Pretrained weights cannot be used."""


class WeightsMissing(WeightsError):
    """A weight file is in no folder looked at and could not be downloaded."""


class DigestMismatch(WeightsError):
    """A weight file is not the published one."""


class LayoutMismatch(WeightsError):
    """A weight file's keys or shapes fit none of the layouts known for its network."""


# ---- the store -------------------------------------------------------------------------------------------------------


class StoreError(ExtractError):
    """A feature store cannot be read or written."""


class StoreBusy(StoreError):
    """Another run holds the store."""


class StoreUnwritable(StoreError):
    """The store's folder cannot be written to, or its disk is full."""


class DamagedPart(StoreError):
    """A part does not hold what it says: checksum, spans or schema."""


# ---- one clip --------------------------------------------------------------------------------------------------------


class ClipError(ExtractError):
    """Something is wrong with one clip; the clip, or only its audio or its frames, is recorded and the run goes on."""

    reason: ClassVar[str] = "clip_error"


class NotFound(ClipError):
    """The file does not exist or cannot be read."""

    reason = "not_found"


class NotMedia(ClipError):
    """The file is empty or holds no audio or video that a known demuxer reads."""

    reason = "not_media"


class Forbidden(ClipError):
    """The file is a playlist, a list of other files or another format that would make the reader open something else."""

    reason = "forbidden_format"


class NoVideo(ClipError):
    """The file has no video stream."""

    reason = "no_video"


class NoAudio(ClipError):
    """The file has no audio stream, or one without a single sample in the clip's span."""

    reason = "no_audio"


class Truncated(ClipError):
    """The stream ends earlier than its container declares."""

    reason = "truncated"


class Undecodable(ClipError):
    """The decoder gave up; the message says after how many frames."""

    reason = "undecodable"


class ZeroDuration(ClipError):
    """The streams are there and hold nothing."""

    reason = "zero_duration"


class SpanOutside(ClipError):
    """The clip's ``[start, end)`` lies outside its file."""

    reason = "span_outside"


class TooLarge(ClipError):
    """Pixels, seconds or frames exceed the limits; the message names the flag that raises them."""

    reason = "too_large"


class TooSmall(ClipError):
    """The picture is smaller than a view takes; the message says what it needs."""

    reason = "too_small"


class TooShort(ClipError):
    """The clip is shorter than its grid and the policy for that is ``error``."""

    reason = "too_short"


class BadFeature(ClipError):
    """A file of imported features cannot be read, or holds other shapes, types or values than its layout says."""

    reason = "bad_feature"


class Overflow(ClipError):
    """A value does not fit the type it is to be stored in."""

    reason = "overflow"


class Crash(ClipError):
    """The worker process died on this clip alone (a segmentation fault, or killed for memory)."""

    reason = "crash"


class Bug(ClipError):
    """An error nobody foresaw; the message holds its type and place. Please report it."""

    reason = "bug"


def clip_reasons() -> tuple[str, ...]:
    """Every reason a row of ``/failed`` can carry, sorted."""
    return tuple(sorted(cls.reason for cls in ClipError.__subclasses__()))


def nearest(name: str, known: list[str], what: str) -> UnknownName:
    """An :class:`UnknownName` for `name` that suggests the nearest of `known`; `what` names the kind of thing."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    some = ", ".join(sorted(known)[:20]) + (f", … ({len(known)} in all)" if len(known) > 20 else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {some}"
    return UnknownName(f"no {what} is called {name!r}; {hint}")
