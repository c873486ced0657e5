"""``extract bench``: each stage against its floor, on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from extract.commands import options as opts


@click.command()
@click.option(
    "--clip", type=click.Path(path_type=Path), default=None, help="A ten-second clip; default: one made here."
)
@click.option("--recipe", default="llp", show_default=True)
@click.option("--backbones", default="", help="Comma-separated; default: those of the recipe.")
@click.option("--weights", default="random:0", show_default=True, help="Speed does not depend on them.")
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=None)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="The best one counts.")
def bench(clip: Path | None, recipe: str, backbones: str, weights: str, **options: Any) -> None:
    """Time decoding, preparing, every network and sealing against their floors, one after the other in this process."""
    from extract import recipes
    from extract.bench import report

    names = tuple(name.strip() for name in backbones.split(",") if name.strip())
    plan = recipes.make_plan(recipes.get(recipe), backbones=names, weights=weights, precision=options["precision"])
    device = opts.devices(options["device"], 1, "local")[0]
    with tempfile.TemporaryDirectory(prefix="extract-bench-") as folder:
        path = clip or report.made_clip(Path(folder))
        for line in report.lines(str(path), plan, weights, device, options["batch"], options["repeats"], Path(folder)):
            click.echo(line)
