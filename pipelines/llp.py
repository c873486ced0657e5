"""Look, Listen and Parse: ten seconds, ten rows per modality.

``llp`` gives the features that the published parsers were trained on; ``llp-clean`` the same networks fed as they were
trained. Source: YapengTian/AVVP-ECCV20 (fde5611), scripts/extract_frames.py, extract_rgb_feat.py, extract_3D_feat.py,
extract_audio.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from backbones.spec import Backbone, Frames, Sound, View
from extract.grid import NS, Grid
from extract.recipes import Recipe, register
from manifests.clip import Clip
from manifests.llp import is_llp

SEGMENTS = 10
FRAMES_PER_SECOND = 8
TRIO = ("resnet152", "r2plus1d_18", "vggish")

_PER_FRAME_NS = NS // FRAMES_PER_SECOND
_SOUND = Grid(count=SEGMENTS)


def official(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """As the official scripts feed any network.

    Frames are those of ``ffmpeg -r 8``, through JPEG; image networks see 80 of them resized by the stored short side, clip
    networks the eight of each second, squashed; sound is what moviepy writes. Networks that see and hear at once, which the
    scripts do not know, are fed as in ``llp-clean``: stretched frames and sound as it is would not be of the same moment.
    """
    if backbone.modality == "audio-visual":
        return clean(backbone)
    views = tuple(_official_view(view) for view in backbone.views)
    if not any(isinstance(view, Frames) for view in views):
        return views, _SOUND
    if all(isinstance(view, Frames) and view.count == 1 for view in views):
        return views, Grid(
            _PER_FRAME_NS, _PER_FRAME_NS, SEGMENTS * FRAMES_PER_SECOND, sampling="ffmpeg_r8", short="stretch"
        )
    return views, Grid(count=SEGMENTS, sampling="ffmpeg_r8", short="stretch")


def _official_view(view: View) -> View:
    if isinstance(view, Sound):
        return replace(view, resample="moviepy")
    if view.count == 1:
        return replace(view, jpeg="mjpeg_200k", aspect="storage")
    return replace(
        view, count=FRAMES_PER_SECOND, resize=view.height_width, crop=None, jpeg="mjpeg_200k", aspect="storage"
    )


def clean(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """As every network was trained: centred frames as decoded, band-limited sound, rows beyond the clip marked invalid."""
    if all(isinstance(view, Frames) and view.count == 1 for view in backbone.views):
        return backbone.views, Grid(_PER_FRAME_NS, _PER_FRAME_NS, SEGMENTS * FRAMES_PER_SECOND)
    return backbone.views, Grid(count=SEGMENTS)


def _claims(clips: Sequence[Clip]) -> bool:
    return bool(clips) and is_llp(clips)


register(
    Recipe(
        "llp", "LLP exactly as its authors made it: 80x2048, 10x512, 10x128", TRIO, official, claims=_claims, rank=10
    )
)
register(Recipe("llp-clean", "the same networks and rows, fed as they were trained", TRIO, clean))
