"""Every network of timm by its own name: ``timm:resnet50`` or, with the tag that says which training, ``timm:resnet50.a1_in1k``.

timm is asked only when such a name is used: the networks are not listed, and nothing of them is declared here. Input, size,
licence and addresses are what timm states; shape, parameters and multiply-adds are counted on a network without data.
"""

from __future__ import annotations

import difflib
import math
import re
import threading
from collections.abc import Set
from functools import partial
from typing import TYPE_CHECKING, Any

from backbones.registry import register_family
from backbones.spec import Backbone, Frames, State, Weights
from backbones.state import some
from extract.errors import LayoutMismatch, PlanError, UnknownName

if TYPE_CHECKING:
    import torch

FAMILY = "timm"
BATCH = 8  # matrices of eight rows give every row the same bits wherever it stands
_READABLE = (".pth", ".pt", ".pyth", ".tar", ".bin", ".safetensors")
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_made: dict[str, Backbone] = {}
_lock = threading.Lock()


def resolve(name: str) -> Backbone:
    """The backbone called ``timm:MODEL`` or ``timm:MODEL.TAG``; its own name always has the tag, if there is one.

    Raises
    ------
    UnknownName
        timm has no such network, or not with that tag
    PlanError
        its input cannot be made exactly, or it does not give one array per picture
    """
    import timm

    model, _, tag = name.removeprefix(f"{FAMILY}:").partition(".")
    known = timm.list_models()
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(f'{FAMILY}:{each}' for each in near)}?" if near else "see timm.list_models()"
        raise UnknownName(f"timm {timm.__version__} has no model {model!r}; {hint}")
    tags = [full.partition(".")[2] for full in timm.models.get_arch_pretrained_cfgs(model)]
    if tag and tag not in tags:
        there = ", ".join(filter(None, tags)) or "none"
        raise UnknownName(f"timm {timm.__version__} has no weights {tag!r} of {model}; there are: {there}")
    default: Any = timm.models.get_pretrained_cfg(model)
    tag = tag or default.tag or ""
    full = f"{model}.{tag}" if tag else model
    with _lock:
        # one object per name: a backbone is compared with the registered one before it travels
        if full not in _made:
            _made[full] = _described(full)
        return _made[full]


def _described(full: str) -> Backbone:
    import timm
    import torch
    from timm.data.config import resolve_data_config

    with torch.device("meta"):
        module = _build(full).eval().requires_grad_(False)
    stated: Any = timm.models.get_pretrained_cfg(full)
    config = resolve_data_config({}, pretrained_cfg=stated.to_dict())  # type: ignore[no-untyped-call]
    view = _view(full, config)
    dims, gmacs = _measured(full, module, view)
    return Backbone(
        name=f"{FAMILY}:{full}",
        view=view,
        dims=dims,
        build=partial(_build, full),
        weights=_published(full, stated),
        adapt=partial(_adapt, full),
        batch=BATCH,
        params=sum(parameter.numel() for parameter in module.parameters()),
        gmacs=gmacs,
        paper=_paper(stated),
        note=f"what timm {timm.__version__} gives with num_classes=0, fed as its data configuration says",
    )


def _build(full: str) -> torch.nn.Module:
    import timm

    from backbones.nets.frames import OneFrame

    return OneFrame(timm.create_model(full, pretrained=False, num_classes=0))


def _view(full: str, config: dict[str, Any]) -> Frames:
    """What timm.data.create_transform makes of the configuration for evaluation, in timm 1.0.31."""
    (channels, height, width), crop_mode = config["input_size"], config["crop_mode"]
    interpolation, percent = config["interpolation"], config["crop_pct"]
    scaled = (math.floor(height / percent), math.floor(width / percent))
    problem = ""
    if channels != 3:
        problem = f"it takes pictures of {channels} channels"
    elif interpolation not in ("bilinear", "bicubic"):
        problem = f"its pictures are resized by the rule {interpolation!r}"
    elif crop_mode not in ("center", "squash"):
        problem = f"its pictures are cropped by the rule {crop_mode!r}"
    elif height != width and (crop_mode == "center" or scaled != (height, width)):
        problem = f"its pictures are resized to {scaled[0]} x {scaled[1]} and cropped to {height} x {width}"
    if problem:
        raise PlanError(f"{FAMILY}:{full} cannot be fed exactly as timm does it, and so not at all: {problem}")
    crop = None if scaled == (height, width) and crop_mode == "squash" else height
    return Frames(
        count=1,
        resize=scaled if crop_mode == "squash" else scaled[0],
        crop=crop,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation,
    )


