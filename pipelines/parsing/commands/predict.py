"""``extract parse predict``: from videos to timelines, with the parser of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pipelines.parsing.commands.options import device


def _time(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    from extract.errors import ManifestError, PlanError
    from manifests.seconds import to_ns

    if text is None:
        return None
    try:
        return to_ns(text)
    except ManifestError as error:
        raise PlanError(f"--{param.name}: {error}") from error


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Folder of pictures and tables; default: RUN/videos."
)
@click.option("--start", callback=_time, metavar="SECONDS", help="Parse from there on; default: 0.")
@click.option("--stop", callback=_time, metavar="SECONDS", help="Parse up to there; default: the video's end.")
@click.option(
    "--weights", default="", help="official, a folder, or random:SEED; default: as the run's features were made."
)
@click.option("--recipe", default="", help="Default: the one that makes the run's features.")
@click.option("--gate", default="", help="Another one than the run's (avvp): global, per_modality, none.")
@click.option("--threads", type=click.IntRange(min=1), help="Per operator on a CPU; default: all cores.")
@device
def predict(
    run: Path, videos: tuple[Path, ...], out: Path | None, start: int | None, stop: int | None, **options: Any
) -> None:
    """Say which events are heard and seen in each VIDEO, and when, with the parser of RUN.

    Features are computed exactly as those it was trained on. A video longer than its clips is cut into windows; times are in
    whole seconds. Each timeline is printed, and drawn as OUT/NAME.svg, with its events in OUT/NAME.csv.

    \b
    extract parse predict runs/han holiday.mp4
    extract parse predict runs/han *.mp4 --start 60 --stop 120 --gate per_modality -o timelines
    """  # noqa: D301 - click's paragraph mark
    from pipelines.parsing.video import predict as predicting
    from pipelines.parsing.video.predicted import check_names, write_video

    out = out or run / "videos"
    check_names(videos, out)
    told = predicting.predict(run, videos, start_ns=start or 0, stop_ns=stop, on_window=_say, **options)
    for video in told.videos:
        click.echo(video.text)
        for note in video.notes:
            click.echo(f"note: {note}")
        click.echo("drawn: {}, events: {}\n".format(*write_video(video, out)))
    if told.videos and told.gate:
        click.echo(f"gate: {told.gate}")
    if told.failed:
        for _, error in told.failed[:-1]:
            click.echo(f"extract: {error}", err=True)
        raise told.failed[-1][1]


def _say(done: int, windows: int) -> None:
    """On a terminal's standard error only."""
    if sys.stderr.isatty():
        click.echo(f"\rfeatures of {done:,} of {windows:,} windows", nl=done == windows, err=True)
