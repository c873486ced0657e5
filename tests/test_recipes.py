"""Recipes are found, chosen by what they claim, and make plans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backbones import registry as zoo
from extract import recipes
from extract.errors import PlanError, UnknownName
from extract.grid import Grid
from extract.recipes import Recipe, default_for, get, make_plan, register
from manifests.clip import Clip


@pytest.fixture
def book() -> Iterator[None]:
    before = {recipe.name: recipe for recipe in recipes.recipes()}
    yield
    recipes._recipes.clear()
    recipes._recipes.update(before)


def test_every_recipe_makes_a_plan_of_every_backbone() -> None:
    for recipe in recipes.recipes():
        for name in zoo.names():
            plan = make_plan(recipe, backbones=[name], weights="random:0")
            (feature,) = plan.features
            assert feature.key.startswith(f"{name}@")
            assert feature.grid.rows(10 * 10**9) >= 1
            assert plan.recipe == recipe.name


def test_the_first_claim_wins(book: None) -> None:
    base = get("per-second")
    clips = [Clip("a", "a.mp4")]
    assert default_for(clips).name == "per-second"
    register(replace(base, name="mine", claims=lambda clips: clips[0].clip_id == "a", rank=20))
    register(replace(base, name="first", claims=lambda clips: clips[0].clip_id == "b", rank=1))
    assert default_for(clips).name == "mine"
    assert default_for([Clip("b", "b.mp4")]).name == "first"
    with pytest.raises(PlanError, match="two recipes are called 'mine'"):
        register(replace(base, name="mine"))


def test_nobody_claims(book: None, monkeypatch: pytest.MonkeyPatch) -> None:
    del recipes._recipes["per-second"]
    with pytest.raises(PlanError, match=r"no recipe claims these clips; choose one with --recipe \(there are: llp, "):
        default_for([Clip("a", "a.mp4")])
    recipes._recipes.clear()
    with pytest.raises(PlanError, match="is another folder called `pipelines` in the way"):
        default_for([Clip("a", "a.mp4")])


def test_wrong_names() -> None:
    with pytest.raises(UnknownName, match="no recipe is called 'lllp'; did you mean llp"):
        get("lllp")
    with pytest.raises(UnknownName, match="no backbone is called 'vgish'; did you mean vggish"):
        make_plan(get("llp"), backbones=["vgish"], weights="random:0")
    with pytest.raises(PlanError, match="asked for twice: vggish@"):
        make_plan(get("llp"), backbones=["vggish", "vggish"], weights="random:0")


def test_what_changes_a_key_and_what_does_not() -> None:
    def keys(**more: object) -> tuple[str, ...]:
        return make_plan(get("llp"), **{"weights": "random:0", **more}).keys  # type: ignore[arg-type]

    assert keys() == keys(missing_audio="skip")
    assert set(keys()).isdisjoint(keys(precision="bfloat16"))
    assert set(keys()).isdisjoint(keys(weights="random:1"))
    assert keys(backbones=["vggish", "resnet152"]) == (keys()[2], keys()[0])
    for other in ("llp-clean", "per-second"):
        assert set(keys()).isdisjoint(make_plan(get(other), weights="random:0").keys)


def test_folders_in_pipelines_are_no_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, book: None) -> None:
    """Parsers live there: importing them for a list of recipes would import torch."""
    import pipelines

    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "__init__.py").write_text("raise ImportError('imported')")
    (tmp_path / "light_of_test.py").write_text(
        "from dataclasses import replace\nfrom extract.recipes import get, register\n"
        "register(replace(get('llp'), name='light'))\n"
    )
    monkeypatch.setattr(pipelines, "__path__", [*pipelines.__path__, str(tmp_path)])
    monkeypatch.setattr(recipes, "_found", False)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})()
    )
    assert get("light").name == "light"


def test_a_recipe_of_ones_own(book: None) -> None:
    mine = register(
        Recipe("mine", "one frame in five seconds", ("resnet18",), lambda b: (b.views, Grid(5 * 10**9, 5 * 10**9)))
    )
    (feature,) = make_plan(mine, weights="random:0").features
    assert feature.grid.windows_ns(12 * 10**9).tolist() == [[0, 5 * 10**9], [5 * 10**9, 10 * 10**9]]
