"""``extract parse evaluate``: scores of a network that was trained before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.parsing.commands.options import device, learning, make_config


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="A published checkpoint instead of a RUN.")
@click.option("--store", type=click.Path(path_type=Path), help="Features; default: those of the RUN.")
@click.option("--split", default="test", show_default=True, help="Of the store's manifest.")
@click.option("--task", type=click.Choice(["avvp", "ave"]), default="avvp", show_default=True, help="Of a checkpoint.")
@click.option("--audio", default="", help="Of a checkpoint: key or backbone.")
@click.option("--visual", default="", help="Of a checkpoint: key or backbone.")
@click.option("--clip", default="", help="Of a checkpoint: key or backbone.")
@learning
@device
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the scores as JSON, too.")
def evaluate(
    run: Path | None,
    checkpoint: Path | None,
    store: Path | None,
    split: str,
    out: Path | None,
    device: str,
    **options: Any,
) -> None:
    """Score RUN, or a published checkpoint, on a split.

    \b
    extract parse evaluate runs/han --split test --gate per_modality
    extract parse evaluate --checkpoint MMIL_Net.pt --store features/llp --clip r2plus1d_18
    """  # noqa: D301 - click's paragraph mark
    from extract.errors import PlanError
    from pipelines.parsing.judge import evaluate_checkpoint, evaluate_run
    from pipelines.parsing.page.words import shown
    from pipelines.parsing.run_folder import write_json

    if out is not None and out.exists():
        raise PlanError(f"-o {out} is there already; give another name, nothing is overwritten")
    if (run is None) == (checkpoint is None):
        raise PlanError("give the folder of a run, or --checkpoint FILE with --store")
    if run is not None:
        given = [
            name for name, value in options.items() if name not in ("gate", "task") and value not in (None, "", ())
        ]
        if given:
            name = "set" if given[0] == "settings" else given[0]
            raise PlanError(f"--{name} is for a --checkpoint; a run has its own")
        told, notes = evaluate_run(run, store=store, split=split, gate=options["gate"] or "", device=device)
    else:
        assert checkpoint is not None
        if store is None:
            raise PlanError("--checkpoint needs --store, the features to score it on")
        config = make_config(**options)
        told, notes = evaluate_checkpoint(checkpoint, config, store, split=split, device=device)
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(shown({split: told}))
    if out:
        write_json(out, {split: told})