def _measured(full: str, module: torch.nn.Module, view: Frames) -> tuple[tuple[int, ...], float]:
    """Shape of a row, and multiply-adds of one in units of 1e9, products of attention included."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        out = module(torch.empty((1, *view.input_shape), device="meta"))
    if not isinstance(out, torch.Tensor) or out.ndim < 2:
        raise PlanError(f"{FAMILY}:{full} gives {type(out).__name__} instead of one array per picture")
    return tuple(out.shape[1:]), round(counter.get_total_flops() / 2e9, 4)


def _published(full: str, stated: Any) -> tuple[tuple[Weights, ...], ...]:
    licence = stated.license or "not stated by timm"
    rows = []
    if stated.url and stated.url.endswith(_READABLE):
        digest = _DIGEST.search(stated.url)
        rows.append(Weights(uri=stated.url, sha256=digest[1] if digest else None, licence=licence))
    if stated.hf_hub_id:
        file = stated.hf_hub_filename or "model.safetensors"
        filename = f"{full}{file[file.rindex('.') :]}"
        note = f"{file} of huggingface.co/{stated.hf_hub_id}, saved as {filename}"
        uri = f"https://huggingface.co/{stated.hf_hub_id}/resolve/main/{file}"
        rows.append(Weights(uri=uri, sha256=None, licence=licence, filename=filename, note=note))
    return (tuple(rows),) if rows else ()


def _paper(stated: Any) -> str:
    ids = stated.paper_ids or ()
    ids = (ids,) if isinstance(ids, str) else ids
    return ", ".join(filter(None, (stated.paper_name, *ids, stated.origin_url))) or "see timm"


def _adapt(full: str, states: tuple[State, ...]) -> State:
    """Without the classifier. A file that does not have timm's keys is converted the way timm does it, and then complete."""
    import timm
    import torch

    (state,) = states
    with torch.device("meta"):
        whole = timm.create_model(full, pretrained=False).state_dict()
        wanted = timm.create_model(full, pretrained=False, num_classes=0).state_dict()
    classifier = whole.keys() - wanted.keys()
    if _shapes(state) not in (_shapes(whole), _shapes(wanted)):
        state = _converted(full, dict(state), classifier)
    return {f"net.{key}": tensor for key, tensor in state.items() if key not in classifier}


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    # files of torch < 0.4.1 have no counters
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def _converted(full: str, state: dict[str, torch.Tensor], classifier: Set[str]) -> State:
    """Have timm load the state, and see that it fills the network.

    For some networks timm does not insist on complete files. So the same keys are loaded once more with nothing but NaN:
    what has none then was not in the file.
    """
    import torch

    from backbones.random import skip_initialisation

    probe = {
        key: torch.full((), math.nan, dtype=tensor.dtype).expand(tensor.shape) if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }
    with torch.random.fork_rng(devices=[]):
        filled = _loaded(full, probe)
    absent = [k for k, t in filled.items() if t.is_floating_point() and k not in classifier and not t.isnan().any()]
    if absent:
        raise LayoutMismatch(f"the file lacks {len(absent)} tensors of timm's {full}: {some(absent)}")
    with skip_initialisation():
        return _loaded(full, state)


def _loaded(full: str, state: dict[str, torch.Tensor]) -> State:
    import timm

    try:
        return timm.create_model(full, pretrained=True, pretrained_cfg_overlay={"state_dict": state}).state_dict()
    except (RuntimeError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise LayoutMismatch(f"expected the layout of timm's {full}, or one that timm converts: {said}") from error


register_family(FAMILY, resolve)
