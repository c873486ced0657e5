"""A video as the windows that a parser takes: how long it is, where they lie, and which of their seconds are reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path

from extract.decode.media import open_media
from extract.decode.survey import Survey
from extract.errors import NoAudio, TooLarge
from extract.grid import NS, Grid
from extract.plan import Limits
from manifests.clip import Clip


@dataclass(frozen=True, slots=True)
class Video:
    """A stretch of a file, at least as far as its packets tell.

    Parameters
    ----------
    path
        absolute
    start_ns, stop_ns
        on the file's presentation; None: to its end
    length_ns
        of the stretch
    """

    path: Path
    start_ns: int
    stop_ns: int | None
    length_ns: int

    @property
    def seconds(self) -> int:
        """How many are reported, at least one: a last one counts where the video fills half of it."""
        return Grid().rows(self.length_ns)


@dataclass(frozen=True, slots=True)
class Window:
    """One clip for the parser.

    Parameters
    ----------
    clip
        as a manifest has it
    first
        the second of the video from which on its answer is reported
    skip
        seconds of the clip before that one
    count
        seconds that are reported
    """

    clip: Clip
    first: int
    skip: int
    count: int


def look_at(path: Path, start_ns: int = 0, stop_ns: int | None = None) -> Video:
    """Read the packets of a video; nothing is decoded.

    Raises
    ------
    ClipError
        there is no such file, it is no media or cut off, it has no pictures, or the stretch lies outside; without sound it
        is a video all the same
    """
    limits = Limits(seconds=inf)
    with ExitStack() as files:
        try:
            survey = Survey(
                lambda: files.enter_context(open_media(str(path))), str(path.absolute()), start_ns, stop_ns, limits
            )
        except TooLarge as error:
            raise TooLarge(
                f"{path}: more than {limits.frames:,} frames; cut the video with --start and --stop"
            ) from error
        for fault in (survey.frames_error, survey.sound_error):
            if fault is not None and not isinstance(fault, NoAudio):
                raise fault
        return Video(path.absolute(), start_ns, stop_ns, survey.clip_ns)


def cut(video: Video, name: str, seconds: int, *, stretched: bool) -> Iterator[Window]:
    """The windows of a video, one after the other, each second in one of them; the last one ends with the video.

    Parameters
    ----------
    video
        to be parsed
    name
        that the clips' ids begin with
    seconds
        of the clips that the parser was trained on
    stretched
        the recipe spreads pictures over all rows where a clip is shorter. The last window of a longer video then begins
        earlier, so that none is; only its seconds that no other window has are reported. Otherwise it is shorter, and the
        recipe marks its rows behind the video's end
    """
    whole = video.seconds
    for number, first in enumerate(range(0, whole, seconds)):
        count = min(seconds, whole - first)
        begin = whole - seconds if stretched and first and count < seconds else first
        stop_ns = video.start_ns + (first + seconds) * NS if first + count < whole else video.stop_ns
        clip = Clip(f"{name}-{number:06}", str(video.path), video.start_ns + begin * NS, stop_ns)
        yield Window(clip, first, first - begin, count)
