"""From a configuration to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from extract.errors import DeviceUnavailable
from pipelines.parsing.config import Config
from pipelines.parsing.models.avel import AVEL
from pipelines.parsing.models.dmrn import DMRN
from pipelines.parsing.models.han import HAN
from pipelines.parsing.models.psp import PSP


def build(config: Config, classes: int, dims: Mapping[str, int]) -> nn.Module:
    """The network of a configuration, with random weights from ``config.seed``.

    Parameters
    ----------
    config
        of the run
    classes
        how many, the background included
    dims
        numbers per second (and region) in each slot
    """
    torch.manual_seed(config.seed)
    return _make(config, classes, dims)


def _make(config: Config, classes: int, dims: Mapping[str, int]) -> nn.Module:
    if config.model in ("han", "jomold"):
        return HAN(
            classes=classes,
            audio=dims["audio"],
            visual=dims["visual"],
            clip=dims.get("clip"),
            width=config.width,
            feedforward=config.width,
            layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
            encoder_compat=config.encoder_compat,
            visual_dropout=config.denoising.visual_dropout if config.model == "jomold" else 0.0,
        )
    sizes: dict[str, Any] = {"classes": classes, "audio": dims["audio"], "visual": dims["visual"]}
    if config.model == "dmrn":
        return DMRN(**sizes)
    kind = AVEL if config.model == "avel" else PSP
    return kind(**sizes, supervision=config.supervision)


def device_of(name: str) -> str:
    """``auto`` as the device there is; ``cpu`` or ``cuda`` as asked.

    Raises
    ------
    DeviceUnavailable
        cuda was asked for and is not there
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceUnavailable("--device cuda was asked for, and there is none on this machine; use --device cpu")
    return name
