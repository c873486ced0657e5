"""AVE (Audio-Visual Event): ten seconds, ten rows per modality.

``ave`` gives the features that the published parsers were trained on; ``ave-clean`` the same networks fed as they were trained.
Source: the scripts that YapengTian/AVE-ECCV18 points to (audio_feature_extractor.py, visual_feature_extractor.py), as
GeWu-Lab/MUSIC-AVQA and MCG-NJU/JoMoLD carry them on.
"""

from __future__ import annotations

from dataclasses import replace

from backbones.spec import Backbone, Frames, Sound, View
from extract.grid import Grid
from extract.recipes import Recipe, register
from manifests.ave import is_ave

SEGMENTS = 10
PAIR = ("vgg19_ave", "vggish")

_CLEAN = Grid(count=SEGMENTS)


def official(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """As the official scripts feed any network: one row per second.

    All frames of the clip are cut into ten equal runs, and what is left over at its end is never seen. A network is shown as many
    frames of each run as it takes, evenly spread from its first: 16 for ``vgg19_ave``, the first one alone for an image network,
    so that every network has one row per second. Frames are resized as the network's own view says, by their stored size. The
    sound of every second is resampled alone; where the clip has none any more there is silence, and the row is marked.

    The scripts know no network that hears more than a second at once, or that sees and hears: such ones are fed as by `clean`.
    """
    if all(isinstance(view, Frames) for view in backbone.views):
        views = tuple(replace(view, aspect="storage") for view in backbone.views if isinstance(view, Frames))
        return views, Grid(count=SEGMENTS, sampling="interval", short="stretch")
    if all(isinstance(view, Sound) and view.samples <= view.rate_hz for view in backbone.views):
        views_of_sound = tuple(
            replace(view, resample="resampy_rows") for view in backbone.views if isinstance(view, Sound)
        )
        return views_of_sound, _CLEAN
    return clean(backbone)


def clean(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """As every network was trained: centred frames, band-limited sound, rows beyond the clip marked invalid."""
    return backbone.views, _CLEAN


register(
    Recipe("ave", "AVE exactly as its authors made it: 10x7x7x512, 10x128", PAIR, official, claims=is_ave, rank=20)
)
register(Recipe("ave-clean", "the same networks and rows, fed as they were trained", PAIR, clean))
