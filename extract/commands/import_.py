"""``extract import``: features released by others, brought into a store."""

from __future__ import annotations

import sys
from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command("import")
@click.argument("folder", type=FILE)
@click.option("--layout", type=click.Choice(["llp", "ave"]), required=True, help="How the released files lie.")
@click.option("--manifest", type=FILE, help="Its clips, under its ids. Default: all that is found.")
@click.option("--name", default="official", show_default=True, help="Of the release; part of the features' keys.")
@click.option("-o", "--out", type=FILE, default=None, help="The store, new or not; default: features/<layout>-<name>.")
def import_(folder: Path, layout: str, manifest: Path | None, name: str, out: Path | None) -> None:
    """Bring the released features in FOLDER into a store, marked as imported: how they were computed is unknown.

    \b
    llp  feats/{vggish,res152,r2plus1d_18}/<id>.npy
    ave  audio_feature.h5, visual_feature.h5 and Annotations.txt

    Given again, it adds what is missing; what is there is compared and never overwritten. Exit code 1: some files are
    broken (`extract status` names them), all others were imported.
    """  # noqa: D301 - click's paragraph mark
    from tqdm import tqdm

    from extract import api, explain

    with tqdm(unit="clip", disable=None, leave=False) as bar:

        def show(done: int, clips: int) -> None:
            bar.total = clips
            bar.update(done - bar.n)

        found = api.import_features(folder, layout, out, name=name, manifest=manifest, on_clip=show)
    rows = [("feature", "added", "there already", "broken", "not in the release")]
    rows += [(key, str(n.added), str(n.kept), str(n.failed), str(n.absent)) for key, n in found.keys.items()]
    click.echo(f"{found.store}: {found.clips} clips, imported, provenance unknown")
    click.echo("\n".join(explain.table(rows)))
    for note in found.notes:
        click.echo(f"  {note}")
    failed = sum(n.failed for n in found.keys.values())
    if failed:
        click.echo(f"{failed} broken; `extract status {found.store} --failed` says which and why")
        sys.exit(1)
    click.echo(f"next: extract compare YOUR_STORE {found.store}")
