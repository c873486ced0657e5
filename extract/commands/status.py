"""``extract status``: how a store stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from extract.status import Status


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For programs; see extract.status.as_json.")
@click.option("--failed", "show_failed", is_flag=True, help="Also every failure with its message.")
def status(store: Path, as_json: bool, show_failed: bool) -> None:
    """How STORE stands: coverage by backbone and split, failures and masked clips by reason."""
    from extract import api
    from extract import status as standing
    from extract.store.catalog import Catalog

    found = api.status(store)
    failures = Catalog(store, strict=False).failed() if show_failed else None
    if as_json:
        click.echo(json.dumps(standing.as_json(found, failures), indent=1))
        return
    click.echo("\n".join(_lines(found)))
    for remark in failures or ():
        click.echo(f"{remark.clip_id}\t{remark.key}\t{remark.reason}\t{remark.message}")


def _lines(found: Status) -> list[str]:
    from extract import explain

    clips = "?" if found.clips is None else str(found.clips)
    size = f"{found.size_bytes / 1e6:.1f} MB in {found.parts} part(s)"
    lines = [f"{found.store}: {size}, {found.runs} run(s), {clips} clips in the manifest of the last"]
    if found.running:
        who = found.running
        lines.append(f"a run holds it: process {who.get('pid')} on {who.get('host')} since {who.get('started')}")
    rows = [("backbone", "rows of", "masked", "failed")]
    rows += [
        (key, f"{n['rows']} of {clips} clips", str(n["masked"]), str(n["failed"])) for key, n in found.keys.items()
    ]
    lines += explain.table(rows)
    for name, split in found.splits.items() if any(found.splits) else ():
        counts = ", ".join(f"{key} {count}" for key, count in split.rows.items())
        lines.append(f"{name or 'no split'}: {split.clips} clips, with rows of {counts or 'nothing'}")
    for reason, count in found.reasons.items():
        shown = found.examples[reason]
        more = f" and {count - len(shown)} more (--failed lists all)" if count > len(shown) else ""
        lines.append(f"failed {reason}: {count} clip(s): {', '.join(shown)}{more}")
    lines += [f"masked {reason}: {count} clip(s)" for reason, count in found.masked_reasons.items()]
    lines += [f"damaged: {problem}" for problem in found.damaged]
    return lines
