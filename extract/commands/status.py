"""``extract status``: how a store stands."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

SHOWN = 10


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--failed", "show_failed", is_flag=True, help="Also every failure with its message.")
def status(store: Path, as_json: bool, show_failed: bool) -> None:
    """How STORE stands: coverage by backbone, failures and masked clips by reason."""
    from extract import api, explain
    from extract.store.catalog import Store

    found = api.status(store)
    failures = Store(store, strict=False).failed()
    if as_json:
        told = {**asdict(found), "store": str(found.store)}
        click.echo(
            json.dumps(told | ({"failures": [asdict(each) for each in failures]} if show_failed else {}), indent=1)
        )
        return
    clips = "?" if found.clips is None else str(found.clips)
    click.echo(
        f"{store}: {found.size_bytes / 1e6:.1f} MB, {found.runs} run(s), {clips} clips in the manifest of the last"
    )
    if found.running:
        who = found.running
        click.echo(f"a run holds it: process {who.get('pid')} on {who.get('host')} since {who.get('started')}")
    rows = [("backbone", "rows of", "masked", "failed")]
    rows += [
        (key, f"{n['rows']} of {clips} clips", str(n["masked"]), str(n["failed"])) for key, n in found.keys.items()
    ]
    click.echo("\n".join(explain.table(rows)))
    for reason, count in found.reasons.items():
        click.echo(
            f"failed {reason}: {count} clip(s): {_some({each.clip_id for each in failures if each.reason == reason})}"
        )
    for reason, count in found.masked_reasons.items():
        click.echo(f"masked {reason}: {count} clip(s)")
    for problem in found.damaged:
        click.echo(f"damaged: {problem}")
    if show_failed:
        for remark in failures:
            click.echo(f"{remark.clip_id}\t{remark.key}\t{remark.reason}\t{remark.message}")


def _some(clips: set[str]) -> str:
    """The first of them, for a start."""
    more = f" and {len(clips) - SHOWN} more (--failed lists all)" if len(clips) > SHOWN else ""
    return ", ".join(sorted(clips)[:SHOWN]) + more
