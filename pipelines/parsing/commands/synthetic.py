"""``extract parse synthetic``: a store of generated features with labels, to try parsers on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@click.option("--task", type=click.Choice(["avvp", "ave"]), default="avvp", show_default=True)
@click.option("--clips", type=click.IntRange(3, 1_000_000), default=2000, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other clips.")
@click.option("--audio", default="", help="Comma-separated backbones to imitate; default: vggish.")
@click.option("--visual", default="", help="Comma-separated; default: resnet152, for ave vgg19_ave.")
@click.option("--clip", help="A clip-level backbone; '' for none. Default: r2plus1d_18 for avvp.")
@click.option("--strength", type=float, help="How plainly features show their classes; default: learnable, not easy.")
@click.option(
    "--rows-per-second", type=click.IntRange(1, 8), default=8, show_default=True,
    help="Of image networks (avvp): 8 as in the official features; 1 is smaller.",
)  # fmt: skip
def synthetic(out: Path, audio: str, visual: str, **options: Any) -> None:
    """Make a store in the form of LLP or AVE: clips that were never filmed, whose sound and picture do not always agree.

    Its keys say that they are synthetic. A parser trained on it shows that training works, and nothing about real clips.
    """
    from pipelines.parsing.synthetic.make import make_synthetic

    made = make_synthetic(
        out, **options, audio=_names(audio), visual=_names(visual), on_clip=_tell if sys.stderr.isatty() else _silent
    )
    splits = ", ".join(f"{name} {count:,}" for name, count in made.splits.items())
    click.echo(f"{made.store}: {sum(made.splits.values()):,} clips ({splits}), {made.events:,} labels with times")
    for slot, keys in made.keys.items():
        click.echo(f"  {slot:<6}  {', '.join(keys)}")
    ask = " ".join(f"--{slot} {keys[0].partition('@')[0]}" for slot, keys in made.keys.items() if keys)
    click.echo(f"next: extract parse train --store {out} --task {options['task']} {ask} -o runs/{out.name}")


def _names(text: str) -> tuple[str, ...] | None:
    return tuple(name for name in text.split(",") if name) or None


def _tell(done: int, clips: int) -> None:
    click.echo(f"\r{done:,} of {clips:,} clips", nl=done == clips, err=True)


def _silent(done: int, clips: int) -> None:
    """Nothing: no terminal reads it."""
