"""Named choices of features and policies for a dataset. Recipes live in ``pipelines/``; this is where they are found.

Besides the modules of ``pipelines``, installed packages may offer recipes under the entry point group ``extract.recipes``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backbones import registry as zoo
from backbones.spec import Backbone, View
from backbones.weights import parse_source, weights_id
from extract.errors import PlanError, nearest
from extract.grid import Grid
from extract.plan import Feature, Limits, MissingAudio, Plan, Precision, Storage
from manifests.clip import Clip

GROUP = "extract.recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a dataset needs, as its papers or common sense have it.

    Parameters
    ----------
    name
        what ``--recipe`` takes
    about
        one line for people
    backbones
        names of the backbones it runs unless told otherwise
    column
        how it feeds any backbone: its views and its grid
    claims
        whether a manifest is of the kind this recipe was made for; the first claim in the order of `rank` wins
    rank
        lower asks first; a recipe that claims everything ranks last
    free
        whether the user may choose another distance between its rows
    """

    name: str
    about: str
    backbones: tuple[str, ...]
    column: Callable[[Backbone], tuple[tuple[View, ...], Grid]]
    claims: Callable[[Sequence[Clip]], bool] = lambda clips: False
    rank: int = 50
    free: bool = False


_recipes: dict[str, Recipe] = {}
_found = False


def register(recipe: Recipe) -> Recipe:
    """Add a recipe and return it.

    Raises
    ------
    PlanError
        its name is taken
    """
    if recipe.name in _recipes:
        raise PlanError(f"two recipes are called {recipe.name!r}")
    _recipes[recipe.name] = recipe
    return recipe


def recipes() -> tuple[Recipe, ...]:
    """Every recipe, in the order in which they are asked for claims."""
    _discover()
    return tuple(sorted(_recipes.values(), key=lambda recipe: (recipe.rank, recipe.name)))


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises
    ------
    UnknownName
        there is none; the nearest names are suggested
    """
    _discover()
    if name not in _recipes:
        raise nearest(name, list(_recipes), "recipe")
    return _recipes[name]


def default_for(clips: Sequence[Clip]) -> Recipe:
    """The recipe that claims these clips.

    Raises
    ------
    PlanError
        none does
    """
    for recipe in recipes():
        if recipe.claims(clips):
            return recipe
    known = ", ".join(recipe.name for recipe in recipes()) or "none: is another folder called `pipelines` in the way?"
    raise PlanError(f"no recipe claims these clips; choose one with --recipe (there are: {known})")


def make_plan(
    recipe: Recipe,
    *,
    backbones: Sequence[str] = (),
    hop_ns: int | None = None,
    weights: str = "official",
    allow_unverified: bool = False,
    precision: Precision = "float32",
    storage: Storage = "float32",
    missing_audio: MissingAudio = "mask",
    limits: Limits | None = None,
) -> Plan:
    """What to compute, from a recipe and the user's choices.

    Parameters
    ----------
    recipe
        gives the backbones, unless named, and how each is fed
    backbones
        names; also such that the recipe does not have by itself
    hop_ns
        between the starts of two rows; None: as the recipe has it
    weights, allow_unverified
        where trained weights come from (backbones.weights.parse_source)
    precision
        arithmetic of the networks
    storage
        type of the stored numbers
    missing_audio, limits
        see extract.plan

    Raises
    ------
    UnknownName
        no backbone of that name
    PlanError, WeightsError
        a backbone was named twice, its weights cannot be told, or the recipe's rows lie where they lie
    """
    if hop_ns is not None and not recipe.free:
        able = ", ".join(known.name for known in recipes() if known.free)
        raise PlanError(
            f"the recipe {recipe.name} fixes where its rows lie, so --hop cannot move them; recipes it works with: {able}"
        )
    source = parse_source(weights)
    features = []
    for name in backbones or recipe.backbones:
        backbone = zoo.get(name)
        views, grid = recipe.column(backbone)
        if hop_ns is not None:
            grid = replace(grid, hop_ns=hop_ns)
        features.append(
            Feature(backbone, views, grid, weights_id(backbone, source, allow_unverified), precision, storage)
        )
    return Plan(recipe.name, tuple(features), missing_audio, limits or Limits())


def _discover() -> None:
    global _found  # noqa: PLW0603 - discovery happens once per process
    if _found:
        return
    _found = True  # before the imports: a recipe's module may itself ask for recipes
    package = importlib.util.find_spec("pipelines")
    for module in pkgutil.iter_modules(package.submodule_search_locations if package else None):
        if not module.ispkg:  # a folder is a use of stores (parsing, collocation), too heavy to import for its recipes
            importlib.import_module(f"pipelines.{module.name}")
    for entry in importlib.metadata.entry_points(group=GROUP):
        entry.load()
