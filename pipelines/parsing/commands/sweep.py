"""``extract parse sweep``: a run for every combination of some settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.parsing.commands.options import device, features, learning, make_config, read_settings


@click.command()
@features
@learning
@click.option(
    "--grid", multiple=True, required=True, metavar="NAME=V1,V2", help="Values of a setting; may be repeated."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Of every combination.")
@device
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs; given again, it goes on."
)
def sweep(store: Path, grid: tuple[str, ...], seeds: int, out: Path, device: str, **options: Any) -> None:
    """Train with every combination of the GRID's values; the validation split ranks them.

    \b
    extract parse sweep --store features/llp --grid lr=1e-4,3e-4 --grid heads=1,2 --seeds 3 -o runs/sweep
    """  # noqa: D301 - click's paragraph mark
    from pipelines.parsing import sweep as sweeping

    values = {name: tuple(text.split(",")) for name, text in read_settings(grid, "--grid").items()}
    told = sweeping.sweep(make_config(**options), store, out, values, seeds=seeds, device=device, on_run=click.echo)
    click.echo(sweeping.ranked(told))
    click.echo(f"table {out / sweeping.TABLE}")
