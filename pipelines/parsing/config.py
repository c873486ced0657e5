"""Everything that decides what a training run gives."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from extract.errors import PlanError, nearest
from pipelines.parsing.learning.augment import SCHEDULE
from pipelines.parsing.learning.denoising import Denoising
from pipelines.parsing.learning.mtsm import Mtsm
from pipelines.parsing.metrics import Gate

Model = Literal["han", "jomold", "avel", "dmrn", "psp"]
Supervision = Literal["weak", "full"]
Selection = Literal["val", "test", "last"]
MODELS: dict[str, tuple[Model, ...]] = {"avvp": ("han", "jomold"), "ave": ("avel", "dmrn", "psp")}
WIDTH = 512
"""Of the published HAN."""


@dataclass(frozen=True, slots=True)
class Config:
    """A training run. Equal configurations on equal features give equal bits on the CPU of one machine.

    Parameters
    ----------
    task
        ``avvp`` or ``ave``
    model
        han, jomold (HAN trained with denoised labels), avel, dmrn, psp
    supervision
        ``weak``: labels of clips; ``full``: of seconds, for AVE
    audio, visual, clip
        keys of the store, in full or by backbone; clip is optional
    classes
        ``official``: the vocabulary of LLP or AVE; ``manifest``: the labels of the manifest, sorted
    seed, epochs, batch
        of the training
    lr, milestones, gamma
        Adam's rate, multiplied by gamma at the beginning of each milestone (epochs, from 0)
    layers, heads, dropout, encoder_compat
        of HAN; see :class:`pipelines.parsing.models.han.HAN`
    smooth_audio, smooth_visual
        of HAN's labels per modality
    width
        numbers per second of HAN's streams, and of the layer inside its blocks; published: 512
    loss
        ``mil``, or ``mtsm``: with the multi-modal time-series max-margin loss of `mtsm`
    augment
        none, or ``cross_instance`` by `schedule`, one word per epoch and again from the start
    renormalise
        whether the pooling of a spliced part sees that part only
    target
        of weakly supervised PSP: ``label``, or ``prob``: how much of the clip each class fills, which is published and uses
        labels of seconds
    denoising
        of jomold
    init
        folder of a run, or a checkpoint, whose weights to begin with, as far as names and shapes fit; the run says how far.
        DMRN was published as begun with AVEL's
    gate
        how AVVP probabilities become events; see :func:`pipelines.parsing.metrics.binarise`
    select
        whose scores choose the epoch: ``val``, ``test`` (as some published protocols do; every score says so), or ``last``
    patience
        epochs without a better one before training stops; 0: never
    precision
        ``float32`` or ``bfloat16`` (autocast)
    """

    task: Literal["avvp", "ave"]
    model: Model
    audio: str
    visual: str
    clip: str = ""
    supervision: Supervision = "weak"
    classes: Literal["official", "manifest"] = "official"
    seed: int = 0
    epochs: int = 40
    batch: int = 16
    lr: float = 3e-4
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    layers: int = 1
    heads: int = 1
    dropout: float = 0.1
    encoder_compat: Literal["official", "chained"] = "official"
    smooth_audio: float = 1.0
    smooth_visual: float = 0.9
    loss: Literal["mil", "mtsm"] = "mil"
    mtsm: Mtsm = field(default_factory=Mtsm)
    augment: Literal["", "cross_instance"] = ""
    schedule: tuple[str, ...] = SCHEDULE
    renormalise: bool = True
    target: Literal["label", "prob"] = "label"
    denoising: Denoising = field(default_factory=Denoising)
    init: str = ""
    gate: Gate = "global"
    select: Selection = "val"
    patience: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    width: int = WIDTH

    def __post_init__(self) -> None:
        if self.task not in MODELS:
            raise nearest(self.task, list(MODELS), "task")
        if self.model not in MODELS[self.task]:
            raise nearest(self.model, list(MODELS[self.task]), f"model for the task {self.task}")
        for name in (
            "supervision",
            "classes",
            "encoder_compat",
            "loss",
            "augment",
            "target",
            "gate",
            "select",
            "precision",
        ):
            allowed = _words(name)
            if getattr(self, name) not in allowed:
                raise nearest(str(getattr(self, name)), list(allowed), name)
        for name, low in (("epochs", 1), ("batch", 1), ("layers", 1), ("heads", 1), ("patience", 0), ("width", 1)):
            if getattr(self, name) < low:
                raise PlanError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not self.lr > 0:
            raise PlanError(f"lr must be above 0, got {self.lr}")
        if why := self._clash():
            raise PlanError(why)

    def _clash(self) -> str:
        """What does not go together."""
        if self.task == "avvp" and self.supervision == "full":
            return "the task avvp is learned from labels of clips; supervision full is for ave"
        if self.width != WIDTH and self.model not in ("han", "jomold"):
            return f"width is a setting of han and jomold, got {self.width} for {self.model}; leave it out"
        if self.model == "dmrn" and self.supervision == "weak":
            return "dmrn is trained with supervision full only"
        if self.loss == "mtsm" and self.model != "han":
            return f"the loss mtsm is defined on HAN's streams; the model is {self.model}"
        if self.augment and (self.model in ("jomold", "dmrn") or self.supervision == "full"):
            return "cross_instance augmentation is for weakly supervised han, avel and psp"
        if self.clip and self.task == "ave":
            return "the networks for ave take no features in the slot clip"
        unknown = set(self.schedule) - {"plain", "modality", "temporal"}
        if unknown or not self.schedule:
            return f"a schedule is made of plain, modality and temporal, got {','.join(self.schedule) or 'nothing'}"
        if self.augment and self.task == "ave" and "modality" in self.schedule:
            return (
                "AVE's events are heard and seen at once, so a swap of modalities has no labels; use plain and temporal"
            )
        return ""

    @property
    def names(self) -> dict[str, str]:
        """The key of each slot that is used."""
        slots = {"audio": self.audio, "visual": self.visual, "clip": self.clip}
        return {slot: name for slot, name in slots.items() if name}

    def digest(self) -> str:
        """Twelve hex digits that differ where anything here does."""
        told = asdict(self)
        if self.width == WIDTH:  # runs that were made before there was a choice keep their digest
            del told["width"]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _words(name: str) -> tuple[str, ...]:
    return {
        "supervision": get_args(Supervision),
        "classes": ("official", "manifest"),
        "encoder_compat": ("official", "chained"),
        "loss": ("mil", "mtsm"),
        "augment": ("", "cross_instance"),
        "target": ("label", "prob"),
        "gate": get_args(Gate),
        "select": get_args(Selection),
        "precision": ("float32", "bfloat16"),
    }[name]
