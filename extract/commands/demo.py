"""``extract demo``: make a labelled set of clips here and now, and say what to do with it."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--clips", type=click.IntRange(1, 1_000_000), default=8, show_default=True, help="How many.")
@click.option("--seconds", type=click.IntRange(2, 3600), default=10, show_default=True, help="Length of each.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="demo", show_default=True, help="Folder of the clips."
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    default="manifests/demo.csv",
    show_default=True,
    help="The manifest to write; per-second labels go to <stem>.dense.csv beside it.",
)
@click.option("--seed", type=click.IntRange(0, 35), default=0, show_default=True, help="Another seed, other clips.")
def demo(clips: int, seconds: int, output: Path, manifest: Path, seed: int) -> None:
    """Make a small labelled set of clips: no download, no GPU.

    Clips are H.264 + AAC with classes named after LLP's. Some things are heard off screen, some are seen and silent.
    """
    from extract.demo import make_demo
    from manifests.clip import shell_word

    made = make_demo(output, manifest, clips=clips, seconds=seconds, seed=seed, progress=sys.stderr.isatty())
    splits = ", ".join(f"{name} {made.splits[name]}" for name in ("train", "val", "test") if name in made.splits)
    click.echo(
        f"made {clips} clip{'s' if clips > 1 else ''} of {seconds} s ({splits}) in {made.folder}: 320x240, 30 fps, H.264 "
        f"+ AAC 44.1 kHz stereo, {made.size_bytes / 1e6:.1f} MB\n"
        f"manifest {made.manifest}\n"
        f"per-second labels {made.dense}: {made.events} events; sound and picture disagree in {made.disagreeing} of "
        f"{clips} clips\n\n"
        f"next: extract run {shell_word(made.manifest)} --weights random:0\n\n"
        "Random weights show that everything works; the features they give have NO MEANING. For real features use the\n"
        "official weights: `extract backbones fetch NAME` downloads them once (`extract backbones list` shows the "
        "names),\nor put the published files into a folder; then run with --weights official, or --weights DIR."
    )
