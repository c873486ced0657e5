"""OpenL3's image networks (Cramer et al. 2019), on pixels scaled as in training, or as the release's own code scales them.

They were trained on [-1, 1]. What openl3's ``get_image_embedding`` feeds depends on the picture's size and is mostly something
else (docs/adr/0011-openl3-front-ends.md): the names with ``_official`` follow it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from backbones.openl3 import PAPER, from_keras, official
from backbones.registry import register
from backbones.spec import Backbone, Frames, State
from backbones.state import some
from extract.errors import LayoutMismatch

if TYPE_CHECKING:
    import torch

_HALF, _ZERO, _ONE = (0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
VIEWS = {
    "trained": Frames(count=1, resize=256, crop=224, mean=_HALF, std=_HALF, interpolation="linear"),
    "official": Frames(count=1, resize="openl3", crop=224, mean=_ZERO, std=_ONE, interpolation="linear"),
}
_NOTES = {
    "trained": "pixels in [-1, 1], as in its training; what openl3's own code feeds is {name}_official",
    "official": "pixels scaled as openl3's get_image_embedding does, by size of the picture; not as in its training",
}
_POOLS = {512: (28, 28), 8192: (7, 7)}
# git blob ids (sha1) of the .h5.gz in marl/openl3, branch models at c2321e8c: no sha256 was ever published
_BLOBS = {
    "linear_env": "a1e527ad5367efb19b18cd051523bf3fadd02feb",
    "linear_music": "7ccfc16536bff5f46902df6d7f89075f1bfce8bb",
    "mel128_env": "680c5d4adffc2b0d7b789913a2e9ebccd469be55",
    "mel128_music": "c287c5f9bc949595ff4fda83177bcc98142601e9",
    "mel256_env": "dbdf24a7e837267487adb3eed1586fcd2e37d775",
    "mel256_music": "67bf0b891eb4fb797defafa5b3edc3c75f3cd6ee",
}


def _adapt(states: tuple[State, ...]) -> State:
    state = states[0]
    if not any(key.removesuffix(":0").endswith("/gamma") for key in state):
        raise LayoutMismatch(
            "expected the layout of openl3 (Keras, with keys such as batch_normalization/gamma:0); "
            f"the file's keys are {some(sorted(state)) or 'none'}"
        )
    return from_keras(state)


def _build(pool: tuple[int, int]) -> torch.nn.Module:
    from backbones.nets.openl3 import Image

    return Image(pool)


def _register(content: str, size: int, scaling: Literal["trained", "official"]) -> None:
    name = f"openl3_image_{content}_{size}"
    register(
        Backbone(
            name=name if scaling == "trained" else f"{name}_{scaling}",
            view=VIEWS[scaling],
            dims=(size,),
            build=partial(_build, _POOLS[size]),
            weights=(official("image", content, _BLOBS[content]),),
            adapt=_adapt,
            batch=2,
            params=4_688_198,
            gmacs=10.28,
            paper=PAPER,
            note=_NOTES[scaling].format(name=name),
        )
    )


for _content in _BLOBS:
    for _size in _POOLS:
        for _scaling in ("trained", "official"):
            _register(_content, _size, _scaling)
