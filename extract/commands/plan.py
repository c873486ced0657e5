"""``extract plan``: what a run would compute, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from extract.commands import options as opts


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@opts.choosing
@opts.bounding
@opts.out
def plan(manifest: Path, out: Path | None, **options: Any) -> None:
    """Show what running MANIFEST would compute: clips, views, backbones, bytes, work. Nothing is computed."""
    from extract import api, explain

    job = api.plan(manifest, opts.choices(options), out)
    click.echo(explain.job(job))
