"""``extract parse report``: the page of a run, drawn again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--every-clip", is_flag=True, help="Draw the timeline of every test clip, not only of those on the page.")
def report(run: Path, every_clip: bool) -> None:
    """Draw the page of RUN again, from what lies in its folder; nothing is trained."""
    from pipelines.parsing.page.told import read_run
    from pipelines.parsing.page.write import write_page

    click.echo(f"page {write_page(run, read_run(run), every=every_clip)}")
