"""VGG-19 as the visual features of AVE were made with it: Keras' weights, which are those of the original Caffe model.

Every frame is squashed to 224 x 224 by ``cv2.resize``; of each, the mean colour of the training images is taken, without any
division; the maps of the last pooling are averaged over the 16 frames of a second and kept channels last. torchvision's
``vgg19`` was trained anew: its maps are others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, Frames, State, Weights
from backbones.vgg import PAPER

if TYPE_CHECKING:
    import torch

RGB_MEAN = (123.68, 116.779, 103.939)  # in units of bytes, red first
VIEW = Frames(
    count=16,
    resize=(224, 224),
    crop=None,
    # x / 255 less mean / 255, over 1 / 255: bytes less the mean
    mean=(RGB_MEAN[0] / 255, RGB_MEAN[1] / 255, RGB_MEAN[2] / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
    interpolation="cv2_linear",
)

_FIRST = "block1_conv1/block1_conv1/kernel:0"
# Keras names its convolutions by block; torchvision counts all layers, ReLUs and poolings too
_PLACES = {
    f"block{block}_conv{conv}": first + 2 * (conv - 1)
    for block, first, convs in ((1, 0, 2), (2, 5, 2), (3, 10, 4), (4, 19, 4), (5, 28, 4))
    for conv in range(1, convs + 1)
}
_HEAD = ("fc1/", "fc2/", "predictions/")

_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
_MIRROR = "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/"
_NOTE = "VGG's own weights (CC BY 4.0) as converted by Keras"


def _build() -> torch.nn.Module:
    from torchvision.models import vgg19

    from backbones.nets.vgg import Pool5

    return Pool5(vgg19(weights=None, init_weights=False), bgr=True)


def _from_keras(state: State) -> State:
    out: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        # versions of Keras call the arrays of a layer kernel:0 or <layer>_W_1:0: its group and their dimensions tell
        place = _PLACES.get(name.partition("/")[0])
        ours = name if place is None else f"features.{place}.{'weight' if tensor.ndim == 4 else 'bias'}"
        if name.startswith(_HEAD):
            continue
        # Keras keeps kernels as height, width, in, out
        out[name if ours in out else ours] = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
    return out


def _adapt(states: tuple[State, ...]) -> State:
    mark = next((key for key in states[0] if key.startswith("block1_conv1/")), _FIRST)
    return by_layout(states[0], (Layout("Keras' VGG19", mark, _from_keras),))


def _file(name: str, md5: str) -> Weights:
    return Weights(
        uri=_HOST + name,
        sha256=None,
        licence="CC-BY-4.0",
        mirrors=(_MIRROR + name,),
        note=_NOTE,
        checksum=f"md5:{md5}",
    )


register(
    Backbone(
        name="vgg19_ave",
        view=VIEW,
        dims=(7, 7, 512),
        build=_build,
        weights=(
            (
                _file("vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", "253f8cb515780f3b799900260a226db6"),
                _file("vgg19_weights_tf_dim_ordering_tf_kernels.h5", "cbe5617147190e668d6c5d5026f83318"),
            ),
        ),
        adapt=_adapt,
        batch=1,
        params=20_024_384,
        gmacs=312.1,
        paper=PAPER,
        note="maps of the last pooling, mean of 16 frames, channels last: the visual feature of AVE",
    )
)
