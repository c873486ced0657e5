"""What the page says of a search beside its numbers: what must be known first, what was compared, how each method went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from pipelines.collocation.report import words
from pipelines.collocation.report.compared import Row, agree, methods_rows
from pipelines.collocation.report.fields import in_words
from pipelines.collocation.report.layouts import traversals
from pipelines.collocation.report.told import Result, Search
from pipelines.parsing.page.results import Notice

TRUST = {
    "halving": "Scores of those that left early are after few epochs: they say who left, not how good they could become.",
    "decoupled": "Parsers were trained on the very clips of val that judge them, and may know them by heart: --folds 2 judges by "
    "clips that were left out, at the same cost.",
    "transfer": "Nothing was trained: these are estimates from features, and no score of a parser stands behind them.",
}
IN_FOLDS = "Parsers were trained on a part of val and judged by the rest: scores say who is ahead with so few clips."
ESTIMATORS = {
    "cos_psi_fused": "as the others, of what trained networks fused; it does not rank",
    "cos_psi": "cosine of first singular vectors of train and val features: whether val can stand in for train; it does not rank",
    "logme_gain": "LogME of both less that of the better one alone: what the pair has beyond its parts; it does not rank",
    "logme": "evidence of a linear model that tells the labels from both features side by side",
    "h_score": "how far the classes lie apart, measured by the spread of both features side by side",
    "cka": "how alike the backbones arrange the same seconds",
}
MOST_NAMED = 10
LEVELS = {"clips": "labels of clips", "seconds": "labels of seconds"}


@dataclass(frozen=True, slots=True)
class Compared:
    """A backbone of the search; `kind` is random, made-up, flagged or empty."""

    short: str
    slot: str
    key: str
    weights: str
    state: str
    kind: str


@dataclass(frozen=True, slots=True)
class Estimator:
    """An estimator: what it means, and its row of the table of methods."""

    name: str
    meaning: str
    row: Row


def notices(search: Search) -> tuple[Notice, ...]:
    """What must be known before any number is read."""
    found = []
    if random := words.is_random(search):
        said = f"The numbers have no meaning: the features of {some(random)} come from untrained networks."
        found.append(Notice("Random weights.", said, "bad"))
    if made := words.is_made_up(search):
        found.append(
            Notice("Made-up clips.", f"The features of {some(made)} were drawn from labels; no network saw anything.")
        )
    found += _doubts(search)
    for short, why in search.flagged.items():
        found.append(Notice(f"{short} is not ranked.", f"{why[:1].upper()}{why[1:]}."))
    if lacking := [
        f"{have:,} of {asked:,} of {split}" for split, (have, asked) in search.clips.items() if have < asked
    ]:
        said = f"{', '.join(lacking)} have the features of all backbones; everything is compared on these alone."
        found.append(Notice("Clips are missing.", said))
    if search.labels and not search.labels.startswith("official"):
        said = f"They are {search.labels}. Printed numbers are shown for orientation only."
        found.append(Notice("Not the official labels.", said))
    return tuple(found)


def trust(result: Result) -> str:
    """What its scores are worth; empty for a traversal."""
    return IN_FOLDS if result.folds > 1 else TRUST.get(result.method, "")


def some(names: Sequence[str]) -> str:
    """At most ten of them."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _doubts(search: Search) -> Iterator[Notice]:
    lead = search.lead
    trained = [each for each in search.results if each.ran_on]
    if len({each.ran_on for each in trained}) > 1:
        said = "; ".join(f"{each.method} on {', then '.join(each.ran_on)}" for each in trained)
        yield Notice("Seconds do not compare.", f"Methods had other means: {said}.")
    for result in search.results:
        if not result.finished:
            yield Notice(f"{result.method} is not finished.", "Its numbers are those so far; the same command goes on.")
    if lead is None:
        return
    if said := trust(lead):
        yield Notice(f"Ranked by {lead.method}, not by a traversal.", said)
    if lead.settled is False and "not settled" not in lead.verdict:
        said = f"{lead.winner} and {lead.runner_up} cannot be told apart with these seeds and clips."
        if lead.difference is not None:
            said = f"{said[:-1]}: they differ by {words.difference(lead.difference)}."
        yield Notice("Not settled.", said)


def facts(search: Search) -> list[tuple[str, str]]:
    """Name and value of what stands below the heading."""
    lead = search.lead
    found = [("Task", search.task.upper())]
    if lead is not None:
        found += [("Collocations", f"{len(lead.ranking):,}"), ("Ranked by", lead.method)]
    found.append(("Seeds", str(len(search.seeds))))
    if total := sum(each.wall_s for each in (*search.results, *search.fewer) if isfinite(each.wall_s)):
        found.append(("On the clock", words.seconds(total)))
    if epochs := sum(each.trained_epochs for each in (*search.results, *search.fewer)):
        found.append(("Epochs trained", f"{epochs:,}"))
    return found


def compared(search: Search) -> list[Compared]:
    """The backbones by slot, those that are flagged too."""
    ranked = {short: slot for slot, shorts in search.slots.items() for short in shorts}
    random, made = words.is_random(search), words.is_made_up(search)
    found = []
    for short in dict.fromkeys([*ranked, *search.keys, *search.flagged]):
        why = search.flagged.get(short, "")
        kind = "flagged" if why else "random" if short in random else "made-up" if short in made else ""
        weights = str(search.infos.get(short, {}).get("weights", "unknown"))
        state = f"not ranked: {why}" if why else "ranked"
        found.append(Compared(short, ranked.get(short, ""), search.keys.get(short, "unknown"), weights, state, kind))
    return found


def about(search: Search) -> list[tuple[str, str]]:
    """What was compared, in pairs of name and value."""
    clips = ", ".join(f"{split} {have:,} of {asked:,}" for split, (have, asked) in search.clips.items())
    found = [
        ("Store", search.store),
        ("Labels", search.labels),
        ("Clips", clips),
        ("Compared by", words.metric_of(search)),
        ("Seeds", ", ".join(map(str, search.seeds))),
    ]
    return [(name, value or "not recorded") for name, value in found]


def meaning(name: str) -> str:
    """What an estimator says; empty for one that is not known."""
    known = next((said for prefix, said in ESTIMATORS.items() if name.startswith(prefix)), "")
    level = LEVELS.get(name.rpartition("_")[2], "")
    return f"{known}; {level}" if known and level and not name.startswith("cka") else known


def estimators_told(search: Search) -> list[Estimator]:
    """All estimators, the one that transfer ranks by first."""
    rows = {row["method"].partition(": ")[2]: row for row in methods_rows(search) if row["method"] not in words.MEANING}
    return [Estimator(name, meaning(name), row) for name, row in rows.items()]


def settings(search: Search) -> list[tuple[str, list[tuple[str, str]]]]:
    """Panels of names and values."""
    panels = [
        ("Settings", list(_flat(search.config))),
        ("Ran on", list(search.ran_on)),
        ("Versions", list(_flat(search.versions))),
    ]
    return [(title, pairs) for title, pairs in panels if pairs]


def _flat(told: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", in_words(value)


def by_classes(search: Search) -> list[tuple[Result, float | None]]:
    """Traversals by how many classes their training clips keep, and how well each agrees with the one of the most classes."""
    found = traversals(search)
    scores = {each.folder: {one.name: one.score.mean for one in each.ranking} for each in found}
    return [
        (each, same.tau if i and (same := agree(found[0], scores[each.folder])) is not None else None)
        for i, each in enumerate(found)
    ]
