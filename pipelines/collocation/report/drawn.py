"""The figures of a search: which there are, and what is in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from pipelines.collocation.collocations import Collocation
from pipelines.collocation.report import paper, words
from pipelines.collocation.report.compared import Row, methods_rows
from pipelines.collocation.report.figures import bars, curves, heat_map
from pipelines.collocation.report.layouts import fig5_rows, fig6_rows, traversals
from pipelines.collocation.report.told import Result, Search


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture: the name of its file, its section of the page, what is to be known of it, and the SVG."""

    name: str
    section: str
    note: str
    svg: str

    @property
    def width_px(self) -> float:
        """How wide it is to be shown where there is room."""
        found = re.search(r'viewBox="0 0 ([\d.]+)', self.svg)
        assert found is not None
        return 1.15 * float(found[1])


def figures(search: Search) -> tuple[Figure, ...]:
    """Every figure that there are numbers for."""
    lead = search.lead
    found = (
        [] if lead is None else [*_heat(search, lead), *_fig5(search), *_fig6(search), *_times(search), *_taus(search)]
    )
    return tuple(found)


def _heat(search: Search, lead: Result) -> list[Figure]:
    unit = lead.by if lead.method == "transfer" else "%"
    visuals = paper.visual_order(list(dict.fromkeys(each.collocation.visual for each in lead.ranking)))
    audios = list(dict.fromkeys(each.collocation.audio for each in lead.ranking))
    clips = list(dict.fromkeys(each.collocation.clip for each in lead.ranking))
    scores = {each.collocation: each.score.mean for each in lead.ranking}
    found = []
    for i, clip in enumerate(sorted(clips), 1):
        values = [[scores.get(Collocation(audio, visual, clip), nan) for visual in visuals] for audio in audios]
        name = "heat" if clips == [""] else f"heat-{i}"
        title = f"Audio by visual backbone, ranked by {lead.method}" + (f", with {clip}" if clip else "")
        found.append(Figure(name, "heat", "", heat_map(audios, visuals, values, title=title, unit=unit)))
    return found


def _fig5(search: Search) -> list[Figure]:
    rows = fig5_rows(search)
    trained = [result.method for result in search.results if result.method != "transfer" and result.ranking]
    if not trained:
        return []
    series = {method: _column(rows, method) for method in trained}
    spreads = {method: _column(rows, f"{method}_std") for method in trained}
    there = any(row["fig5"] != "" for row in rows)
    order = (
        "The paper's collocations come first, in its order; its own figure runs from right to left. " if there else ""
    )
    scale = (
        "Decoupled and halving score other trainings than traverse: compare the course of the lines, not their height."
    )
    svg = curves(
        [row["collocation"] for row in rows],
        series,
        spreads,
        y_title=f"{words.metric_of(search)} on val (%)",
        title="Fig. 5: what each method thinks of the collocations",
    )
    return [Figure("fig5", "paper", order + (scale if len(trained) > 1 else ""), svg)]


def _fig6(search: Search) -> list[Figure]:
    rows = fig6_rows(search)
    if not rows:
        return []
    labels = {str(each.train_classes): f"{each.train_classes} classes" for each in traversals(search)}
    svg = curves(
        [row["collocation"] for row in rows],
        {told: _column(rows, label) for label, told in labels.items()},
        {told: _column(rows, f"{label}_std") for label, told in labels.items()},
        y_title=f"{words.metric_of(search)} on {rows[0]['split']} (%)",
        title="Fig. 6: trained on clips of fewer classes",
    )
    note = "Training clips keep the first classes of the official order, val and test keep all."
    return [Figure("fig6", "paper", note, svg)]


def _times(search: Search) -> list[Figure]:
    known = [each for each in search.results if isfinite(each.wall_s)]
    if len(known) < 2:
        return []
    svg = bars(
        [each.method for each in known], [each.wall_s for each in known], None, title="Seconds on the clock", unit="s"
    )
    return [Figure("seconds", "methods", "", svg)]


def _taus(search: Search) -> list[Figure]:
    guess = search.of("transfer")
    twice = "" if guess is None else f"transfer: {guess.by}"
    every = [row for row in methods_rows(search) if row["method"] != twice]
    rows = [row for row in every if row["kendall_tau"] != "" and isfinite(row["kendall_tau"])]
    if not rows:
        return []
    names = [row["method"] for row in rows]
    svg = bars(names, [row["kendall_tau"] for row in rows], None, title="Kendall τ against traverse", unit="")
    return [Figure("tau", "methods", "", svg)]


def _column(rows: list[Row], name: str) -> list[float]:
    return [_float(row.get(name)) for row in rows]


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else nan
