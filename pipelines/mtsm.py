"""Which audio network goes with which visual one: the ten pairs that the MTSM paper compares on LLP, from one decode.

Two audio and five image networks, and the clip network of LLP. Source: Wu et al. 2022, "Toward a perceptive pretraining
framework for Audio-Visual Video Parsing" (Information Sciences), experiments. It names the networks and the 8 frames per
second, but neither the layers nor how OpenL3 was set up and fed. Layers are those that LLP's own script takes from networks
of these names. OpenL3 is the one of environmental videos, 256 mel bands and 512 values, on one second of sound or one frame.
"""

from __future__ import annotations

from backbones.spec import Backbone, Sound, View
from extract.grid import Grid
from extract.recipes import Recipe, register
from pipelines import llp

AUDIO = ("vggish", "openl3_audio_mel256_env_512")
IMAGE = ("resnet152", "vgg19_bn", "senet154", "polynet", "openl3_image_mel256_env_512")
BACKBONES = (*AUDIO, *IMAGE, "r2plus1d_18")
LLP_RATE_HZ = 16_000


def official(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """As LLP's scripts feed any network, except for sound at other rates than theirs.

    Those scripts wrote sound at 16 kHz by dropping samples, which folds what lies above 8 kHz down below it. The paper does not
    say that OpenL3, which hears up to 24 kHz, was given such files; so networks of other rates get the clip's own sound,
    band-limited (``soxr_hq``).
    """
    views, grid = llp.official(backbone)
    return tuple(_heard(own, fed) for own, fed in zip(backbone.views, views, strict=True)), grid


def _heard(own: View, fed: View) -> View:
    return own if isinstance(own, Sound) and own.rate_hz != LLP_RATE_HZ else fed


register(
    Recipe(
        "collocation",
        "two audio and five image networks on LLP, fed as its authors did: ten pairs",
        BACKBONES,
        official,
    )
)
register(Recipe("collocation-clean", "the same networks and rows, fed as they were trained", BACKBONES, llp.clean))
