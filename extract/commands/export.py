"""``extract export``: a store as the files that other people's code reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click


class _WithLayouts(click.Command):
    """Its help lists the layouts, which are found when it is asked for."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from extract.store.export import layouts

        with formatter.section("Layouts"):
            formatter.write_dl(list(layouts().items()))


@click.command(cls=_WithLayouts)
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--layout", required=True, metavar="NAME", help="What shall read it; see below.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="The folder to write; default: exports/<store>-<layout>."
)
@click.option(
    "--keys", default="", help="Comma-separated backbones or full keys; default: all that the layout can use."
)
@click.option("--split", default="", help="Only clips of this split of the store's manifest.")
@click.option("--only", multiple=True, metavar="ID", help="Only this clip; may be given several times.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Where the dataset's official files are.")
@click.option("--missing", metavar="WAY", help="Clips without rows: filter (leave out), zero (write zeros), error.")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), help="Of the numbers.")
@click.option("--l2-normalize/--no-l2-normalize", default=None, help="Divide every row by its length.")
@click.option("--shard-clips", type=click.IntRange(min=1), help="Clips per file.")
def export(
    store: Path, layout: str, out: Path | None, keys: str, split: str, only: tuple[str, ...], **options: Any
) -> None:
    """Write STORE as files that official and popular code reads. Give it again to go on after an interruption.

    OUT must be new or empty: nothing is overwritten. Options that a layout does not take are refused; without an option
    the layout does what its code expects. OUT/missing.csv lists what could not be written, and why.
    """
    from extract import api
    from extract.store.export.run import MISSING, read_missing

    out = out or Path("exports") / f"{store.resolve().name}-{layout}"
    given = {name: value for name, value in options.items() if value is not None}
    names = [name for name in keys.split(",") if name]
    done = api.export(store, layout, out, keys=names, split=split, only=only, **given)
    kept = f", {done.kept:,} were there already" if done.kept else ""
    click.echo(f"{out}: {done.files:,} files written, {done.size_bytes / 1e6:,.1f} MB{kept}")
    for note in done.notes:
        click.echo(f"note: {note}")
    if missing := read_missing(out):
        click.echo(f"{len({clip for clip, *_ in missing}):,} clips lack something; {out / MISSING} says what and why:")
        for (key, reason), count in sorted(Counter((key, reason) for _, key, reason, _ in missing).items()):
            click.echo(f"  {key or 'any feature'}  {reason}: {count:,}")
