"""``extract verify``: is everything in the store what it says it is."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from extract.store.finding import Finding

SHOWN = 20


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--deep",
    is_flag=True,
    help="Also whether it is plausible: constant rows, rows beside their grid, keys the zoo does not know, remarks, labels.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 also where something is only suspect.")
@click.option(
    "--json", "as_json", is_flag=True, help="Every finding as a line of JSON: level, part, key, clip, problem."
)
def verify(store: Path, deep: bool, strict: bool, as_json: bool) -> None:
    """Read every byte of STORE: seals, schema, spans, checksums, identities, values. Exit code 1 where something is damaged.

    \b
    damage    something is wrong or lost: delete the named part and run again
    index     the index file is wrong; it is only a cache: delete it
    suspect   nothing contradicts itself, but it looks wrong
    leftover  of a command that was killed; the next run tidies it up
    old       a part without a seal, of an older version: `extract store convert`
    note      good to know
    """  # noqa: D301 - click's paragraph mark
    from tqdm import tqdm

    from extract import api
    from extract.store import Store

    with tqdm(unit="part", disable=None, leave=False) as bar:

        def show(done: int, parts: int) -> None:
            bar.total = parts
            bar.update(done - bar.n)

        findings = api.verify(store, deep=deep, on_part=show)
    bad = [finding for finding in findings if finding.bad]
    suspect = sum(finding.level == "suspect" for finding in findings)
    if as_json:
        for finding in findings:
            click.echo(json.dumps(asdict(finding), ensure_ascii=False))
    else:
        for line in _lines(findings):
            click.echo(line)
        if damaged := sum(finding.level == "damage" for finding in bad):
            click.echo(f"{damaged} damage(s); delete the named part and run again to compute it anew")
        elif not bad:
            but = f", {suspect} suspect(s)" if suspect else ""
            click.echo(f"sound{but}; content digest {Store(store).digest()}")
    if bad or (strict and suspect):
        sys.exit(1)


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    """A line each, but of what is neither damage nor index only the first of each level and key."""
    shown: dict[tuple[str, str], int] = defaultdict(int)
    for finding in findings:
        kind = (finding.level, finding.key)
        shown[kind] += 1
        if finding.bad or shown[kind] <= SHOWN:
            where = " ".join(each for each in (finding.part, finding.key, finding.clip) if each)
            yield f"{finding.level}: {where}: {finding.problem}"
    for (level, key), count in shown.items():
        if level not in ("damage", "index") and count > SHOWN:
            yield f"{level}: {key or 'parts'}: {count - SHOWN} more like these; --json lists all"
