"""``extract compare``: do the features of two stores match."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from extract.store.compare import KeyComparison

SHOWN_SECONDS = 12


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--keys",
    default="",
    help="Pairs, such as vggish=vggish@0123456789ab; default: every backbone in both.",
)
@click.option("--worst", type=click.IntRange(min=0), default=10, show_default=True, help="Clips to name, per pair.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def compare(a: Path, b: Path, keys: str, worst: int, as_json: bool) -> None:
    """Whether the features of stores A and B match, such as yours and released ones (`extract import`).

    Backbones are paired by name, clips by id, rows by window. Rows that a policy filled are left out and counted; zero
    rows have no cosine and are counted apart.
    """
    from extract import api

    found = api.compare(a, b, keys=_pairs(keys), worst=worst)
    if as_json:
        click.echo(json.dumps({**asdict(found), "a": str(found.a), "b": str(found.b)}, indent=1))
        return
    for pair in found.pairs:
        click.echo("\n".join(_lines(pair)))
    for store, alone in ((a, found.alone_a), (b, found.alone_b)):
        if alone:
            click.echo(f"only in {store}: {', '.join(alone)}")


def _pairs(text: str) -> dict[str, str] | None:
    from extract.errors import PlanError

    pairs: dict[str, str] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, _, other = item.partition("=")
        if name in pairs:
            raise PlanError(f"--keys {text!r} names {name} twice")
        pairs[name] = other or name
    return pairs or None


def _lines(pair: KeyComparison) -> list[str]:
    lines = [
        f"{pair.key_a} and {pair.key_b}",
        f"  clips    {pair.clips} compared (by {pair.matched}), {pair.only_a} only in A, {pair.only_b} only in B",
    ]
    if pair.other_counts:
        lines.append(f"           {pair.other_counts} with another number of rows: of them, rows of equal windows")
    if pair.no_window:
        lines.append(f"           {pair.no_window} more without a window in common: not compared")
    lines.append(f"  rows     {pair.rows} compared, {pair.equal} of them equal bit by bit{_share(pair)}")
    if pair.unmatched or pair.invalid:
        lines.append(
            f"           left out: {pair.invalid} that a policy filled, {pair.unmatched} of a window in one store only"
        )
    if pair.both_zero or pair.one_zero:
        where = f" ({', '.join(pair.one_zero_clips)})" if pair.one_zero_clips else ""
        lines.append(f"           without a cosine: {pair.both_zero} zero in both, {pair.one_zero} zero in one{where}")
    if pair.cosine_mean is not None and pair.cosine_p1 is not None and pair.cosine_min is not None:
        lines.append(
            f"  cosine   mean {pair.cosine_mean:.9f}, first percentile {pair.cosine_p1:.9f}, least {pair.cosine_min:.9f}"
        )
    where = f" in {pair.max_abs_clip}" if pair.max_abs_clip else ""
    lines.append(f"  largest difference {pair.max_abs:.6g}{where}")
    least = sorted(pair.segments, key=lambda each: each.cosine_mean)[:SHOWN_SECONDS]
    if least:
        of = "" if len(pair.segments) <= SHOWN_SECONDS else f" (the {SHOWN_SECONDS} least of {len(pair.segments)})"
        shown = ", ".join(
            f"{each.second} s {each.cosine_mean:.6f}" for each in sorted(least, key=lambda each: each.second)
        )
        lines.append(f"  by second{of}: {shown}")
    for each in pair.worst:
        other = "" if each.clip_a == each.clip_b else f" = {each.clip_b}"
        lines.append(
            f"  worst    {each.clip_a}{other}: cosine {each.cosine:.9f} at {each.second} s, differs by {each.max_abs:.6g}"
        )
    return lines


def _share(pair: KeyComparison) -> str:
    return f" ({100 * pair.equal / pair.rows:.2f} %)" if pair.rows else ""
