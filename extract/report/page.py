"""The page: everything the templates are given, and how they are filled. All text is escaped by the template engine."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from extract.report.corpus import Labels
from extract.report.coverage import Coverage
from extract.report.histogram import Histogram
from extract.report.maps import Map
from extract.report.origin import KeyOrigin
from extract.report.pictures import ramp
from extract.report.reasons import Reason
from extract.report.runs import RunTold
from extract.report.sample import Looked
from extract.report.sheet import Sheet
from extract.report.similarity import Similarity
from extract.report.storage import Storage
from extract.report.subject import Subject, name_of
from extract.report.words import cut, in_bytes, in_number, in_percent, in_seconds

if TYPE_CHECKING:
    from extract.store.verify import Finding

MARK = '<meta name="generator" content="extract report">'
FINDINGS_SHOWN = 50
RUNS_SHOWN = 8
REASONS_SHOWN = 24


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """What the templates are given; `rows` is key, rows per clip, rows per second and percent of valid rows."""

    name: str
    path: str
    verdict: str
    made: str
    subject: Subject
    coverage: Coverage
    failed: tuple[Reason, ...]
    masked: tuple[Reason, ...]
    lengths: Histogram | None
    lengths_from: str
    rows: tuple[tuple[str, Histogram | None, float, float], ...]
    labels: Labels
    maps: tuple[tuple[Looked, Map | None], ...]
    method: str
    sampled: int
    clips: int
    similarities: tuple[tuple[str, Similarity | None], ...]
    sheets: tuple[Sheet, ...]
    runs: tuple[RunTold, ...]
    run_count: int
    storage: Storage
    origins: tuple[KeyOrigin, ...]
    findings: Sequence[Finding] | None
    problems: tuple[str, ...]


@cache
def _environment() -> tuple[Environment, str]:
    """The engine with our templates, compiled once per process, and the page's script."""
    loader = PackageLoader("extract.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "bytes": in_bytes,
        "count": lambda number: f"{number:,}",
        "hash": lambda key: key.partition("@")[2],
        "name": name_of,
        "number": in_number,
        "pct": in_percent,
        "seconds": in_seconds,
        "short": cut,
    }
    return environment, loader.get_source(environment, "page.js")[0]


def render(page: Page) -> str:
    """The page as HTML, complete in itself."""
    environment, script = _environment()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        {each.name: getattr(page, each.name) for each in fields(page)},
        mark=MARK,
        script=script,
        script_digest=digest,
        ramp=ramp(),
        findings_shown=FINDINGS_SHOWN,
        runs_shown=RUNS_SHOWN,
        reasons_shown=REASONS_SHOWN,
    )
