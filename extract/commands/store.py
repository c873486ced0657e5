"""``extract store``: pack, merge, split, remove from, convert and view stores."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from extract.store.operations.conflicts import Conflict
    from extract.store.operations.remove import Removal

_UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SHOWN = 10
STORE = click.argument("store", type=click.Path(path_type=Path))
OUT = click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Where the result goes.")


@click.group()
def store() -> None:
    """Pack, merge, split, convert or view a store; remove from it.

    Whatever is interrupted is finished by giving the same command again.
    """


def _size_bytes(ctx: click.Context, param: click.Parameter, text: str) -> int:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kmg]i?b|)", text.strip().lower())
    if found is None or float(found[1]) * _UNITS[found[2]] < 1:
        raise click.BadParameter(f"{text!r} is no size: write bytes, or a number with KiB, MiB, GiB, KB, MB or GB")
    return int(float(found[1]) * _UNITS[found[2]])


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    from tqdm import tqdm

    with tqdm(desc=what, unit="part", disable=None, leave=False) as bar:

        def show(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield show


@store.command()
@STORE
@click.option("--part-bytes", callback=_size_bytes, default="1GiB", show_default=True, help="Rows per part, at most.")
@click.option("--compression", help="none, gzip or gzip:1 to gzip:9; default: parts keep theirs.")
def pack(store: Path, part_bytes: int, compression: str | None) -> None:
    """Rewrite the many small parts of STORE as few large ones, in the order of its manifest.

    Parts that hold half of --part-bytes stay. Needs the space of one large part. Views must be made again afterwards.
    """
    from extract.store.operations.pack import pack as carry_out

    with _progress("packing") as show:
        done = carry_out(store, part_bytes, compression, show)
    click.echo(
        f"{store}: {done.before} parts before, {done.after} now; {done.written} written ({_mb(done.size_bytes)})"
    )
    if done.pieces:
        click.echo(f"{done.pieces} piece(s) of unfinished chunks stayed: `extract run` finishes them")


@store.command()
@click.argument("stores", type=click.Path(path_type=Path), nargs=-1, required=True)
@OUT
@click.option("--prefer", type=click.Path(path_type=Path), help="One of STORES: where rows differ, its rows are taken.")
def merge(stores: tuple[Path, ...], out: Path, prefer: Path | None) -> None:
    """Merge STORES, such as those of several machines, into a new one.

    Equal rows are kept once. Rows win over failures, the newest failure over older ones. Where rows differ nothing is
    written: every difference is listed, and the exit code is 1.
    """
    from extract.store.operations.union import merge_stores, plan_merge

    merging = plan_merge(stores, prefer)
    if merging.overlap.conflicts:
        for conflict in merging.open_conflicts():
            click.echo(_told(conflict))
        click.echo(
            f"{merging.overlap.conflicts} conflict(s), nothing was written: say which store is right with --prefer, or remove "
            "the wrong rows with `extract store rm`",
            err=True,
        )
        sys.exit(1)
    for conflict in merging.decided_conflicts():
        click.echo(f"preferred the first: {_told(conflict)}")
    with _progress("merging") as show:
        done = merge_stores(merging, out, show)
    click.echo(f"{out}: {'complete already' if done.complete else 'merged'}, {done.parts} parts")
    click.echo(f"{done.equal} times equal rows in several stores, kept once")
    if prefer is not None:
        click.echo(f"{done.preferred} times different rows, taken from {prefer}")
    if done.listed_differently:
        click.echo(f"listed differently by two manifests, the first kept: {_some(done.listed_differently)}")


@store.command()
@STORE
@OUT
@click.option("--by", type=click.Choice(["split"]), help="One store per split of the manifest.")
@click.option("--shards", type=int, help="So many stores of equal size, in the order of the manifest.")
@click.option(
    "--ids", type=click.Path(path_type=Path), help="A file with one clip id per line; all others go to `rest`."
)
def split(store: Path, out: Path, by: str | None, shards: int | None, ids: Path | None) -> None:
    """Make several stores of STORE in the folder given with -o; merged again they have its content."""
    from extract.store import Store
    from extract.store.operations import split as splitting

    if sum(given is not None for given in (by, shards, ids)) != 1:
        raise click.UsageError("say how to split: one of --by split, --shards N and --ids FILE")
    opened = Store(store)
    if shards is not None:
        portions = splitting.by_shards(opened, shards)
    elif ids is not None:
        portions = splitting.by_ids(opened, _lines(ids), ids.stem)
    else:
        portions = splitting.by_split(opened)
    with _progress("splitting") as show:
        made = splitting.split(opened, portions, out, lambda name, done, of: show(done, of))
    for portion in made:
        click.echo(f"{portion.store}: {portion.clips} clips")


@store.command()
@STORE
@click.option("--key", "keys", multiple=True, help="A feature, in full or by its backbone; may be repeated.")
@click.option("--clip", "clips", multiple=True, help="A clip id; may be repeated.")
@click.option("--failed", "reasons", multiple=True, metavar="REASON", help="Failures, so that they are tried again.")
@click.option("--yes", is_flag=True, help="Do it; without it, only what would go is shown.")
def rm(store: Path, keys: tuple[str, ...], clips: tuple[str, ...], reasons: tuple[str, ...], yes: bool) -> None:
    """Remove features, clips or failures from STORE, in place; the next run would compute them again."""
    from extract.store import Store
    from extract.store.operations.remove import plan_removal, remove

    if not yes:
        _show(plan_removal(Store(store), keys, clips, reasons), "would go")
        click.echo("nothing was removed; add --yes to do it")
        return
    with _progress("removing") as show:
        _show(remove(store, keys, clips, reasons, show), "removed")


@store.command()
@STORE
@OUT
@click.option("--storage", type=click.Choice(["float32", "float16"]), help="Type of the numbers; default: as they are.")
@click.option("--compression", help="none, gzip or gzip:1 to gzip:9; default: as it is.")
def convert(store: Path, out: Path, storage: Literal["float32", "float16"] | None, compression: str | None) -> None:
    """Copy STORE in the newest schema, with other numbers on disk, and say what that cost.

    Rows that are stored as float16 are other features: they have other keys.
    """
    from extract.store.operations.convert import convert as carry_out

    with _progress("converting") as show:
        done = carry_out(store, out, storage, compression, show)
    click.echo(f"{out}: {'complete already' if done.complete else 'converted'}, {done.parts} parts")
    share = f" ({done.after_bytes / done.before_bytes:.1%})" if done.before_bytes else ""
    click.echo(f"{_mb(done.before_bytes)} before, {_mb(done.after_bytes)} now{share}")
    for old, new in done.keys.items():
        loss = done.losses.get(new)
        if loss is None:
            click.echo(f"{old}: rows equal")
        else:
            click.echo(
                f"{old} -> {new}: cosine at least {loss.least:.9f}, mean {loss.mean:.9f}; largest difference {loss.most:.3g} "
                f"({loss.rows} rows of {loss.clips} clips)"
            )


@store.command()
@STORE
@OUT
@click.option("--check", is_flag=True, help="Make nothing: say whether the view still shows STORE, exit code 1 if not.")
def view(store: Path, out: Path, check: bool) -> None:
    """Make one HDF5 file that shows all of STORE without a copy, for MATLAB, Julia and plain h5py.

    It is outdated once STORE is packed or grows, and is then made again by the same command. It finds STORE by a relative
    path: move them together.
    """
    from extract.store.operations.view import outdated, write_view

    if check:
        why = outdated(out, store)
        click.echo(f"{out}: {why or 'up to date'}")
        sys.exit(1 if why else 0)
    done = write_view(store, out)
    click.echo(
        f"{out}: {', '.join(f'{name} {rows} rows' for name, rows in done.rows.items())} ({_mb(done.size_bytes)})"
    )


def _told(conflict: Conflict) -> str:
    parts = " and ".join(map(str, conflict.parts))
    if conflict.most is None:
        how = f"{conflict.rows[0]} rows and {conflict.rows[1]}"
    else:
        cosine = "none" if conflict.least is None else f"{conflict.least:.6f}"
        how = f"{', '.join(conflict.differs)} differ: max abs difference {conflict.most:.3g}, min cosine {cosine}"
    return f"{conflict.clip_id} {conflict.key}: {how}: {parts}"


def _show(removal: Removal, verb: str) -> None:
    for key, count in removal.clips.items():
        click.echo(f"{verb}: rows of {count} clip(s), {key}")
    for count, what in ((removal.failed, "failure(s)"), (removal.masked, "remark(s) on masked rows")):
        if count:
            click.echo(f"{verb}: {count} {what}")
    click.echo(f"{_mb(removal.size_bytes)} of rows in {removal.parts} part(s)")


def _lines(path: Path) -> list[str]:
    from manifests.table import read_lines

    return [line.strip() for _, line in read_lines(path, "list of clip ids")]


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
