"""Configurations out of published settings, JSON and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from extract.errors import PlanError, nearest
from pipelines.parsing.config import Config
from pipelines.parsing.learning.denoising import Denoising
from pipelines.parsing.learning.mtsm import Mtsm


def published(model: str, supervision: str, augment: str = "") -> dict[str, Any]:
    """The settings that a network was published with.

    Returns
    -------
    dict
        fields of :class:`Config`

    Notes
    -----
    Sources: YapengTian/AVVP-ECCV20 (fde5611), MCG-NJU/JoMoLD (a7dc2d5), YapengTian/AVE-ECCV18 (93f843f),
    jasongief/PSP_CVPR_2021 (ddd20f3); with augmentation, Zhu et al., "Mixed in time and modality", section 4.2. AVEL's program
    asks for a lower rate after 15,000 steps, which its 250 epochs of weak supervision never reach.
    """
    if model == "han" and augment:
        return {"epochs": 60, "batch": 16, "lr": 3e-5}
    if model == "han":
        return {"epochs": 40, "batch": 16, "lr": 3e-4, "milestones": (10, 20, 30), "gamma": 0.1}
    if model == "jomold":
        steps = {"milestones": (6, 12, 18, 24), "gamma": 0.25}
        return {"epochs": 25, "batch": 128, "lr": 5e-4, "gate": "per_modality", **steps}
    temporal: dict[str, Any] = {"schedule": ("plain", "plain", "temporal")} if augment else {}
    if model == "psp":
        milestones = (60, 120) if supervision == "full" else (80, 160)
        return {"epochs": 300, "batch": 128, "lr": 1e-3, "milestones": milestones, "gamma": 0.8, **temporal}
    return {"epochs": 300, "batch": 64, "lr": 1e-3, **temporal}


def as_dict(config: Config) -> dict[str, Any]:
    """For JSON; :func:`from_dict` reads it."""
    return asdict(config)


def from_dict(told: Mapping[str, Any]) -> Config:
    """A configuration out of JSON.

    Raises
    ------
    PlanError
        it has fields that this version does not know, or none of some without which there is no run
    """
    known = {each.name for each in fields(Config)}
    if unknown := sorted(set(told) - known):
        raise PlanError(
            f"the configuration has fields this version does not know: {', '.join(unknown)}; it is of a newer one"
        )
    if lacks := [name for name in ("task", "model", "audio", "visual") if name not in told]:
        raise PlanError(f"the configuration has no {', '.join(lacks)}; the run must be made again")
    values: dict[str, Any] = {name: _tuples(value) for name, value in told.items()}
    for name, kind in (("mtsm", Mtsm), ("denoising", Denoising)):
        if name in values:
            values[name] = kind(**{key: _tuples(value) for key, value in told[name].items()})
    return Config(**values)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def changed(config: Config, settings: Mapping[str, str]) -> Config:
    """A configuration with some fields given as text, such as ``lr=1e-4`` or ``mtsm.t_exp=2``; ``+`` joins several values.

    Raises
    ------
    UnknownName
        no such field
    PlanError
        a value of the wrong kind
    """
    values: dict[str, Any] = {}
    for name, text in settings.items():
        outer, _, inner = name.partition(".")
        if outer not in {each.name for each in fields(Config)}:
            raise nearest(outer, [each.name for each in fields(Config)], "setting")
        there = values.get(outer, getattr(config, outer))
        if isinstance(there, Mtsm | Denoising):
            names = [each.name for each in fields(there)]
            if inner not in names:
                raise nearest(inner, names, f"setting of {outer}")
            values[outer] = replace(there, **{inner: _read(text, getattr(there, inner), name)})
        elif inner:
            raise PlanError(f"{name}: {outer} has no settings of its own; give {outer}=VALUE")
        else:
            values[outer] = _read(text, there, name)
    return replace(config, **values)


def changes(config: Config, base: Config) -> dict[str, str]:
    """What to give :func:`changed` for `base` to become `config`.

    Returns
    -------
    dict
        the fields in which they differ, as text
    """
    found: dict[str, str] = {}
    for each in fields(config):
        value, before = getattr(config, each.name), getattr(base, each.name)
        if is_dataclass(value):
            inner = ((name.name, getattr(value, name.name), getattr(before, name.name)) for name in fields(value))
            found |= {f"{each.name}.{name}": _text(own) for name, own, other in inner if own != other}
        elif value != before:
            found[each.name] = _text(value)
    return found


def _text(value: Any) -> str:
    return "+".join(map(_text, value)) if isinstance(value, tuple) else str(value)


def _read(text: str, like: Any, name: str) -> Any:
    """`text` as a value of the kind that `like` is."""
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(like, tuple):
            inner = like[0] if like else 0
            return tuple(_read(part, inner, name) for part in text.split("+") if part)
        if isinstance(like, (int, float)):
            return type(like)(text)
    except (KeyError, ValueError) as error:
        kind = "true or false" if isinstance(like, bool) else f"a value like {like!r}"
        raise PlanError(f"{name}={text!r}: must be {kind}") from error
    return text
