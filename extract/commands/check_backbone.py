"""``extract backbones check``."""

from __future__ import annotations

import gc
import sys

import click

from backbones import registry
from backbones.sources import Source
from backbones.weights import UNVERIFIED, parse_source
from extract.errors import ExtractError, PlanError, WeightsMissing

_WORDS = {True: "ok", False: "FAILED", None: "not run"}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every backbone; those that lack their weights are not run.")
@click.option("--weights", default="official", show_default=True, metavar="official|DIR|random:SEED")
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), help="Rows per forward; default: the backbone's own.")
@click.option(UNVERIFIED, "allow_unverified", is_flag=True, help="Use weight files that cannot be verified.")
@click.option(
    "--reference",
    is_flag=False,
    flag_value=sys.executable,
    metavar="[PYTHON]",
    help="openl3_… only: beside the original openl3 instead, with its weights, run by this Python; write it after the names.",
)
@click.option("--file", "media", metavar="MEDIA", help="With --reference: on this file rather than on made-up input.")
@click.pass_context
def check(
    context: click.Context,
    names: tuple[str, ...],
    everything: bool,
    weights: str,
    device: str,
    batch: int | None,
    allow_unverified: bool,
    reference: str | None,
    media: str | None,
) -> None:
    """Run NAME on made-up input: shape, determinism, independence of neighbours, known answers. Exit code 1 if one fails."""
    if bool(names) == everything:
        raise click.UsageError("name backbones (see `extract backbones list`), or give --all")
    if media and not reference:
        raise click.UsageError("--file is what --reference compares on")
    source = parse_source(weights)
    failed = [
        name
        for name in [registry.get(name).name for name in names or registry.names()]
        if not _check(name, source, device, batch, allow_unverified, everything, reference, media)
    ]
    if len(names) != 1:
        click.echo(f"failed: {', '.join(failed)}" if failed else "none failed")
    context.exit(1 if failed else 0)


def _check(
    name: str,
    source: Source,
    device: str,
    batch: int | None,
    allow_unverified: bool,
    everything: bool,
    reference: str | None,
    media: str | None,
) -> bool:
    """Whether nothing failed; with `everything`, what cannot be run is no reason to stop."""
    from backbones import testing
    from extract.reference import compare

    try:
        results = (
            compare(name, reference, media)
            if reference
            else testing.check(name, source, device, batch, allow_unverified)
        )
    except ExtractError as error:
        if not everything:
            raise
        # a network without its weights, or without its library, is nobody's mistake
        absent = isinstance(error, WeightsMissing | PlanError)
        first = str(error).split("\n", maxsplit=1)[0]
        click.echo(f"{name}: {'not run' if absent else 'FAILED':8}{first}")
        return absent
    finally:
        gc.collect()  # a network that holds itself would wait in memory beside the next
    for result in results:
        click.echo(f"{name}: {result.name:14}{_WORDS[result.passed]:8}{result.detail}")
    return all(result.passed is not False for result in results)
