"""What a search found in words and numbers: for the page, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from extract.report.words import cut, in_seconds
from pipelines.collocation.report.compared import methods_rows, tested
from pipelines.collocation.report.read import read_search
from pipelines.collocation.report.told import Difference, Result, Search, Spread
from pipelines.parsing.page.timeline import printable

METRICS = {"segment_type": "segment-level Type@AV", "accuracy": "accuracy"}
MEANING = {
    "traverse": "every collocation trained in full on train, judged on val",
    "halving": "all begin with few epochs and one seed; those that are behind beyond chance leave",
    "decoupled": "trained on the val clips with one choice of hyper-parameters, chosen again for whichever becomes the best",
    "transfer": "told from the features; nothing is trained",
}
MOST_SHOWN = 20


def metric_of(search: Search) -> str:
    """The score that collocations are compared by, as people say it."""
    return METRICS.get(search.metric, search.metric.replace("_", " "))


def spread(told: Spread | None, *, percent: bool = True) -> str:
    """``51.2 ± 0.4``; a dash for what is not known."""
    if told is None or not isfinite(told.mean):
        return "–"
    mean = number(told.mean, percent=percent)
    several = isfinite(told.std) and len(told.values) != 1
    return f"{mean} ± {number(told.std, percent=percent)}" if several else mean


def number(value: float, *, percent: bool = True) -> str:
    """A percentage with one digit after the point, or another score with three."""
    if not isfinite(value):
        return "–"
    return f"{value:.1f}" if percent else f"{value:,.3f}"


def headline(search: Search) -> str:
    """The winner in one sentence."""
    lead = search.lead
    if lead is None:
        return "Nothing is ranked yet" if not search.results else "No collocation could be ranked"
    best = lead.by_name.get(lead.winner, lead.ranking[0])
    if lead.method == "transfer":
        score = f"{lead.by or 'the estimate'} {spread(best.score, percent=False)}, and nothing was trained"
    else:
        score = f"{metric_of(search)} {spread(best.score)} % on val"
        if found := tested(search, best.name).get(search.metric):
            score += f", {spread(found)} % on test"
    if len(lead.ranking) == 1:
        return f"{best.name} is the only collocation: {score}"
    how = "is the best" if lead.settled else "comes first"
    return f"{best.name} {how} of {len(lead.ranking)} collocations: {score}"


def difference(told: Difference) -> str:
    """``1.9 (0.7 to 3.1, 95 %)``."""
    if not isfinite(told.low):
        return f"{told.mean:.1f} (nothing is known of chance)"
    return f"{told.mean:.1f} ({told.low:.1f} to {told.high:.1f}, {100 * told.confidence:g} %)"


def verdict(result: Result) -> str:
    """What the method says of its winner, as a sentence."""
    if said := result.verdict.strip():
        said = f"N{said[1:]}" if said.startswith("not settled") else said
        return said if said.endswith(".") else f"{said}."
    if result.difference is not None:
        return f"{result.winner} is ahead of {result.runner_up} by {difference(result.difference)}."
    return ""


def seconds(value: float) -> str:
    """A duration; a dash for one that is not known."""
    return in_seconds(value) if isfinite(value) else "–"


def cost(result: Result) -> str:
    """What a method took."""
    if not isfinite(result.wall_s):
        return "a time that was not recorded"
    work = f", {seconds(result.work_s)} of work" if isfinite(result.work_s) else ""
    return f"{seconds(result.wall_s)} on the clock{work}"


def is_random(search: Search) -> list[str]:
    """Backbones whose weights were drawn at random, and that saw clips nevertheless."""
    random = [short for short, info in search.infos.items() if str(info.get("weights", "")).startswith("random:")]
    return [short for short in random if short not in is_made_up(search)]


def is_made_up(search: Search) -> list[str]:
    """Backbones whose features were drawn from labels."""
    return [short for short, info in search.infos.items() if '"synthetic"' in str(info.get("identity", ""))]


def shown(search: Search | Path) -> str:
    """The ranking and the verdict as text for a terminal.

    Parameters
    ----------
    search
        or its folder

    Raises
    ------
    PlanError
        the folder holds no search, or one of its files is damaged or of a newer version
    """
    told = read_search(search) if isinstance(search, Path) else search
    lines = [printable(headline(told))]
    lead = told.lead
    if lead is not None:
        lines += ["", *_ranking(told, lead), ""]
        lines += [printable(words) for words in (verdict(lead),) if words]
    for row in methods_rows(told):
        if row["method"] in MEANING:
            lines.append(_method(row))
    if flagged := [f"{short}: {why}" for short, why in told.flagged.items()]:
        lines.append(printable(f"not ranked: {'; '.join(flagged)}"))
    if random := is_random(told):
        lines.append(printable(f"RANDOM WEIGHTS in {', '.join(random)}: the numbers have no meaning"))
    if made := is_made_up(told):
        lines.append(printable(f"made-up clips: the features of {', '.join(made)} were drawn from labels"))
    lines += [printable(note) for note in told.notes]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _ranking(search: Search, lead: Result) -> list[str]:
    percent = lead.method != "transfer"
    test = any(tested(search, each.name) for each in lead.ranking)
    head = [
        "",
        "collocation",
        "val" if percent else lead.by,
        *(["test"] if test else []),
        *(["wins"] if percent else []),
        "seconds",
    ]
    rows = [
        [
            str(each.rank),
            printable(cut(each.name, 80)),
            spread(each.score, percent=percent),
            *([spread(tested(search, each.name).get(search.metric))] if test else []),
            *([str(each.wins)] if percent else []),
            f"{each.seconds:,.1f}" if isfinite(each.seconds) else "–",
        ]
        for each in lead.ranking[:MOST_SHOWN]
    ]
    more = len(lead.ranking) - MOST_SHOWN
    return _aligned(head, rows) + ([f"... and {more} more"] if more > 0 else [])


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if i == 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, wide, strict=True))
        )
        for row in (head, *rows)
    ]


def _method(row: dict[str, object]) -> str:
    parts = [f"{row['method']}: {seconds(_float(row['wall_s']))}"]
    faster = _float(row["times_faster_than_traverse"])
    if row["method"] != "traverse" and isfinite(faster):
        parts.append(f"{faster:.1f} times faster than traverse")
    if row["kendall_tau"] != "":
        tau, p = _float(row["kendall_tau"]), _float(row["kendall_p"])
        parts.append(f"Kendall tau {tau:.2f} (p {p:.2g}, n {row['kendall_n']})")
    if row["same_winner_as_traverse"] != "":
        same = "the same winner" if row["same_winner_as_traverse"] == "yes" else f"another winner, {row['winner']}"
        parts.append(same)
    if row["finished"] == "no":
        parts.append("not finished")
    return printable(", ".join(parts))


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
