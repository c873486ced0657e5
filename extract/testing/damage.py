"""Files that are broken, that are no media, or that would make a careless reader open something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from extract.testing.marks import numbered_picture

HOSTILE = ("hls", "hls_concat", "concat", "sdp", "image2")
NOT_MEDIA = ("empty", "text", "html", "noise", "zeros")


def truncate(path: Path, fraction: float, *, to: Path | None = None) -> Path:
    """Keep the first `fraction` (0 < fraction < 1) of a file's bytes; in place, or as a copy at `to`."""
    if not 0 < fraction < 1:
        raise ValueError(f"truncate: fraction must lie between 0 and 1, got {fraction}")
    data = Path(path).read_bytes()
    target = Path(to or path)
    target.write_bytes(data[: int(len(data) * fraction)])
    return target


def flip_bytes(path: Path, start: float = 0.4, stop: float = 0.6, *, every: int = 61, to: Path | None = None) -> Path:
    """Invert each `every`-th byte in one part of a file; in place, or as a copy at `to`.

    Parameters
    ----------
    path
        the file; of one made without ``faststart`` the samples come first and the index is at the end
    start, stop
        the part, as fractions of the file's length, 0 <= start < stop <= 1
    every
        >= 1; 1 inverts every byte
    to
        write there and leave `path` as it is

    Raises
    ------
    ValueError
        a value outside those ranges
    """
    if not 0 <= start < stop <= 1:
        raise ValueError(f"flip_bytes: need 0 <= start < stop <= 1, got {start} and {stop}")
    if every < 1:
        raise ValueError(f"flip_bytes: every must be >= 1, got {every}")
    data = np.frombuffer(Path(path).read_bytes(), np.uint8).copy()
    data[int(len(data) * start) : int(len(data) * stop) : every] ^= 0xFF
    target = Path(to or path)
    target.write_bytes(data.tobytes())
    return target


def not_media(path: Path, kind: str = "text") -> Path:
    """Write a file that holds no media: one of `NOT_MEDIA`, whatever its name says."""
    content = {
        "empty": b"",
        "text": b"This is a note, and not a video.\n" * 20,
        "html": b"<!doctype html><html><body><h1>404: this video is not available</h1></body></html>\n",
        "noise": np.random.default_rng(0).bytes(20_000),
        "zeros": bytes(20_000),
    }
    if kind not in content:
        raise ValueError(f"not_media: kind must be one of {', '.join(NOT_MEDIA)}, got {kind!r}")
    path = Path(path)
    path.write_bytes(content[kind])
    return path


def hostile_playlist(path: Path, target: Path, kind: str = "hls") -> Path:
    """Write a file that asks its reader to open `target`.

    If any picture or sound comes out of reading the file, the reader followed it.

    Parameters
    ----------
    path
        where; any name, and a video's name (``clip.mp4``) is the nastier one
    target
        an existing media file
    kind
        one of `HOSTILE`: ``hls`` (an m3u8 whose segment is `target`), ``hls_concat`` (the same through the ``concat:``
        protocol), ``concat`` (an ffconcat script, which FFmpeg recognises by content, so its name does not matter),
        ``sdp`` (a session that listens on the network; `target` is its title only), ``image2`` (the file is called
        ``<stem>%d.png``, so that image2 reads ``<stem>1.png`` beside it: a picture of frame 1, written here)

    Returns
    -------
    Path
        the file to hand to the reader: `path`, but for ``image2``

    Raises
    ------
    ValueError
        unknown kind, or no file at `target`
    """
    path, target = Path(path), Path(target)
    if kind not in HOSTILE:
        raise ValueError(f"hostile_playlist: kind must be one of {', '.join(HOSTILE)}, got {kind!r}")
    if not target.is_file():
        raise ValueError(f"hostile_playlist: there is no file to point at: {target}")
    # a relative name where there is one: FFmpeg's own guard against concat scripts refuses absolute names only
    name = target.name if target.parent.resolve() == path.parent.resolve() else str(target.resolve())
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{}\n#EXT-X-ENDLIST\n"
    if kind == "image2":
        Image.fromarray(numbered_picture(320, 240)(1, 0.0)).save(path.with_name(f"{path.stem}1.png"))
        path = path.with_name(f"{path.stem}%d.png")
    text = {
        "hls": hls.format(name),
        "hls_concat": hls.format(f"concat:{name}|{name}"),
        "concat": f"ffconcat version 1.0\nfile '{name}'\n",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={name}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 50004 RTP/AVP 33\n",
        "image2": "a pattern, and no picture\n",
    }[kind]
    path.write_text(text, encoding="utf-8")
    return path
