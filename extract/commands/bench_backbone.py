"""``extract backbones bench``."""

from __future__ import annotations

import click

from backbones.sources import parse_source


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--weights", default="random:0", show_default=True, help="Speed does not depend on them.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
)
@click.option("--batches", default="", help="Comma-separated; default: powers of two until they no longer pay.")
@click.option("--threads", type=click.IntRange(min=1), default=None, help="Per operator on a CPU; default: all cores.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="The best one counts.")
@click.option("--compile", "compile_it", is_flag=True, help="Also time the compiled network at the best batch.")
@click.option(
    "--keep/--no-keep", default=True, show_default=True, help="Remember the best batch for runs on this machine."
)
def bench(names: tuple[str, ...], weights: str, batches: str, threads: int | None, **options: object) -> None:
    """Milliseconds and multiply-adds per second of NAME by batch size, and the plain forward of its library for comparison."""
    import torch

    from extract.bench import networks
    from extract.engine.cores import threads_per_lane
    from extract.errors import PlanError

    words = [word.strip() for word in batches.split(",") if word.strip()]
    if not all(word.isdigit() and int(word) for word in words):
        raise PlanError(f"--batches {batches!r} must be whole numbers >= 1 with commas between them, such as 1,4,16")
    torch.set_num_threads(threads or threads_per_lane(["cpu"]))
    for name in names:
        sizes = tuple(int(word) for word in words)
        for line in networks.lines(name, parse_source(weights), batches=sizes, **options):  # type: ignore[arg-type]
            click.echo(line)
