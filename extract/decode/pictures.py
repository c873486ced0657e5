"""From a decoded frame to the uint8 picture a view asks for: upright, through JPEG where asked, resized as PIL does."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from backbones.spec import Frames
from extract.decode.resize import Picture, Source
from extract.errors import PlanError, Undecodable


class Upright:
    """Turns frames the way their display matrix says, in the decoder's own pixel format."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[Any, ...], Any] = {}

    def __call__(self, frame: Any) -> tuple[Any, bool]:
        """The frame as a player shows it, and whether its sides changed places.

        Raises
        ------
        Undecodable
            the matrix is not made of quarter turns and mirrors
        """
        matrix = next((bytes(d) for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), None)
        steps = () if matrix is None else turns(struct.unpack("<9i", matrix[:36]))
        if not steps:
            return frame, False
        shape = (steps, frame.width, frame.height, frame.format.name)
        if shape not in self._graphs:
            self._graphs[shape] = _graph(steps, frame)
        graph = self._graphs[shape]
        graph.vpush(frame)
        return graph.vpull(), steps[0].startswith("transpose")


def turns(matrix: tuple[int, ...]) -> tuple[str, ...]:
    """The filters that undo a display matrix (9 values, row-major, as ISO 14496-12 has it).

    Raises
    ------
    Undecodable
        the matrix is not made of quarter turns and mirrors
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    large = max(abs(v) for v in (a, b, c, d))
    small = large // 64  # some cameras write a degree or less of tilt, which players ignore
    if large and abs(b) <= small and abs(c) <= small:
        return ("hflip",) * (a < 0) + ("vflip",) * (d < 0)
    if large and abs(a) <= small and abs(d) <= small:
        # cclock_flip is the plain transposition
        return ("transpose=cclock_flip", *(("hflip",) * (c < 0)), *(("vflip",) * (b < 0)))
    raise Undecodable(
        f"the display matrix {(a, b, c, d)} is neither a quarter turn nor a mirror; such files are not supported"
    )


def _graph(steps: tuple[str, ...], frame: Any) -> Any:
    graph = av.filter.Graph()
    graph.threads = 1
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format.name, time_base=frame.time_base or Fraction(1, 1000)
    )
    for step in (*steps, "buffersink"):
        name, _, argument = step.partition("=")
        node = graph.add(name, argument) if argument else graph.add(name)
        last.link_to(node)
        last = node
    graph.configure()
    return graph


class ToRgb:
    """uint8 RGB of a frame, with the matrix and range its stream is tagged with."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> Picture:
        """(h, w, 3) uint8."""
        return np.asarray(self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray(), dtype=np.uint8)


class Mjpeg:
    """FFmpeg's JPEG encoder as ``ffmpeg -r 8 %06d.jpg`` runs it: 200 kb/s, rate-controlled over the whole sequence.

    One thread, because the rate control of several does not repeat. The quality of a picture depends on those before it: every
    slot must pass, in order. JPEGs are read back with PIL, as the official scripts do.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._codec: Any = None
        self._count = 0

    def __call__(self, frame: Any) -> Picture:
        """(h, w, 3) uint8 of the frame after JPEG; where the picture changes its size in mid-stream, scaled to its first one."""
        size = {}
        if self._codec is not None and (frame.width, frame.height) != (self._codec.width, self._codec.height):
            size = {"width": self._codec.width, "height": self._codec.height, "interpolation": "BICUBIC"}
        full = self._reformatter.reformat(frame, format="yuvj420p", dst_color_range="JPEG", threads=1, **size)
        if self._codec is None:
            self._codec = av.CodecContext.create("mjpeg", "w")
            self._codec.width, self._codec.height = full.width, full.height
            self._codec.pix_fmt = "yuvj420p"
            self._codec.time_base = Fraction(1, 8)
            self._codec.bit_rate = 200_000
            self._codec.thread_count = 1
        full.pts, full.time_base, full.pict_type = self._count, Fraction(1, 8), 0
        self._count += 1
        data = b"".join(bytes(packet) for packet in self._codec.encode(full))
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def resized(picture: Picture | Source, view: Frames, aspect: Fraction) -> Picture:
    """The picture as the view wants it, by PIL's antialiased filters.

    The horizontal axis always goes first, as in every Pillow up to 12. Pillow 13 changed the order for pictures that become
    much lower than narrower, and with it their bits (docs/adr/0009-resize-with-numba.md).

    Parameters
    ----------
    picture
        (h, w, 3) uint8, or a :class:`Source` made of it for several views
    view
        size, crop and filter
    aspect
        sample aspect ratio: width of a pixel as shown, over its height. Views that keep the aspect keep that of the display

    Returns
    -------
    (height, width, 3) uint8
    """
    source = picture if isinstance(picture, Source) else Source(picture)
    out_h, out_w = resized_height_width(source.height, source.width, view, aspect)
    if view.crop is None:
        return source.resized((out_h, out_w), (0, 0, out_h, out_w), view.interpolation)
    top, left = round((out_h - view.crop) / 2.0), round((out_w - view.crop) / 2.0)  # as torchvision's CenterCrop
    return source.resized((out_h, out_w), (top, left, view.crop, view.crop), view.interpolation)


def resized_height_width(height: int, width: int, view: Frames, aspect: Fraction) -> tuple[int, int]:
    """Height and width to which the view resizes a picture, before it crops."""
    if isinstance(view.resize, tuple):
        return view.resize
    if view.resize == "openl3":
        raise PlanError("the rule openl3 is not made yet")
    shown = max(1, round(width * aspect)) if view.aspect == "display" else width
    return short_side(height, shown, view.resize)


def short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width after torchvision's ``Resize(size)``: the short side becomes `size`, the long one is truncated."""
    if width <= height:
        return max(1, int(size * height / width)), size
    return size, max(1, int(size * width / height))
