"""Any clip of any length: one row per second from every network, fed as it was trained."""

from __future__ import annotations

from backbones.spec import Backbone, View
from extract.grid import Grid
from extract.recipes import Recipe, register
from pipelines.llp import TRIO


def per_second(backbone: Backbone) -> tuple[tuple[View, ...], Grid]:
    """One window of a second after the other for as long as the clip lasts; frames are centred in it."""
    return backbone.views, Grid()


register(
    Recipe(
        "per-second",
        "one row per second for as long as the clip lasts, fed as the networks were trained",
        TRIO,
        per_second,
        claims=lambda clips: True,
        rank=90,
        free=True,
    )
)
