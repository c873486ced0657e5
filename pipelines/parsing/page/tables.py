"""The table that papers on LLP print, as cells, text and CSV: segment-level and event-level A, V, AV, Type and Event."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extract.errors import PlanError
from pipelines.parsing.page.timeline import printable

LEVELS = ("segment", "event")
PARTS = {"audio": "A", "visual": "V", "audio_visual": "AV", "type": "Type", "event": "Event"}
METRICS = tuple(f"{level}_{part}" for level in LEVELS for part in PARTS)
ROUNDING = 0.1
"""Percent by which a printed Type can differ from the mean of its printed parts: all of them are rounded to 0.1."""

Number = float | tuple[float, float]
"""A percentage, or mean and standard deviation."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of the table in percent; `value` None: not known.

    Parameters
    ----------
    value, spread
        the number, and its standard deviation over seeds where there are several
    printed
        of a Type: what was given instead, where that does not follow from its parts
    """

    value: float | None = None
    spread: float | None = None
    printed: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        mark = "" if self.printed is None else "*"
        return f"{self.value:.1f}{mark}" + ("" if self.spread is None else f"±{self.spread:.1f}")


def cells(scores: Mapping[str, Number], names: Sequence[str] = METRICS) -> tuple[Cell, ...]:
    """Cells in the order of `names`; Type is the mean of its three parts wherever all of them are there.

    Parameters
    ----------
    scores
        by metric, see :meth:`pipelines.parsing.metrics.Scores.as_dict`; others are passed over
    names
        of metrics
    """
    return tuple(_cell(scores, name) for name in names)


def _cell(scores: Mapping[str, Number], name: str) -> Cell:
    given, spread = _split(scores.get(name))
    level, _, part = name.partition("_")
    if part != "type":
        return Cell(given, spread)
    parts = [_split(scores.get(f"{level}_{each}"))[0] for each in ("audio", "visual", "audio_visual")]
    known = [value for value in parts if value is not None]
    if len(known) < len(parts):
        return Cell(given, spread)
    mean = sum(known) / 3
    differs = given is not None and abs(given - mean) > ROUNDING - 1e-6
    return Cell(mean, spread, given if differs else None)


def _split(number: Number | None) -> tuple[float | None, float | None]:
    if isinstance(number, tuple):
        return number
    return number, None


def table(scores_by_name: Mapping[str, Mapping[str, Number]]) -> str:
    """The table for a terminal.

    Parameters
    ----------
    scores_by_name
        rows, in order: percent by metric, or (mean, standard deviation); ``accuracy`` alone gives the table of AVE

    Returns
    -------
    str
        lines; one below says which Types were given otherwise than their parts

    Raises
    ------
    PlanError
        there is no row
    """
    names, heads = _columns(scores_by_name)
    rows = {printable(name): cells(scores, names) for name, scores in scores_by_name.items()}
    first = max(len(name) for name in rows)
    texts = {name: [str(cell) for cell in row] for name, row in rows.items()}
    for i in range(len(names)):  # so that digits stay below digits
        if any(row[i].printed is not None for row in rows.values()):
            for text in texts.values():
                text[i] += "" if text[i].endswith("*") else " "
    wide = [max(len(head), *(len(text[i]) for text in texts.values())) for i, head in enumerate(heads)]
    groups = [slice(0, 5), slice(5, 10)] if len(names) > 1 else [slice(0, 1)]
    lines = []
    if len(groups) > 1:
        titles = [
            f"{title}-level".ljust(sum(wide[group]) + 2 * 4)
            for title, group in zip(("Segment", "Event"), groups, strict=True)
        ]
        lines.append(" | ".join([" " * first, *titles]))
    lines.append(_line("", heads, first, wide, groups))
    lines.append("-+-".join(["-" * first, *("-" * (sum(wide[g]) + 2 * (len(wide[g]) - 1)) for g in groups)]))
    lines += [_line(name, text, first, wide, groups) for name, text in texts.items()]
    lines += [f"* {remark}" for name, row in rows.items() if (remark := remark_on(name, row, names))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _line(name: str, values: Sequence[str], first: int, wide: Sequence[int], groups: Sequence[slice]) -> str:
    padded = [value.rjust(width) for value, width in zip(values, wide, strict=True)]
    return " | ".join([name.ljust(first), *("  ".join(padded[group]) for group in groups)])


def remark_on(name: str, row: Sequence[Cell], names: Sequence[str] = METRICS) -> str:
    """Which Types of a row were given otherwise than the mean of their parts; empty: none."""
    found = [
        f"{metric.partition('_')[0]}-level Type is given as {cell.printed:.1f}, its parts make {cell.value:.1f}"
        for metric, cell in zip(names, row, strict=True)
        if cell.printed is not None
    ]
    return f"{name}: {'; '.join(found)}" if found else ""


def table_csv(scores_by_name: Mapping[str, Mapping[str, Number]]) -> str:
    """The table as CSV with all digits; a standard deviation has a column of its own, ``<metric>_std``.

    Raises
    ------
    PlanError
        there is no row
    """
    names, _ = _columns(scores_by_name)
    rows = {name: cells(scores, names) for name, scores in scores_by_name.items()}
    spread = [name for i, name in enumerate(names) if any(row[i].spread is not None for row in rows.values())]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *names, *(f"{name}_std" for name in spread)])
    for name, row in rows.items():
        by_name = dict(zip(names, row, strict=True))
        values = [by_name[each].value for each in names] + [by_name[each].spread for each in spread]
        writer.writerow([name, *("" if value is None else repr(value) for value in values)])
    return text.getvalue()


def _columns(scores_by_name: Mapping[str, Mapping[str, Number]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not scores_by_name:
        raise PlanError("a table needs at least one row of scores, got none")
    if all("accuracy" in scores for scores in scores_by_name.values()):
        return ("accuracy",), ("Accuracy",)
    return METRICS, tuple(PARTS.values()) * 2
