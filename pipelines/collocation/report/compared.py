"""What methods found beside each other: a table of collocations and one of methods."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from pipelines.collocation.certainty.statistics import Agreement, agreement
from pipelines.collocation.report.told import Ranked, Result, Search, Spread

Row = dict[str, Any]
AGREEMENT = ("kendall_tau", "kendall_p", "kendall_n", "same_winner_as_traverse", "rank_of_traverse_winner")


def ranking_rows(search: Search) -> list[Row]:
    """A row per collocation, in the ranking of the most trustworthy method; those it did not rank come last, without a rank.

    Columns: ``rank``, ``collocation``, ``audio``, ``visual``, ``clip``; for each method its ``score``, ``std``, ``wins``,
    ``seconds`` and ``epochs``; then mean and std of every score on test.
    """
    lead = search.lead
    if lead is None:
        return []
    known = {each.name: each.collocation for result in search.results for each in result.ranking}
    rows = []
    for name, collocation in known.items():
        first = lead.by_name.get(name)
        row: Row = {
            "rank": first.rank if first else "",
            "collocation": name,
            "audio": collocation.audio,
            "visual": collocation.visual,
            "clip": collocation.clip,
        }
        for result in search.results:
            row |= _of_method(result.method, result.by_name.get(name))
        for metric, spread in tested(search, name).items():
            row |= {f"test_{metric}": spread.mean, f"test_{metric}_std": spread.std}
        rows.append(row)
    return rows


def _of_method(method: str, found: Ranked | None) -> Row:
    row: Row = {}
    for name in ("score", "std", "wins", "seconds", "epochs"):
        if method == "transfer" and name in ("std", "wins", "epochs"):
            continue
        value: Any = "" if found is None else getattr(found.score, {"score": "mean"}.get(name, name), None)
        row[f"{method}_{name}"] = getattr(found, name) if value is None else value
    return row


def tested(search: Search, name: str) -> Mapping[str, Spread]:
    """The scores on test of a collocation, of the most trustworthy method that has some."""
    for result in search.results:
        found = result.by_name.get(name)
        if found is not None and found.test:
            return found.test
    return {}


def methods_rows(search: Search) -> list[Row]:
    """A row per method, then one per estimator: what it found, what it cost, and how well it agrees with a traversal."""
    truth = search.of("traverse")
    rows = []
    for result in search.results:
        same = None if result is truth else agree(truth, scores_of(result))
        rows.append(
            {
                "method": result.method,
                "winner": result.winner,
                "settled": _yes(result.settled),
                "finished": _yes(result.finished),
                "wall_s": result.wall_s,
                "work_s": result.work_s,
                "trained_epochs": result.trained_epochs,
                "times_faster_than_traverse": times_faster(truth, result),
                **_agreement(same),
            }
        )
    for result in search.results:
        rows += _estimator_rows(truth, result.method, result.estimates, result.by)
    for result in search.results:
        rows += _estimator_rows(truth, "fused", result.fused)
    return rows


def _estimator_rows(
    truth: Result | None, what: str, estimates: Mapping[str, Mapping[str, float]], first: str = ""
) -> list[Row]:
    rows = []
    names = dict.fromkeys(name for numbers in estimates.values() for name in numbers)
    for name in sorted(names, key=lambda name: name != first):
        scores = {each: numbers[name] for each, numbers in estimates.items() if name in numbers}
        known = {each: value for each, value in scores.items() if isfinite(value)}
        rows.append(
            {
                "method": f"{what}: {name}",
                "winner": max(known, key=lambda each: known[each], default=""),
                **_agreement(agree(truth, scores)),
            }
        )
    return rows


def scores_of(result: Result) -> dict[str, float]:
    """What agrees in order with its ranking: its scores, or ranks where scores are of different numbers of epochs."""
    if result.method == "halving":
        return {each.name: -float(each.rank) for each in result.ranking}
    return {each.name: each.score.mean for each in result.ranking}


def agree(truth: Result | None, scores: Mapping[str, float]) -> Agreement | None:
    """How well scores agree with a traversal; None without one."""
    return None if truth is None or not truth.ranking else agreement(scores, scores_of(truth))


def times_faster(truth: Result | None, result: Result) -> float:
    """Seconds of a traversal on the clock by those of this method; nan where one is not known or 0."""
    if truth is None or not result.wall_s > 0:
        return float("nan")
    return truth.wall_s / result.wall_s


def _agreement(same: Agreement | None) -> Row:
    if same is None or not same.n:
        return dict.fromkeys(AGREEMENT, "")
    values = (same.tau, same.p, same.n, _yes(same.same_winner), same.hits)
    return dict(zip(AGREEMENT, values, strict=True))


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def estimates_rows(search: Search) -> list[Row]:
    """A row per collocation with all estimates, in the order of `ranking_rows`; empty where there are none."""
    told = [each for result in search.results for each in (result.estimates, result.fused)]
    rows: list[Row] = []
    for ranked in ranking_rows(search):
        found = {name: value for each in told for name, value in each.get(ranked["collocation"], {}).items()}
        rows += [{"collocation": ranked["collocation"], **found}] if found else []
    return rows
