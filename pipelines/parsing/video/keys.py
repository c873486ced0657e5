"""From the keys of a run back to the choices that make them again, so that a new video gets the same features."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backbones.sources import parse_source
from extract import recipes
from extract.errors import PlanError, UnknownName
from extract.job import Choices
from extract.plan import Feature
from extract.recipes import Recipe
from extract.todo import headers, remembered_choices
from pipelines.parsing.synthetic.stand_ins import SOURCE


@dataclass(frozen=True, slots=True)
class Wanted:
    """A feature that a run was trained on, and how to compute it.

    Parameters
    ----------
    slot
        ``audio``, ``visual`` or ``clip``
    feature
        its key is that of the run
    choices
        of an extraction that gives it; they name this backbone only
    """

    slot: str
    feature: Feature
    choices: Choices


def wanted(told: Mapping[str, Any], *, weights: str = "", recipe: str = "") -> tuple[Wanted, ...]:
    """How to compute the features of a run.

    Precision and storage are read from each key's identity, and so are random weights. The rest is tried: what the last run of
    the run's store that has the key was made with, where that store is still there, then every recipe by name.

    Parameters
    ----------
    told
        what ``config.json`` of the run holds
    weights
        ``official``, a folder or ``random:SEED``, for every slot; empty: as the run's features were made
    recipe
        name, for every slot; empty: whichever gives the run's keys

    Returns
    -------
    tuple of Wanted
        one per slot. A clip without sound gets rows of zeros where the run's store has such, else it fails

    Raises
    ------
    PlanError
        no choice of these gives a key of the run, which may not have been computed at all; the message says what differs
    UnknownName
        no recipe or backbone of that name is here
    WeightsError
        the weights cannot be told
    """
    store = Path(told["store"])
    ledgers = list(headers(store)) if (store / "runs").is_dir() else []
    return tuple(
        _wanted(slot, key, json.loads(told["infos"][slot]["identity"]), ledgers, weights, recipe)
        for slot, key in told["keys"].items()
    )


def _wanted(
    slot: str, key: str, identity: Mapping[str, Any], ledgers: Sequence[Mapping[str, Any]], weights: str, recipe: str
) -> Wanted:
    _check_computed(slot, key, identity)
    ledger = next((each for each in ledgers if key in each["keys"]), None)
    choices = _base(identity, Choices() if ledger is None else remembered_choices(ledger), weights)
    parse_source(choices.weights)
    here = {each.name: each for each in recipes.recipes()}
    first = recipe or ("" if ledger is None else ledger["recipe"])
    order = [recipes.get(recipe)] if recipe else sorted(here.values(), key=lambda each: each.name != first)
    made: list[tuple[Recipe, Feature]] = []
    for each in order:
        with suppress(PlanError, ValueError):  # no recipe need be able to feed every network
            feature = _feature(slot, each, identity, choices)
            if feature.key == key:
                return Wanted(slot, feature, _with_recipe(choices, each, identity))
            made.append((each, feature))
    if not made:
        raise PlanError(f"{slot}: no recipe here can feed {identity['backbone']}, which {key} of the run is made with")
    _check_weights(slot, identity, made[0][1], choices.weights)
    differing = {each.name: list(_differences(json.loads(of.identity_json), identity)) for each, of in made}
    nearest = min(differing, key=lambda name: len(differing[name]))
    what = differing[nearest][0]
    if recipe:
        fits = [each.name for each in here.values() if _fits(slot, each, identity, choices, key)]
        fix = f"leave it out, or give {' or '.join(fits)}" if fits else "leave it out"
        raise PlanError(f"{slot}: --recipe {recipe} does not make {key}, which the run was trained on: {what}; {fix}")
    raise PlanError(
        f"{slot}: no recipe here makes {key}, which the run was trained on; nearest is {nearest}: {what}; install what the "
        "features were made with (a plug-in, another version), or train on features made here"
    )


def _check_computed(slot: str, key: str, identity: Mapping[str, Any]) -> None:
    again = "train on a store that `extract run` made"
    if identity.get("source") == SOURCE:
        raise PlanError(
            f"{slot}: the run was trained on synthetic features ({key}), which cannot be computed from a video; {again}"
        )
    if "imported" in identity:
        raise PlanError(
            f"{slot}: the run was trained on imported features ({key}), and how those were computed is not known; {again}"
        )
    if "views" not in identity:
        raise PlanError(f"{slot}: {key} of the run does not say how it was computed from a video; {again}")


def _base(identity: Mapping[str, Any], then: Choices, weights: str) -> Choices:
    """The choices of then for this backbone, without its recipe."""
    own = identity["weights"]
    if not weights and own.startswith("random:"):
        weights = own
    elif not weights:
        there = then.weights == "official" or Path(then.weights).is_dir()
        weights = then.weights if there else "official"
    return replace(
        then,
        recipe="",
        backbones=(identity["backbone"],),
        hop_ns=None,
        weights=weights,
        allow_unverified=own.startswith("file:"),
        precision=identity["precision"],
        storage=identity.get("storage", "float32"),
        missing_audio="mask" if then.missing_audio == "mask" else "error",
        videos="",
        only=(),
        limit=None,
    )


def _with_recipe(choices: Choices, recipe: Recipe, identity: Mapping[str, Any]) -> Choices:
    return replace(choices, recipe=recipe.name, hop_ns=identity["grid"]["hop_ns"] if recipe.free else None)


def _feature(slot: str, recipe: Recipe, identity: Mapping[str, Any], choices: Choices) -> Feature:
    chosen = _with_recipe(choices, recipe, identity)
    try:
        plan = recipes.make_plan(
            recipe,
            backbones=chosen.backbones,
            hop_ns=chosen.hop_ns,
            weights=chosen.weights,
            allow_unverified=chosen.allow_unverified,
            precision=chosen.precision,  # type: ignore[arg-type]
            storage=chosen.storage,  # type: ignore[arg-type]
        )
    except UnknownName as error:
        raise UnknownName(
            f"{slot}: {error}; the run was trained on its features: name the folder of its plug-in in EXTRACT_PLUGINS"
        ) from None
    return plan.features[0]


def _fits(slot: str, recipe: Recipe, identity: Mapping[str, Any], choices: Choices, key: str) -> bool:
    with suppress(PlanError, ValueError):  # as above
        return _feature(slot, recipe, identity, choices).key == key
    return False


def _check_weights(slot: str, identity: Mapping[str, Any], feature: Feature, given: str) -> None:
    own = identity["weights"]
    if feature.weights_id == own:
        return
    kind = own.partition(":")[0]
    fix = {"random": own, "file": "DIR, the folder of those files"}.get(kind, "official, or the folder of those files")
    raise PlanError(
        f"{slot}: the run was trained on {identity['backbone']} with the weights {own}, and --weights {given} gives "
        f"{feature.weights_id}; give --weights {fix}"
    )


def _differences(here: Any, there: Any, path: str = "") -> Iterator[str]:
    """Where two identities differ, in words."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for name in sorted(here.keys() | there.keys()):
            yield from _differences(here.get(name), there.get(name), f"{path}.{name}" if path else name)
    elif isinstance(here, list | tuple) and isinstance(there, list | tuple) and len(here) == len(there):
        for i, (a, b) in enumerate(zip(here, there, strict=True)):
            yield from _differences(a, b, f"{path}[{i}]")
    elif here != there:
        yield f"{path} is {here!r:.60}, the run's {there!r:.60}"
