"""Opening a file nobody vouches for: local files only, known demuxers only, one clear reason when it fails."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import av
import av.error
import av.logging
from av.stream import Disposition

from extract.errors import ClipError, Forbidden, NotFound, NotMedia
from extract.grid import NS

# Demuxers that read one self-contained file. Playlists (hls, dash, concat), sdp, image sequences and devices are not
# among them: those make libavformat open what the file names.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,asf,mpegts,mpeg,mpegvideo,mpeg2video,m4v,h261,h263,h264,hevc,"
    "vvc,obu,ivf,ogg,mxf,nut,dv,rm,wtv,gif,wav,w64,aiff,au,caf,mp3,aac,ac3,eac3,flac,amr,wv,tta,ape,dts"
)
# Containers that store how long they are. Of others FFmpeg estimates it from the bit rate, and may be wrong by any factor.
DECLARING = ("mov", "matroska", "avi", "flv", "asf", "wav", "w64", "aiff", "au", "caf", "flac", "mxf", "rm", "wtv")
# How lists of other files begin, so that one in a video's clothes (``clip.mp4``) is called by its name.
_LISTS = (b"#extm3u", b"ffconcat", b"[playlist]", b"[reference]", b"<asx", b"<smil", b"rtsptext", b"v=0")
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}

av.logging.set_level(av.logging.PANIC)  # nothing on stderr; PyAV still attaches the last error line to its exceptions


def open_media(path: str) -> Any:
    """Open a media file for reading.

    Parameters
    ----------
    path
        a local path; whatever it looks like (``http:…``, ``concat:…``), it is only ever taken as a file's name

    Returns
    -------
    av.container.InputContainer

    Raises
    ------
    NotFound
        no regular file of that name, or no permission to read it
    Forbidden
        the content is of a kind that makes the reader open other files or addresses
    NotMedia
        empty, or no known demuxer finds anything in it
    """
    full = os.path.abspath(path)
    if not os.path.isfile(full):
        what = "is not a regular file" if os.path.exists(full) else "no such file"
        raise NotFound(f"{full}: {what}")
    if not os.access(full, os.R_OK):
        raise NotFound(f"{full}: no permission to read it")
    if os.path.getsize(full) == 0:
        raise NotMedia(f"{full}: the file is empty (0 bytes)")
    try:
        return av.open("file:" + full, container_options=dict(_OPTIONS), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise _refusal(full, error) from error


def _refusal(full: str, error: Exception) -> ClipError:
    detail = str(error)
    if "not on whitelist" in detail.lower() or _is_list(full):
        return Forbidden(
            f"{full}: refused, because it is an image, a playlist or a list of other files; only self-contained audio and "
            "video files are opened"
        )
    return NotMedia(f"{full}: no known demuxer reads it ({detail.rsplit(';', maxsplit=1)[-1].strip()})")


def _is_list(full: str) -> bool:
    with open(full, "rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith(_LISTS) or b"<mpd" in head


def to_ns(ticks: int, time_base: Fraction) -> int:
    """Ticks of a stream's clock in nanoseconds, rounded to the nearest."""
    numerator = ticks * time_base.numerator * NS
    return (2 * numerator + time_base.denominator) // (2 * time_base.denominator)


def best_stream(container: Any, kind: str, related: Any = None) -> Any | None:
    """The stream a player would choose, or None; cover art is not a video."""
    stream = container.streams.best(kind, related=related)
    if stream is not None and stream.disposition & Disposition.attached_pic:
        moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        return max(moving, key=lambda s: s.codec_context.width * s.codec_context.height, default=None)
    return stream


def origin_ns(container: Any, streams: list[Any]) -> int:
    """Start of the presentation on the container's clock: the earliest start among its streams.

    ``ffmpeg`` subtracts the same (``-copyts`` absent), rounded to microseconds.
    """
    starts = [to_ns(s.start_time, s.time_base) for s in streams if s.start_time is not None]
    if starts:
        return min(starts)
    return 0 if container.start_time is None else container.start_time * 1000
