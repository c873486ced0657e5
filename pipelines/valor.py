"""LLP's clips as VALOR sees and hears them: CLIP on ten frames, CLAP's maps of the whole sound.

``valor`` gives the features that its parsers were trained on; ``valor-clean`` the same networks fed as they were trained.
Source: Franklin905/VALOR (2677da9), utils/extract_frames.py, clip_preprocess.py, clap_preprocess.py, with its environment's
torchvision 0.13.1. Its sound is that of the whole file, ours that of the clip as the manifest has it. Its clip features
(R(2+1)D-18, which it takes over from LLP) are those of the recipe ``llp``.
"""

from __future__ import annotations

from dataclasses import replace

from backbones.spec import Backbone, Frames, Sound, View
from extract.grid import NS, Grid
from extract.recipes import Recipe, register
from pipelines import llp

SEGMENTS = 10
CLIP_S = 10
PAIR = ("clip_vit_l14_l2", "clap_htsat_fused_map")

_WHOLE = Grid(CLIP_S * NS, CLIP_S * NS, 1)


def official(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """As VALOR's scripts feed any network on one frame, or on ten seconds of sound; every other one as LLP's scripts do.

    Ten frames are spread over the JPEGs of ``ffmpeg -r 8``, both ends included, and squashed in floating point without
    antialiasing. Sound is the clip's whole one, brought to ten seconds by taking the nearest samples: one row.
    """
    if _one_frame(backbone):
        views = tuple(_squashed(view) for view in backbone.views if isinstance(view, Frames))
        return views, Grid(count=SEGMENTS, sampling="ffmpeg_r8", short="stretch")
    if _whole_sound(backbone):
        return tuple(replace(view, resample="indexed") for view in backbone.views if isinstance(view, Sound)), _WHOLE
    return llp.official(backbone)


def _squashed(view: Frames) -> Frames:
    if view.resize == "openl3":  # a whole way of feeding, which has a meaning only as it is
        return replace(view, jpeg="mjpeg_200k", aspect="storage")
    return replace(
        view, resize=view.height_width, crop=None, interpolation="linear", jpeg="mjpeg_200k", aspect="storage"
    )


def clean(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """As every network was trained: the frame in the middle of each second, as decoded; band-limited sound."""
    return backbone.views, _WHOLE if _whole_sound(backbone) else Grid(count=SEGMENTS)


def _one_frame(backbone: Backbone) -> bool:
    return all(isinstance(view, Frames) and view.count == 1 for view in backbone.views)


def _whole_sound(backbone: Backbone) -> bool:
    return all(isinstance(view, Sound) and view.samples == CLIP_S * view.rate_hz for view in backbone.views)


register(
    Recipe("valor", "LLP as VALOR's authors made it: CLIP 10x768 at unit length, CLAP maps 64x768", PAIR, official)
)
register(Recipe("valor-clean", "the same networks and rows, fed as they were trained", PAIR, clean))
