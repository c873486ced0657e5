"""``extract backbones list|show|fetch|check|bench``."""

from __future__ import annotations

from pathlib import Path

import click

from backbones import download, registry, sources
from backbones.spec import Backbone
from backbones.weights import UNVERIFIED, fetch, parse_source, weights_id
from extract.commands import zoo
from extract.commands.bench_backbone import bench
from extract.commands.check_backbone import check
from extract.errors import ExtractError, WeightsError


@click.group()
def backbones() -> None:
    """The zoo: what can be computed, and the weights for it."""


backbones.add_command(check)
backbones.add_command(bench)


@backbones.command(name="list")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--modality", type=click.Choice(["visual", "audio", "audio-visual"]), default=None)
def list_(patterns: tuple[str, ...], modality: str | None) -> None:
    """One line per backbone, of those whose name holds a PATTERN or fits it as a glob.

    `weights`: `here` if official files are on this machine, `fetch` if they can be, `your own` if they come out of your own
    training, `random` if there are none at all.
    """
    found = zoo.chosen([registry.get(name) for name in registry.names()], patterns, modality)
    rows = [zoo.HEAD, *(zoo.row(backbone) for backbone in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(zoo.HEAD))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if not patterns and modality in (None, "visual"):
        click.echo(
            "timm:NAME names any model of timm besides; `extract backbones show timm:NAME` says how it is fed", err=True
        )


@backbones.command()
@click.argument("name")
def show(name: str) -> None:
    """Everything declared about NAME: input, output, weights and where they are published, licences."""
    from extract.recipes import recipes

    backbone = registry.get(name)
    users = [recipe.name for recipe in recipes() if backbone.name in recipe.backbones]
    click.echo("\n".join(zoo.page(backbone, users)))


@backbones.command(name="fetch")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--recipe", default="", help="The backbones of this recipe.")
@click.option(
    "--from",
    "places",
    multiple=True,
    metavar="URL|DIR",
    help="A mirror, or a folder, with the official file names; asked first; digests are checked all the same.",
)
@click.option(UNVERIFIED, "allow_unverified", is_flag=True, help="Also fetch files of which no digest was published.")
def fetch_(names: tuple[str, ...], recipe: str, places: tuple[str, ...], allow_unverified: bool) -> None:
    """Download the official weights of NAME into the cache folder, or verify those that are there.

    What broke off is resumed. Proxies are those of the environment (https_proxy, http_proxy, no_proxy).
    """
    from extract import recipes

    if recipe:
        names = (*names, *recipes.get(recipe).backbones)
    if not names:
        raise click.UsageError("name backbones (see `extract backbones list`), or a --recipe")
    bases = [download.base_address(place) for place in places]
    errors: list[ExtractError] = []
    for backbone in [registry.get(name) for name in dict.fromkeys(names)]:
        try:
            _fetch(backbone, bases, allow_unverified)
        except WeightsError as error:
            errors.append(error)
    if errors:  # told together, so that one host that is down does not stop the rest
        raise type(errors[0])("\n".join(map(str, errors)))


def _fetch(backbone: Backbone, bases: list[str], allow_unverified: bool) -> None:
    paths: tuple[Path, ...] = fetch(backbone, sources.OFFICIAL, allow_unverified, bases)
    for path, entry in zip(paths, backbone.weights, strict=True):
        weights = next(weights for weights in entry if weights.filename == path.name)
        click.echo(f"{backbone.name}: {path}")
        note = f"; {weights.note}" if weights.note else ""
        click.echo(f"{backbone.name}: licence {sources.licence(weights)}{note}")
    click.echo(f"{backbone.name}: {weights_id(backbone, parse_source('official'), allow_unverified)}")
