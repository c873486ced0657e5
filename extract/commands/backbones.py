"""``extract backbones list|show|fetch|check``."""

from __future__ import annotations

import textwrap

import click

from backbones import download, registry
from backbones.spec import Backbone, Frames, View
from backbones.weights import UNVERIFIED, cached, fetch, parse_source, weights_id


@click.group()
def backbones() -> None:
    """The zoo: what can be computed, and the weights for it."""


@backbones.command(name="list")
def list_() -> None:
    """One line per backbone; `weights` says whether official files are on this machine."""
    head = ("name", "modality", "dims", "params", "GMAC", "licence", "input", "weights")
    rows = [head, *(_row(registry.get(name)) for name in registry.names())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@backbones.command()
@click.argument("name")
def show(name: str) -> None:
    """Everything declared about NAME: input, output, weights, licences."""
    backbone = registry.get(name)
    click.echo(f"{backbone.name}: {backbone.modality}, row {_dims(backbone)}, {backbone.note or 'no note'}")
    for label, text in (
        ("paper", backbone.paper),
        ("size", f"{backbone.params:,} parameters, {backbone.gmacs:g} GMAC per row, {backbone.batch} rows per forward"),
        ("window", f"{backbone.window_s:g} s"),
        *(("input", f"{_input(view)}; {view}") for view in backbone.views),
    ):
        click.echo(textwrap.fill(text, 110, initial_indent=f"  {label:8}", subsequent_indent=" " * 10))
    if not backbone.weights:
        click.echo("  weights none were published; runs with --weights random:SEED only")
    for entry in backbone.weights:
        for place, weights in enumerate(entry):
            digest = f"sha256 {weights.sha256}" if weights.sha256 else f"no published digest: {UNVERIFIED}"
            click.echo(f"  {'or' if place else 'weights':8}{weights.filename} ({digest}; {weights.licence})")
            for address in (weights.uri, *weights.mirrors, *filter(None, (weights.note,))):
                click.echo(f"{'':10}{address}")
    click.echo(f"  cache   {download.cache_folder()}: {'complete' if cached(backbone) else 'not complete'}")


@backbones.command(name="fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(UNVERIFIED, "allow_unverified", is_flag=True, help="Also fetch files of which no digest was published.")
def fetch_(names: tuple[str, ...], allow_unverified: bool) -> None:
    """Download the official weights of NAME into the cache folder, or verify those that are there."""
    source = parse_source("official")
    for backbone in [registry.get(name) for name in names]:
        for path in fetch(backbone, source, allow_unverified):
            click.echo(f"{backbone.name}: {path}")
        click.echo(f"{backbone.name}: {weights_id(backbone, source, allow_unverified)}")


@backbones.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--weights", default="official", show_default=True, metavar="official|DIR|random:SEED")
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), help="Rows per forward; default: the backbone's own.")
@click.option(UNVERIFIED, "allow_unverified", is_flag=True, help="Use weight files that cannot be verified.")
@click.pass_context
def check(
    context: click.Context, names: tuple[str, ...], weights: str, device: str, batch: int | None, allow_unverified: bool
) -> None:
    """Run NAME on made-up input: shape, determinism, independence of neighbours, known answers. Exit code 1 if one fails."""
    from backbones import testing

    source = parse_source(weights)
    words = {True: "ok", False: "FAILED", None: "not run"}
    failed = False
    for backbone in [registry.get(name) for name in names]:
        for result in testing.check(backbone.name, source, device, batch, allow_unverified):
            click.echo(f"{backbone.name}: {result.name:14}{words[result.passed]:8}{result.detail}")
            failed |= result.passed is False
    context.exit(1 if failed else 0)


def _row(backbone: Backbone) -> tuple[str, ...]:
    licences = dict.fromkeys(weights.licence for entry in backbone.weights for weights in entry)
    return (
        backbone.name,
        backbone.modality,
        _dims(backbone),
        f"{backbone.params / 1e6:.1f} M",
        f"{backbone.gmacs:.2f}",
        " + ".join(licences) or "-",
        " + ".join(_input(view) for view in backbone.views),
        ("here" if cached(backbone) else "fetch") if backbone.weights else "random",
    )


def _dims(backbone: Backbone) -> str:
    return "x".join(str(size) for size in backbone.dims)


def _input(view: View) -> str:
    if isinstance(view, Frames):
        height, width = view.height_width
        return f"{view.count} x {height}x{width} RGB"
    shape = "" if view.spectrogram is None else f", {'x'.join(str(size) for size in view.input_shape)} spectrogram"
    return f"{view.samples / view.rate_hz:g} s at {view.rate_hz / 1000:g} kHz{shape}"
