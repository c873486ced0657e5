"""Pillow 13 resizes vertically first where a picture becomes much lower than narrower; earlier versions never did.

The released LLP features come from Pillow of 2020, so our resize must keep the old order (docs/adr/0009-resize-with-numba.md;
Pillow pull request 9549).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from extract.decode.resize import Source


def test_a_tall_picture_keeps_the_old_order() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (640, 90, 3), dtype=np.uint8)
    bilinear = Image.Resampling.BILINEAR
    old = np.asarray(Image.fromarray(picture).resize((112, 640), bilinear).resize((112, 112), bilinear))
    new = np.asarray(Image.fromarray(picture).resize((90, 112), bilinear).resize((112, 112), bilinear))
    assert not np.array_equal(old, new), "the picture does not tell the two orders apart"
    assert np.array_equal(Source(picture).resized((112, 112), (0, 0, 112, 112)), old)
