"""``extract parse train``: from a store to a trained parser with scores."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipelines.parsing.commands.options import device, features, learning, make_config


@click.command()
@features
@learning
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights, order and dropout.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, help="Train so many, from --seed on; mean and std are shown."
)
@device
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the run; given again, it goes on."
)
def train(store: Path, seeds: int, out: Path, device: str, **options: Any) -> None:
    """Train a parser on STORE's training split, choose the epoch on its validation split, score both that and its test split.

    The settings are those the model was published with, unless given. Equal commands give equal bits on the CPU of one
    machine. Ctrl-C stops after the epoch (with --seeds: at once); the same command goes on.
    """
    from pipelines.parsing import run as running
    from pipelines.parsing.page.told import read_run
    from pipelines.parsing.page.words import over_seeds, shown
    from pipelines.parsing.page.write import write_page
    from pipelines.parsing.run_folder import seed_folders

    config = make_config(**options)
    if seeds > 1:
        told = running.run_seeds(config, store, out, seeds, device=device, on_epoch=_say)
        click.echo(over_seeds(told))
        for each in seed_folders(out):
            write_page(each, read_run(each))
        click.echo(f"page {write_page(out, read_run(out))}")
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number) if not asked else sys.exit(130))
    try:
        ran = running.run(config, store, out, device=device, on_epoch=_say, stopping=lambda: bool(asked))
    finally:
        signal.signal(signal.SIGINT, before)
    for note in ran.notes:
        click.echo(f"note: {note}")
    click.echo(shown(ran.scores))
    if not ran.finished:
        click.echo(f"stopped after epoch {ran.epochs - 1} of {config.epochs}; the same command goes on")
    click.echo(f"page {write_page(out, read_run(out))}")


def _say(row: Mapping[str, Any]) -> None:
    """One line per epoch on a terminal's standard error."""
    if sys.stderr.isatty():
        judged = next(
            (f"  {name} {row[name]:.2f}" for name in row if name.endswith(("_segment_type", "_accuracy"))), ""
        )
        click.echo(f"epoch {row['epoch']:>3}  {row['kind']:<8}  loss {row['loss']:.4f}{judged}", err=True)
