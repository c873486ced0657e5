"""``extract report``: one page about a store that a person reads at a glance."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=None, help="The page; default: <store>-report.html here."
)
@click.option("--clips", default="", help="Comma-separated clip ids for the contact sheets; default: a few are chosen.")
@click.option("--map", "method", default="pca", show_default=True, help="pca, or umap where umap-learn is installed.")
@click.option("--videos", default="", help="Folder the manifest's paths count from; default: the one of the last run.")
@click.option("--verify", is_flag=True, help="Read and check all of the store as well, and say what is wrong.")
def report(store: Path, out: Path | None, clips: str, method: str, videos: str, verify: bool) -> None:
    """Write one self-contained page about STORE: coverage, failures, maps, contact sheets, time, provenance."""
    from extract import api
    from extract.report.words import in_bytes

    chosen = tuple(name.strip() for name in clips.split(",") if name.strip())
    done = api.report(store, out, clips=chosen, method=method, videos=videos, verify=verify)
    click.echo(f"{done.verdict}\n{done.path}: {in_bytes(done.size_bytes)}, open it in a browser; it needs no network")
