"""Parsed videos on disk: a picture of each, and a table of its events."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from extract.errors import PlanError
from manifests.seconds import NS_PER_S, to_text
from pipelines.parsing import run_folder
from pipelines.parsing.page import drawing
from pipelines.parsing.video.answers import ParsedVideo

HEADER = ("onset", "offset", "modality", "label", "probability")
ADVICE = "move it away, or give another -o"


def check_names(videos: Sequence[Path], out: Path) -> None:
    """Whether videos can be written into a folder; asked before hours are spent on them.

    Raises
    ------
    PlanError
        two of them would have one name
    StoreError
        something else has one of their names
    """
    seen: dict[str, Path] = {}
    for path in videos:
        if path.stem in seen:
            raise PlanError(
                f"{seen[path.stem]} and {path} would both be drawn as {path.stem}.svg; parse them one after the other, each "
                "with its own -o"
            )
        seen[path.stem] = path
        _targets(path, out)


def write_video(video: ParsedVideo, out: Path) -> tuple[Path, Path]:
    """Write ``<name>.svg`` and ``<name>.csv``; what an earlier call wrote is replaced.

    The table's ``onset`` and ``offset`` are seconds of the file, half-open, by onset; ``probability`` is the mean over the
    event's seconds.

    Raises
    ------
    StoreError
        something else has one of these names
    StoreUnwritable
        they cannot be written
    """
    run_folder.make_folder(out)
    picture, table = _targets(video.path, out)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for each in video.events:
        times = [to_text(video.start_ns + s * NS_PER_S) for s in (each.onset_s, each.offset_s)]
        writer.writerow([*times, each.modality, each.label, f"{each.probability:.4f}"])
    svg = drawing.svg(video.title, video.seconds, video.rows, video.classes)
    run_folder.write_bytes(picture, svg.encode("utf-8", "replace"))
    run_folder.write_bytes(table, text.getvalue().encode())
    return picture, table


def _targets(video: Path, out: Path) -> tuple[Path, Path]:
    picture, table = out / f"{video.stem}.svg", out / f"{video.stem}.csv"
    run_folder.check_ours(picture, drawing.MARK, "extract parse", ADVICE)
    run_folder.check_ours(table, ",".join(HEADER), "extract parse", ADVICE)
    return picture, table
