"""Tables and figures of Wu et al. in their layout, our numbers beside the printed ones."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.collocation.collocations import Collocation
from pipelines.collocation.report import paper
from pipelines.collocation.report.compared import Row, tested
from pipelines.collocation.report.told import Result, Search
from pipelines.parsing.page.told import number


def table1_rows(search: Search) -> list[Row]:
    """The rows of ``recall.csv``, each beside the number that Table 1 prints for its kind; empty without that file."""
    return [
        {**row, "recall": number(row["recall"]), "printed": paper.TABLE1.get(row["kind"], "")} for row in search.recall
    ]


def table3_rows(search: Search) -> list[Row]:
    """Table 3's layout: a row per audio network, a column per visual one, mean of test over seeds; then the printed row.

    Empty where no collocation was tested.
    """
    lead = search.lead
    if lead is None or not any(search.metric in tested(search, each.name) for each in lead.ranking):
        return []
    visuals = paper.visual_order(list(dict.fromkeys(each.collocation.visual for each in lead.ranking)))
    fixed = dict.fromkeys((each.collocation.audio, each.collocation.clip) for each in lead.ranking)
    rows: list[Row] = []
    for audio, clip in fixed:
        means = {name: tested(search, Collocation(audio, name, clip).name).get(search.metric) for name in visuals}
        row: Row = {"audio": audio, "clip": clip, "source": "ours, test"}
        rows.append(row | {_column(name): "" if spread is None else spread.mean for name, spread in means.items()})
    printed = {_column(name): paper.TABLE3.get(paper.visual_network(name), "") for name in visuals}
    theirs = any(paper.audio_network(audio) == "VGGish" for audio, _ in fixed)
    if search.task == "avvp" and theirs and any(value != "" for value in printed.values()):
        rows.append({"audio": "VGGish", "clip": "", "source": paper.SOURCE, **printed})
    return rows


def _column(name: str) -> str:
    """A column for a visual backbone, also where that is called like another column."""
    return f"visual {name}" if name in ("audio", "clip", "source") else name


def table5_rows(search: Search) -> list[Row]:
    """Table 5's layout: seconds of traversal and of the decoupled method, and their ratio; empty without both."""
    full, cheap = search.of("traverse"), search.of("decoupled")
    if full is None or cheap is None:
        return []
    pairs = [("ours, on the clock", full.wall_s, cheap.wall_s), ("ours, work", full.work_s, cheap.work_s)]
    rows = [_seconds(*each) for each in pairs]
    return [*rows, _seconds(paper.SOURCE, *paper.TABLE5_S)] if search.task == "avvp" else rows


def _seconds(source: str, full_s: float, cheap_s: float) -> Row:
    ratio = full_s / cheap_s if cheap_s > 0 else float("nan")
    return {"source": source, "traverse_s": full_s, "decoupled_s": cheap_s, "ratio": ratio}


def fig5_rows(search: Search) -> list[Row]:
    """A row per collocation in the paper's order, with the score and deviation of every method, and the mean on test."""
    rows = []
    for collocation in _collocations(search.results):
        name, number = collocation.name, paper.place(collocation)
        row: Row = {"collocation": name, "fig5": number if number <= paper.FIG5_PRINTED else ""}
        for result in search.results:
            found = result.by_name.get(name)
            row[result.method] = "" if found is None else found.score.mean
            if result.method != "transfer":
                row[f"{result.method}_std"] = "" if found is None else found.score.std
        spread = tested(search, name).get(search.metric)
        rows.append(row | ({} if spread is None else {"test": spread.mean, "test_std": spread.std}))
    return rows


def fig6_rows(search: Search) -> list[Row]:
    """A row per collocation, a column per number of training classes; empty unless a traversal kept fewer classes.

    Scores are of test where every traversal has them, as in the paper, else of val; the column ``split`` says which.
    """
    if not search.fewer:
        return []
    found = traversals(search)
    test = all(search.metric in each.test for result in found for each in result.ranking)
    rows = []
    for collocation in _collocations(found):
        row: Row = {"collocation": collocation.name, "split": "test" if test else "val"}
        for result in found:
            each = result.by_name.get(collocation.name)
            spread = None if each is None else each.test[search.metric] if test else each.score
            label = str(result.train_classes)
            row |= {label: "" if spread is None else spread.mean, f"{label}_std": "" if spread is None else spread.std}
        rows.append(row)
    return rows


def traversals(search: Search) -> list[Result]:
    """Traversals by how many classes their training clips keep, the most first; one for each number."""
    full = search.of("traverse")
    every = {each.train_classes: each for each in (*search.fewer, *([full] if full else []))}
    return [every[classes] for classes in sorted(every, reverse=True)]


def heat_rows(search: Search) -> list[Row]:
    """Audio by visual: what the most trustworthy method ranks by; with clip-level backbones, a row for each of these too."""
    lead = search.lead
    if lead is None:
        return []
    visuals = paper.visual_order(list(dict.fromkeys(each.collocation.visual for each in lead.ranking)))
    rows = []
    for audio, clip in dict.fromkeys((each.collocation.audio, each.collocation.clip) for each in lead.ranking):
        found = {name: lead.by_name.get(Collocation(audio, name, clip).name) for name in visuals}
        scores = {_column(name): "" if each is None else each.score.mean for name, each in found.items()}
        rows.append({"audio": audio, "clip": clip, **scores})
    return rows


def _collocations(results: Iterable[Result]) -> list[Collocation]:
    """All that some methods ranked, each once, in the paper's order."""
    return paper.in_order(list(dict.fromkeys(each.collocation for result in results for each in result.ranking)))
