"""``extract verify``: is everything in the store what it says it is."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
def verify(store: Path) -> None:
    """Read all of STORE: schema, spans, checksums, identities, values. Exit code 1 where something is damaged."""
    from extract import api
    from extract.store.catalog import Store

    findings = api.verify(store)
    for finding in findings:
        where = " ".join(part for part in (finding.part, finding.key, finding.clip) if part)
        click.echo(f"{finding.level}: {where}: {finding.problem}")
    damaged = sum(finding.level == "damage" for finding in findings)
    if damaged:
        click.echo(f"{damaged} damage(s); delete the named part and run again to compute it anew")
        sys.exit(1)
    click.echo(f"sound; content digest {Store(store).digest()}")
