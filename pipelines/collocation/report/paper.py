"""What Wu et al. (Information Sciences, 2022) print of their search, and which of our backbones are theirs."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.collocation.collocations import Collocation

SOURCE = "printed, Wu et al., Inf. Sci. 2022"
TABLE1 = {"within": 97.14, "across": 29.18}
"""Percent of nearest neighbours with the same label: within a modality, and from one to the other (Table 1)."""
TABLE3 = {"VGG19_bn": 54.1, "ResNet152": 53.7, "SENet154": 53.5, "PolyNet": 52.8, "OpenL3": 52.4}
"""Segment-level Type@AV in percent by visual network; the audio network is VGGish (Table 3)."""
TABLE5_S = (33_887.77, 11_706.04)
"""Seconds of traversal and of the decoupled method, 2 x 5 networks on a GeForce 2080 Ti (Table 5, which prints 2.895)."""

FIG5 = (
    ("VGGish", "ResNet152"),
    ("VGGish", "VGG19_bn"),
    ("VGGish", "SENet154"),
    ("VGGish", "PolyNet"),
    ("VGGish", "OpenL3"),
    ("OpenL3", "OpenL3"),
    ("OpenL3", "VGG19_bn"),
    ("OpenL3", "ResNet152"),
    ("OpenL3", "SENet154"),
    ("OpenL3", "PolyNet"),
)
"""Audio and visual network in the order of Fig. 5; the last two are not in it."""
FIG5_PRINTED = 8

_VISUAL = {"vgg19_bn": "VGG19_bn", "resnet152": "ResNet152", "senet154": "SENet154", "polynet": "PolyNet"}


def audio_network(short: str) -> str:
    """The paper's name of an audio backbone; empty where it is none of theirs."""
    name = short.partition("@")[0]
    if name == "vggish":
        return "VGGish"
    return "OpenL3" if name.startswith("openl3_audio_") else ""


def visual_network(short: str) -> str:
    """The paper's name of a visual backbone; empty where it is none of theirs."""
    name = short.partition("@")[0]
    return "OpenL3" if name.startswith("openl3_image_") else _VISUAL.get(name, "")


def place(collocation: Collocation) -> int:
    """Its number in Fig. 5, from 1; more than any where it is not there."""
    pair = audio_network(collocation.audio), visual_network(collocation.visual)
    return FIG5.index(pair) + 1 if pair in FIG5 else len(FIG5) + 1


def in_order(collocations: Sequence[Collocation]) -> list[Collocation]:
    """The paper's collocations in the order of Fig. 5, then others as they are given."""
    return sorted(collocations, key=place)


def visual_order(names: Sequence[str]) -> list[str]:
    """The paper's visual networks in the order of Table 3, then others as they are given."""
    known = list(TABLE3)
    return sorted(names, key=lambda name: known.index(net) if (net := visual_network(name)) in known else len(known))
