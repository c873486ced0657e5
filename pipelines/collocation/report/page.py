"""The report of a search: an HTML page that loads nothing, tables as CSV and figures as SVG."""

from __future__ import annotations

import base64
import hashlib
import time
from functools import cache
from math import isfinite
from pathlib import Path

from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined

from extract.report.words import cut, in_seconds
from pipelines.collocation.report import paper, story, words
from pipelines.collocation.report.compared import methods_rows, ranking_rows, tested
from pipelines.collocation.report.drawn import Figure, figures
from pipelines.collocation.report.layouts import table1_rows, table3_rows, table5_rows
from pipelines.collocation.report.read import read_search
from pipelines.collocation.report.tables import check_tables, tables, write_tables
from pipelines.collocation.report.told import Search
from pipelines.parsing.run_folder import check_ours, make_folder, write_text

MARK = '<meta name="generator" content="extract collocate">'
FIGURE_MARK = "<!-- extract collocate figure -->"
PAGE, TABLES, FIGURES = "page.html", "tables", "figures"
MANY = 30
"""Rows from which on a table scrolls within itself."""


def write_report(folder: Path) -> Path:
    """Write ``page.html``, ``tables/*.csv`` and ``figures/*.svg``; earlier ones of ours are replaced.

    Parameters
    ----------
    folder
        of a search, any of its methods done

    Returns
    -------
    Path
        of the page

    Raises
    ------
    PlanError
        the folder holds no search, or one of its files is damaged or of a newer version
    StoreError
        a file of one of those names is there that we did not write; nothing is written then
    StoreUnwritable
        the folder cannot be written to
    """
    search = read_search(folder)
    drawn = figures(search)
    out = folder / PAGE
    check_ours(out, MARK, "extract collocate")
    check_tables(folder / TABLES)
    for figure in drawn:
        check_ours(folder / FIGURES / f"{figure.name}.svg", FIGURE_MARK, "extract collocate")
    write_tables(folder / TABLES, tables(search))
    make_folder(folder / FIGURES)
    for figure in drawn:
        write_text(folder / FIGURES / f"{figure.name}.svg", f"{FIGURE_MARK}\n{figure.svg}")
    write_text(out, render(search, drawn))
    return out


def render(search: Search, drawn: tuple[Figure, ...]) -> str:
    """The page as HTML, complete in itself."""
    environment, script = _environment()
    lead = search.lead
    return environment.get_template("colloc/page.html").render(
        mark=MARK,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        search=search,
        lead=lead,
        title=words.headline(search),
        verdict="" if lead is None else words.verdict(lead),
        facts=story.facts(search),
        notices=story.notices(search),
        about=story.about(search),
        compared=story.compared(search),
        ranking=ranking_rows(search),
        total="" if lead is None else words.cost(lead),
        others=[each.method for each in search.results if each is not lead and each.ranking],
        tested=any(search.metric in tested(search, each.name) for each in lead.ranking) if lead else False,
        metric=words.metric_of(search),
        methods=[row for row in methods_rows(search) if row["method"] in words.MEANING],
        meaning=words.MEANING,
        table1=table1_rows(search),
        table3=table3_rows(search),
        table5=table5_rows(search),
        figures=drawn,
        trust=story.trust,
        by_classes=story.by_classes(search) if search.fewer else [],
        estimators=story.estimators_told(search),
        by="" if (guess := search.of("transfer")) is None else guess.by,
        verdict_of=words.verdict,
        settings=story.settings(search),
        source=paper.SOURCE,
        many=MANY,
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )


def _figure(value: object, form: str = ",.1f") -> str:
    """A number of a table; a dash for what is not known."""
    if isinstance(value, int | float):
        return f"{value:{form}}" if isfinite(value) else "–"
    return str(value) or "–"


@cache
def _environment() -> tuple[Environment, str]:
    """The engine with our templates and those of the pages of runs and stores, and the script that sorts tables."""
    packages = {"colloc": "pipelines.collocation.report", "parse": "pipelines.parsing.page", "report": "extract.report"}
    loader = PrefixLoader({name: PackageLoader(package) for name, package in packages.items()})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": _figure, "short": cut, "seconds": in_seconds}
    return environment, loader.get_source(environment, "parse/page.js")[0]
