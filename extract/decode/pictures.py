"""From a decoded frame to the picture a view asks for: upright, through JPEG where asked, resized by the view's rule."""

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
from extract.decode.linear import Levels, cv2_linear, linear
from extract.decode.resize import Picture, Source
from extract.errors import TooSmall, Undecodable

_OPENL3_CROP, _OPENL3_SHORT = 224, 256


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


def dtype_of(view: Frames) -> type[np.uint8 | np.float32]:
    """What the view's pictures are made of: whole levels, or float32 levels where nothing is rounded."""
    return np.float32 if view.interpolation == "linear" else np.uint8


def resized(picture: Picture | Source, view: Frames, aspect: Fraction) -> Picture | Levels:
    """The picture as the view wants it.

    PIL's filters go along the horizontal axis first, as in every Pillow up to 12. Pillow 13 changed the order for pictures that
    become much lower than narrower, and with it their bits (docs/adr/0009-resize-with-numba.md).

    The rule ``openl3`` is that of openl3 0.4.2 (``_preprocess_image_batch``), by the size of the upright picture:

    * 224 x 224: levels become ``2 x - 255``;
    * a short side above 256: it becomes 256, the centre is cut out, levels stay;
    * a short side of 224 to 256: the centre is cut out and its highest level becomes 255, unless it is 1 or less, so that a
      black picture stays black. openl3 takes the highest level of the array it is given, which may be a whole video; here it
      is each picture's own, so that its numbers do not depend on its neighbours.

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
    (height, width, 3)
        uint8; for the interpolation ``linear`` float32 in the same unit: 255 is white. In [0, 255], but for the first case of
        ``openl3``, in [-255, 255]

    Raises
    ------
    TooSmall
        the rule ``openl3`` takes no picture with a side below 224 pixels
    """
    source = picture if isinstance(picture, Source) else Source(picture)
    size = resized_height_width(source.height, source.width, view, aspect)
    crop = _centre(size, view)
    if view.interpolation == "cv2_linear":
        return cv2_linear(source.picture, size, crop)
    if view.resize == "openl3":
        shown = _shown(source.height, source.width, view, aspect)
        return _openl3_levels(linear(source.picture, size, crop, "float64"), shown)
    if view.interpolation == "linear":
        return linear(source.picture, size, crop)
    return source.resized(size, crop, view.interpolation)


def resized_height_width(height: int, width: int, view: Frames, aspect: Fraction) -> tuple[int, int]:
    """Height and width to which the view resizes a picture, before it crops.

    Raises
    ------
    TooSmall
        see :func:`resized`
    """
    if isinstance(view.resize, tuple):
        return view.resize
    shown = _shown(height, width, view, aspect)
    if isinstance(view.resize, int):
        return short_side(*shown, view.resize)
    if min(shown) < _OPENL3_CROP:
        raise TooSmall(
            f"a picture of {shown[1]}x{shown[0]} is smaller than the {_OPENL3_CROP}x{_OPENL3_CROP} pixels "
            "that openl3's rule needs; use a larger version of the video, or a backbone whose view resizes every picture"
        )
    scale = min(1.0, float(_OPENL3_SHORT) / min(shown))
    return round(scale * shown[0]), round(scale * shown[1])


def _shown(height: int, width: int, view: Frames, aspect: Fraction) -> tuple[int, int]:
    """Height and width of the picture, with square pixels where the view asks for the aspect of the display."""
    return height, max(1, round(width * aspect)) if view.aspect == "display" else width


def _centre(size: tuple[int, int], view: Frames) -> tuple[int, int, int, int]:
    """Top, left, height and width of what the view keeps of a resized picture."""
    if view.crop is None:
        return 0, 0, *size
    if view.resize == "openl3":
        top, left = (side // 2 - view.crop // 2 for side in size)
    else:
        top, left = (round((side - view.crop) / 2.0) for side in size)  # as torchvision's CenterCrop
    return top, left, view.crop, view.crop


def _openl3_levels(levels: Levels, shown: tuple[int, int]) -> Levels:
    """The levels that, divided by 255, are what openl3 gives its network for a picture of that height and width."""
    if shown == (_OPENL3_CROP, _OPENL3_CROP):
        return levels * np.float32(2) - np.float32(255)
    if min(shown) > _OPENL3_SHORT:
        return levels
    highest = np.maximum(levels.max(), np.float32(1))
    return levels * np.float32(255 / highest)


def short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width after torchvision's ``Resize(size)``: the short side becomes `size`, the long one is truncated."""
    if width <= height:
        return max(1, int(size * height / width)), size
    return size, max(1, int(size * width / height))
