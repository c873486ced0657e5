"""``extract manifest``: annotation files or folders in, a manifest CSV out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from manifests.built import Built

FILE = click.Path(path_type=Path)
SHOWN = 20
Paths = Literal["videos", "manifest"]


def _output(default: str | None) -> Callable[..., Any]:
    return click.option(
        "-o",
        "--output",
        type=FILE,
        default=default,
        required=default is None,
        show_default=True,
        help="The manifest to write; what is there is replaced.",
    )


def _options(output: str, annotations: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that every corpus has."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(
            [
                click.option("--annotations", type=FILE, required=True, help=annotations),
                click.option("--videos", type=FILE, help="Folder of the files; says how many are missing."),
                _output(output),
                click.option(
                    "--paths",
                    type=click.Choice(["videos", "manifest"]),
                    default=None,
                    help="What the manifest's paths count from: its own folder (the default with --videos, so that later "
                    "commands find the files), or the folder of the videos (every later command then needs --videos).",
                ),
            ]
        ):
            command = option(command)
        return command

    return decorate


_extension = click.option("--extension", default=".mp4", show_default=True, help="Of the files.")
_full_videos = click.option(
    "--full-videos", is_flag=True, help="Files are whole videos: cut each clip's span. Default: files are the clips."
)


@click.group()
def manifest() -> None:
    """Make a manifest: the CSV that lists the clips of a corpus.

    Rows that are wrong or odd are reported with file and line, never repaired; all of them go to <stem>.problems.txt,
    events with times to <stem>.dense.csv.
    """


@manifest.command()
@_options("manifests/llp.csv", "AVVP_dataset_full.csv, or one of the split files.")
@_extension
@_full_videos
@click.option("--train", type=FILE, help="Default: AVVP_train.csv beside the annotations.")
@click.option("--val", type=FILE, help="Default: AVVP_val_pd.csv beside the annotations.")
@click.option("--test", type=FILE, help="Default: AVVP_test_pd.csv beside the annotations.")
@click.option("--audio", type=FILE, help="Events heard. Default: AVVP_eval_audio.csv beside the annotations.")
@click.option("--visual", type=FILE, help="Events seen. Default: AVVP_eval_visual.csv beside the annotations.")
def llp(annotations: Path, videos: Path | None, output: Path, paths: Paths | None, **options: Any) -> None:
    """LLP (audio-visual video parsing): 11,849 clips."""
    from manifests import llp as corpus

    _finish(corpus.clips(annotations, videos, **options), output, videos, paths)


@manifest.command()
@_options("manifests/ave.csv", "Annotations.txt.")
@_extension
@click.option("--train", type=FILE, help="Default: train_order.h5 beside the annotations.")
@click.option("--val", type=FILE, help="Default: val_order.h5 beside the annotations.")
@click.option("--test", type=FILE, help="Default: test_order.h5 beside the annotations.")
def ave(annotations: Path, videos: Path | None, output: Path, paths: Paths | None, **options: Any) -> None:
    """AVE (audio-visual events): 4,143 rows over 4,097 files."""
    from manifests import ave as corpus

    _finish(corpus.clips(annotations, videos, **options), output, videos, paths)


@manifest.command()
@_options("manifests/audioset.csv", "An AudioSet segments CSV, or vggsound.csv.")
@_full_videos
@click.option(
    "--pattern",
    default="{ytid}.mp4",
    show_default=True,
    help="How files are called, from {ytid} {start} {end} {start_ms} {end_ms}, such as {ytid}_{start:06d}.mp4.",
)
@click.option("--class-labels", type=FILE, help="class_labels_indices.csv, for names instead of ontology ids.")
@click.option("--split", help="Of every row. Default: VGGSound's own, or by the official name of an AudioSet file.")
def audioset(annotations: Path, videos: Path | None, output: Path, paths: Paths | None, **options: Any) -> None:
    """AudioSet and VGGSound."""
    from manifests import audioset as corpus

    _finish(corpus.clips(annotations, videos, **options), output, videos, paths)


@manifest.command()
@click.argument("source", type=FILE)
@click.option("--videos", type=FILE, help="What the relative paths of a list count from. Default: the list's folder.")
@_output(None)
def folder(source: Path, videos: Path | None, output: Path) -> None:
    """Every media file of a folder (recursively), or of a text file with one path per line.

    Paths count from the manifest's folder, so that later commands find the files; with --videos, from there.
    """
    from manifests import folder as corpus

    built = corpus.clips(source, videos)
    if videos is None:
        built = _from_manifest(built, corpus.base_of(source), output)
    _finish(built, output, videos, "videos")


def _from_manifest(built: Built, base: Path, output: Path) -> Built:
    """The same clips with paths that count from the manifest's folder instead of from `base`."""
    start = output.parent.resolve()
    clips = (
        clip if os.path.isabs(clip.path) else replace(clip, path=os.path.relpath(base.resolve() / clip.path, start))
        for clip in built.clips
    )
    return replace(built, clips=tuple(clips))


def _finish(built: Built, output: Path, videos: Path | None, paths: Paths | None) -> None:
    """Write the manifest and what belongs beside it, and say what there is to say."""
    from extract.errors import ManifestError
    from manifests.clip import shell_word, write_manifest
    from manifests.dense import dense_path, write_dense
    from manifests.table import write_text

    paths = paths or ("videos" if videos is None else "manifest")
    if paths == "manifest":
        if videos is None:
            raise ManifestError("--paths manifest needs --videos: where are the files, seen from the manifest?")
        built = _from_manifest(built, videos, output)
    write_manifest(output, built.clips)
    splits = Counter(clip.split or "none" for clip in built.clips)
    counted = ", ".join(f"{name} {splits[name]}" for name in sorted(splits, key=_split_order))
    click.echo(f"{output}: {len(built.clips)} clips (split: {counted})")
    if built.events:
        write_dense(dense_path(output), built.events)
        click.echo(f"{dense_path(output)}: {len(built.events)} events")
    elif dense_path(output).exists():
        click.echo(f"{dense_path(output)}: left as it was; these annotations have no events")
    for note in built.notes:
        click.echo(f"  {note}")
    everything = output.with_suffix(".problems.txt")
    if built.problems:
        write_text(everything, "".join(f"{problem}\n" for problem in built.problems))
        click.echo(f"{len(built.problems)} problems, all of them in {everything}:")
        for problem in built.problems[:SHOWN]:
            click.echo(f"  {problem}")
        if len(built.problems) > SHOWN:
            click.echo(f"  ... and {len(built.problems) - SHOWN} more")
    else:
        # one left from an earlier run would speak of rows that are right now
        everything.unlink(missing_ok=True)
        click.echo("no problems")
    command = f"extract plan {shell_word(output)}"
    if paths == "videos" and videos is not None:
        command += f" --videos {shell_word(videos)}"
    click.echo(f"missing files: {'not looked for' if built.missing is None else len(built.missing)}")
    click.echo(f"next: {command}")


def _split_order(name: str) -> tuple[int, str]:
    order = ("train", "val", "test")
    return (order.index(name) if name in order else len(order), name)
