"""``extract retry``: compute again what failed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from extract.commands import options as opts


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--reason", "reasons", multiple=True, help="Only failures (and masked rows) of this reason; may be repeated."
)
@click.option("--clip", "clips", multiple=True, help="Only this clip id; may be repeated.")
@opts.using
@click.option("--max-failures", type=click.IntRange(min=0), default=0, show_default=True)
def retry(store: Path, reasons: tuple[str, ...], clips: tuple[str, ...], max_failures: int, **options: Any) -> None:
    """Forget STORE's failures (those of --reason) and run its last job again: manifest, recipe and weights are remembered."""
    from extract import api
    from extract.commands.run import carry_out

    manifest, choices = api.remembered(store)
    job = api.plan(manifest, choices, store)
    forgotten = api.forget(store, reasons, clips)
    click.echo(f"{forgotten} remark(s) forgotten", err=True)
    sys.exit(carry_out(job, opts.machine(options), max_failures))
