"""``extract recipes``: what there is to choose from with --recipe."""

from __future__ import annotations

import click


@click.command()
def recipes() -> None:
    """List the recipes; the first that claims a manifest is its default."""
    from extract.recipes import recipes as known

    for recipe in known():
        click.echo(f"{recipe.name:12} {recipe.about}; backbones {', '.join(recipe.backbones)}")
