"""``extract collocate report``: tables, figures and page of a search, drawn again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("search", type=click.Path(path_type=Path))
def report(search: Path) -> None:
    """Draw the page of SEARCH again, from what lies in its folder; nothing is trained."""
    from pipelines.collocation.report.page import write_report
    from pipelines.collocation.report.words import shown

    click.echo(shown(search))
    click.echo(f"page {write_report(search)}")
