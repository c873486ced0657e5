"""``extract retry``: compute again what failed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from extract.commands import options as opts

CHANGES = ("videos", "missing_audio", "max_pixels", "max_seconds", "max_frames")


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--reason", "reasons", multiple=True, help="Only failures (and masked rows) of this reason; may be repeated."
)
@click.option("--clip", "clips", multiple=True, help="Only this clip id; may be repeated.")
@opts.bounding
@opts.using
@click.option("--max-failures", type=click.IntRange(min=0), default=0, show_default=True)
@click.pass_context
def retry(
    ctx: click.Context,
    /,
    store: Path,
    reasons: tuple[str, ...],
    clips: tuple[str, ...],
    max_failures: int,
    **options: Any,
) -> None:
    """Forget STORE's failures (those of --reason) and compute them again, nothing else.

    Manifest, recipe, weights and the size of chunks are remembered from the run that computed them, and so is what the
    options on clips do not change. Failures are tried for every feature; rows that a policy filled, only with --reason.
    """
    from extract import api
    from extract.commands.run import carry_out

    given = {name: options.pop(name) for name in CHANGES}
    changes = {
        name: value for name, value in given.items() if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if changes.get("videos"):
        changes["videos"] = str(Path(changes["videos"]).absolute())
    jobs = api.again(store, reasons, clips, changes)
    machine = opts.machine(options)
    if not jobs:
        click.echo(f"nothing in {store} failed{' like that' if reasons or clips else ''}: there is nothing to retry")
    codes = []
    for again in jobs:
        click.echo(f"{api.forget(again)} remark(s) forgotten; if this is interrupted, `extract run` goes on", err=True)
        chosen = ctx.get_parameter_source("chunk") is not ParameterSource.DEFAULT
        codes.append(carry_out(again.job, machine if chosen else replace(machine, chunk=again.chunk), max_failures))
        if codes[-1] == 130:
            break
    sys.exit(max(codes, default=0))
