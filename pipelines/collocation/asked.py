"""What is asked of a search, and whether it can be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from extract.errors import PlanError, StoreError, nearest
from pipelines.collocation.clips.opened import fewer_classes, open_splits
from pipelines.collocation.clips.shared import Shared
from pipelines.collocation.collocations import Collocation, every
from pipelines.collocation.methods.by_transfer import estimators
from pipelines.collocation.methods.decoupled import points
from pipelines.collocation.methods.schedule import plan
from pipelines.collocation.transfer.summary import CLIPS
from pipelines.parsing.config import Config
from pipelines.parsing.presets import changed

BUDGET = 1 / 12
METHODS = ("traverse", "decoupled", "halving", "transfer")
GRID: Mapping[str, Sequence[str]] = {"lr": ("1e-4", "3e-4", "1e-3")}
"""What the decoupled method tries for an incumbent, unless told otherwise."""
_ONE_FOR_ALL = ("task", "audio", "visual", "clip", "classes", "seed", "epochs", "init", "select", "patience")
"""Settings that all trainings of a search have in common, or that it chooses by itself."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be searched, and how.

    Parameters
    ----------
    store
        folder of the features
    out
        folder of the search; given again, it goes on
    names
        keys or backbones by slot
    config
        of every training; its features and seed do not count
    methods
        some of `METHODS`, in the order in which to do them
    seeds
        of the trainings
    grid
        settings that the decoupled method tries, see :func:`pipelines.collocation.methods.decoupled.decouple`
    start
        where it starts; empty: at the first collocation
    train_classes
        also traverse with the first so many classes in training clips (Fig. 6 of the paper)
    by
        what transfer ranks by; empty: see :func:`pipelines.collocation.methods.by_transfer.rank_by_transfer`
    confidence
        of all intervals
    folds
        of val, in the decoupled method; 1: as in the paper
    budget
        the share of a traversal's epochs that halving may train
    diagnostics
        after traversal, measure how alike the streams of a pair are (Table 1), and ``cos ψ₁`` of what was fused
    """

    store: Path
    out: Path
    names: Mapping[str, tuple[str, ...]]
    config: Config
    methods: tuple[str, ...] = ("halving",)
    seeds: tuple[int, ...] = (0, 1, 2)
    grid: Mapping[str, Sequence[str]] = field(default_factory=lambda: GRID)
    start: str = ""
    train_classes: tuple[int, ...] = ()
    by: str = ""
    confidence: float = 0.95
    folds: int = 1
    budget: float = BUDGET
    diagnostics: bool = True


def check_settings(asked: Asked) -> None:
    """Refuse methods that there are not, and settings of one network's training that a search decides for itself.

    Raises
    ------
    UnknownName, PlanError
        there is one, or nothing is asked for
    """
    if not asked.methods:
        raise PlanError(f"--method names no method; give some of {', '.join(METHODS)}")
    if not asked.seeds or len(set(asked.seeds)) < len(asked.seeds):
        raise PlanError(f"the seeds are {list(asked.seeds)}; give at least one, each once")
    if not 0 < asked.confidence < 1:
        raise PlanError(f"confidence {asked.confidence:g} must be between 0 and 1, such as 0.95")
    for method in asked.methods:
        if method not in METHODS:
            raise nearest(method, list(METHODS), "method")
    for option, method, given in (
        ("grid", "decoupled", asked.grid != GRID),
        ("start", "decoupled", bool(asked.start)),
        ("folds", "decoupled", asked.folds != 1),
        ("train-classes", "traverse", bool(asked.train_classes)),
        ("by", "transfer", bool(asked.by)),
        ("budget", "halving", asked.budget != BUDGET),
    ):
        if given and method not in asked.methods:
            raise PlanError(
                f"--{option} is for {method}, and --method is {','.join(asked.methods)}; add {method}, or leave --{option} out"
            )
    for name, unset in (("init", ""), ("select", "val"), ("patience", 0)):
        if getattr(asked.config, name) != unset:
            raise PlanError(
                f"--{name} {getattr(asked.config, name)} is for `extract parse train`; a search begins with random weights, "
                "trains as long as its method says, and chooses on val"
            )
    if asked.names.get("clip"):
        replace(asked.config, clip=asked.names["clip"][0])  # which the networks for ave refuse


def collocations_of(shared: Shared) -> tuple[Collocation, ...]:
    """All collocations of the features that are not flagged.

    Raises
    ------
    PlanError
        none is left for a slot, or :func:`pipelines.collocation.collocations.every`
    """
    for slot, left in shared.slots.items():
        if not left:
            why = "; ".join(f"{name}: {reason}" for name, reason in shared.flagged.items())
            raise PlanError(f"no backbone is left for the slot {slot} ({why}); give others with --{slot}")
    return every(shared.slots)


def check(asked: Asked, shared: Shared, collocations: Sequence[Collocation]) -> Collocation | None:
    """Whether every method can do its work, before the first begins.

    Returns
    -------
    Collocation or None
        where decoupled starts, if that was asked for

    Raises
    ------
    StoreError
        a method needs labels with times of val, and there are none
    PlanError, UnknownName
        a setting that a method cannot work with
    """
    needing = [method for method in asked.methods if method != "transfer"]
    if needing and "val" not in shared.timed:
        raise StoreError(
            f"{', '.join(needing)}: ranks by scores on val, and {shared.store} has no labels with times for val; put them beside "
            "the manifest as <stem>.dense.csv (`extract manifest llp|ave` does) and run again, or use --method transfer"
        )
    fewest = min(("train", "val"), key=lambda split: shared.clips[split][0])
    if "transfer" in asked.methods and shared.clips[fewest][0] < CLIPS:
        raise PlanError(
            f"transfer: cos ψ₁ is of batches of {CLIPS} clips, and {fewest} has {shared.clips[fewest][0]}; leave it out of "
            "--method"
        )
    known = estimators(shared.slots, "val" in shared.timed)
    if "transfer" in asked.methods and asked.by not in ("", *known):
        raise nearest(asked.by, list(known), "estimator of transfer")
    by_name = {each.name: each for each in collocations}
    everything = len(shared.classes)
    for count in asked.train_classes:
        if not 1 <= count <= everything:
            raise PlanError(f"--train-classes {count}: there are {everything} classes; keep 1 to {everything} of them")
        if "traverse" in asked.methods:
            fewer_classes(open_splits(asked.out, [])["train"], count)
    for method in asked.methods:
        if method in ("halving", "decoupled") and len(by_name) < 2:
            raise PlanError(
                f"{method}: {', '.join(by_name)} is the only collocation; give more backbones, or use --method traverse"
            )
    if "halving" in asked.methods:
        plan(len(collocations), len(asked.seeds), asked.config.epochs, budget=asked.budget)
    if "decoupled" in asked.methods:
        _check_grid(asked)
        if not 1 <= asked.folds <= shared.clips["val"][0]:
            raise PlanError(f"--folds {asked.folds}: give 1 to {shared.clips['val'][0]}, the clips of val")
    if asked.start and asked.start not in by_name:
        raise nearest(asked.start, list(by_name), "collocation to start at")
    return by_name.get(asked.start)


def _check_grid(asked: Asked) -> None:
    for name, values in asked.grid.items():
        if name in _ONE_FOR_ALL:
            raise PlanError(f"--grid {name}: all trainings of a search have the same; choose other settings to try")
        if not values or len(set(values)) < len(values):
            raise PlanError(f"--grid {name}={','.join(values)}: give at least one value, each once")
    for settings in points(asked.grid):
        changed(asked.config, settings)
