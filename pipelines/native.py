"""Any clip of any length: every network on the rows that its own release makes, fed as it was trained."""

from __future__ import annotations

from backbones.spec import Backbone, View
from extract.grid import NS, Grid
from extract.recipes import Recipe, register
from pipelines.llp import TRIO


def native(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """Windows as long as the network was trained on, at its own hop, for as long as the clip lasts.

    VGGish every 0.96 s, the stock examples; networks without a hop of their own one window after the other.
    """
    hop_s = backbone.window_s if backbone.hop_s is None else backbone.hop_s
    return backbone.views, Grid(window_ns=round(backbone.window_s * NS), hop_ns=round(hop_s * NS))


register(Recipe("native", "every network at its own window and hop, fed as it was trained", TRIO, native, free=True))
