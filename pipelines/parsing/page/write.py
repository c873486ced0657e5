"""The results page of a run: one HTML file that loads nothing, and a picture of every clip that it shows."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined

from extract.errors import ExtractError
from extract.report.words import cut, in_percent
from extract.store.sink import unwritable
from pipelines.parsing.page import drawing, results
from pipelines.parsing.page.chosen import Parsed, choose, parse_run
from pipelines.parsing.page.curves import charts
from pipelines.parsing.page.settings import features_of, settings_of
from pipelines.parsing.page.tables import METRICS, PARTS
from pipelines.parsing.page.told import RunTold, number
from pipelines.parsing.run_folder import check_ours, write_text

MARK = '<meta name="generator" content="extract parse">'
PAGE = "page.html"
TIMELINES = "timelines"
LONGEST_NAME = 120
GROUPS = {"best": "Best", "median": "Median", "worst": "Worst", "": ""}


@dataclass(frozen=True, slots=True)
class ClipTold:
    """A clip of the page: its score in percent or None, its other numbers in words, and its timeline as SVG."""

    clip_id: str
    score: float | None
    parts: str
    svg: str


def write_page(folder: Path, run: RunTold, *, every: bool = False) -> Path:
    """Write ``page.html`` and ``timelines/<clip>.svg``; earlier ones of ours are replaced.

    Parameters
    ----------
    folder
        of the run
    run
        see :func:`pipelines.parsing.page.told.read_run`
    every
        draw every clip of the split as a file, rather than those that the page shows

    Returns
    -------
    Path
        of the page

    Raises
    ------
    StoreError
        a file of one of those names is there that we did not write
    StoreUnwritable
        the folder cannot be written to
    """
    out = folder / PAGE
    check_ours(out, MARK, "extract parse")
    parsed, unknown = _parsed(run)
    shown = [] if parsed is None else list(choose(parsed))
    if parsed is not None:
        _write_timelines(folder / TIMELINES, parsed, range(len(parsed.ids)) if every else [clip for _, clip in shown])
    write_text(out, render(run, parsed, shown, unknown))
    return out


def _parsed(run: RunTold) -> tuple[Parsed | None, str]:
    """The clips, or why there are none."""
    if run.runs:
        return None, "the folder of each seed has a page of its own, with timelines of clips"
    try:
        return parse_run(run), ""
    except ExtractError as error:
        return None, str(error)


def render(run: RunTold, parsed: Parsed | None, shown: Sequence[tuple[str, int]], unknown: str = "") -> str:
    """The page as HTML, complete in itself.

    Parameters
    ----------
    run, parsed
        what there is
    shown
        group and number of the clips to draw
    unknown
        why there are no clips
    """
    environment, script = _environment()
    kept = number(run.scores.get(run.split, {}).get("epoch"))
    epoch = kept if isfinite(kept) else None
    return environment.get_template("parse/page.html").render(
        mark=MARK,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        timeline_style=drawing.style(),
        run=run,
        title=results.title_of(run),
        facts=results.facts_of(run),
        notices=results.notices(run, _mean(run, parsed)),
        tables=results.score_tables(run),
        protocol=results.protocol_of(run),
        interference=results.interference_rows(run),
        seeds=results.seed_rows(run),
        others=results.other_scores(run),
        charts=() if run.log is None else charts(run.log, epoch),
        epoch=epoch,
        groups=_clips(parsed, shown),
        shown=len(shown),
        parsed=parsed,
        unknown=unknown,
        settings=settings_of(run),
        features=features_of(run),
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )


def _mean(run: RunTold, parsed: Parsed | None) -> float | None:
    """What the clips score together, where they are of the split whose scores stand at the top."""
    if parsed is None or parsed.score is None or run.predictions is None or run.predictions.split != run.split:
        return None
    return float(parsed.score.mean())


def _clips(parsed: Parsed | None, shown: Iterable[tuple[str, int]]) -> list[tuple[str, list[ClipTold]]]:
    """Clips by group."""
    groups: dict[str, list[ClipTold]] = {}
    for group, clip in shown:
        assert parsed is not None
        picture = drawing.svg(parsed.ids[clip], parsed.seconds, parsed.rows(clip), parsed.classes, alone=False)
        score = None if parsed.score is None else float(parsed.score[clip])
        groups.setdefault(GROUPS[group], []).append(ClipTold(parsed.ids[clip], score, parsed.told(clip), picture))
    return list(groups.items())


def _write_timelines(folder: Path, parsed: Parsed, clips: Iterable[int]) -> None:
    paths = {clip: folder / timeline_name(parsed.ids[clip]) for clip in clips}
    for path in paths.values():
        check_ours(path, drawing.MARK, "extract parse")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, 0, error) from error
    for clip, path in paths.items():
        write_text(path, drawing.svg(parsed.ids[clip], parsed.seconds, parsed.rows(clip), parsed.classes))


def timeline_name(clip_id: str) -> str:
    """The file name of a clip's picture: its id, where that is safe as one; what is not is written like ``%2F``."""
    safe = quote(clip_id, safe=" ()[]+,=@&", errors="replace")
    if len(safe) > LONGEST_NAME:
        safe = f"{safe[:LONGEST_NAME]}-{hashlib.sha256(clip_id.encode('utf-8', 'replace')).hexdigest()[:12]}"
    return f"{safe}.svg"


def _head(column: str) -> str:
    """A column of ``classes.csv`` as people say it."""
    if column in METRICS:
        level, _, part = column.partition("_")
        return f"{level.title()} {PARTS[part]}"
    return column.replace("_", " ").capitalize()


def _figure(text: str) -> str:
    """A cell of a table: numbers with one digit after the point."""
    value = number(text)
    if not isfinite(value):
        return "–" if text.strip().lower() in ("", "nan", "none") else text
    return f"{value:,.0f}" if value.is_integer() and "." not in text else f"{value:.1f}"


def _share(text: str) -> str:
    """A percentage for a bar; nothing of what is none."""
    value = number(text)
    return in_percent(value) if 0 <= value <= 100 else "0"


@cache
def _environment() -> tuple[Environment, str]:
    """The engine with our templates and those of the report on stores, and the page's script."""
    loader = PrefixLoader({"parse": PackageLoader("pipelines.parsing.page"), "report": PackageLoader("extract.report")})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}", "figure": _figure, "head": _head, "share": _share, "short": cut,
    }  # fmt: skip
    environment.globals |= {"swatch": drawing.swatch}
    return environment, loader.get_source(environment, "parse/page.js")[0]
