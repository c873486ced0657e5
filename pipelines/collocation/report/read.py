"""Reading the folder of a collocation search, strictly: a file that is there must be whole."""

from __future__ import annotations

import csv
import io
from collections import Counter
from math import isfinite
from pathlib import Path

from extract.errors import PlanError
from pipelines.collocation.collocations import Collocation
from pipelines.collocation.report.fields import Fields, in_words, read_fields
from pipelines.collocation.report.told import METHODS, Difference, Ranked, Result, Round, Search, Spread, Step
from pipelines.parsing.page.told import Table

SEARCH, RESULT, EPOCHS, RECALL = "collocate.json", "result.json", "epochs.csv", "recall.csv"
EPOCH_COLUMNS = ("collocation", "seed", "epoch")
RAN_ON = ("device", "precision", "lanes", "at_once")
RECALL_COLUMNS = ("kind", "audio", "visual", "reading", "scope", "recall", "segments")


def read_search(folder: Path) -> Search:
    """Read the folder of a search.

    Parameters
    ----------
    folder
        of ``extract collocate``; any of its methods may be missing

    Raises
    ------
    PlanError
        it holds no search, or one of its files is damaged or of a newer version
    """
    path = folder / SEARCH
    if not path.is_file():
        raise PlanError(f"{path} is not there; give the folder that `extract collocate -o` wrote")
    told = read_fields(path)
    found = [_result(each) for each in sorted(folder.glob(f"*/{RESULT}"))]
    plain = {each.method: each for each in found if each.folder == each.method}
    fewer = [each for each in found if each.method == "traverse" and each.folder != "traverse"]
    slots = told.object("slots")
    return Search(
        path=str(folder),
        task=told.text("task"),
        store=told.text("store", ""),
        metric=told.text("metric"),
        slots={name: slots.texts(name) for name in slots.told},
        keys=_texts(told.object("keys")),
        infos={name: told.object("infos").object(name).told for name in told.object("infos").told},
        config=told.object("config").told,
        seeds=told.wholes("seeds"),
        clips=_clips(told.object("clips")),
        flagged=_texts(told.object("flagged")),
        notes=told.texts("notes"),
        labels=told.text("labels", ""),
        ran_on=tuple((name, in_words(told.told[name])) for name in RAN_ON if name in told.told),
        versions=told.object("versions").told,
        results=tuple(plain[name] for name in METHODS if name in plain),
        fewer=tuple(sorted(fewer, key=lambda each: -each.train_classes)),
        recall=tuple(_recall(folder / RECALL)),
    )


def _result(path: Path) -> Result:
    told = read_fields(path)
    method = told.text("method")
    if method not in METHODS:
        raise told.wrong(f"method is {method[:60]!r}, and one of {', '.join(METHODS)} is needed")
    ranking = sorted((_ranked(each) for each in told.objects("ranking")), key=lambda each: each.rank)
    if twice := [name for name, count in Counter(each.name for each in ranking).items() if count > 1]:
        raise told.wrong(f"ranking holds {twice[0][:60]!r} twice")
    rows, train_s, val_s = _epochs(path.with_name(EPOCHS))
    return Result(
        folder=path.parent.name,
        method=method,
        metric=told.text("metric", ""),
        seeds=told.wholes("seeds"),
        epochs=told.whole("epochs", 0),
        train_classes=told.whole("train_classes", 0),
        ranking=tuple(ranking),
        winner=told.text("winner", ""),
        runner_up=told.text("runner_up", ""),
        settled=told.truth("settled", None),
        verdict=told.text("verdict", ""),
        difference=_difference(told.object("difference")),
        wall_s=told.number("wall_s", float("nan")),
        work_s=told.number("work_s", float("nan")),
        trained_epochs=told.whole("trained_epochs", 0),
        finished=told.truth("finished", True) is not False,
        notes=told.texts("notes"),
        path=tuple(_step(each) for each in told.objects("path")),
        rounds=tuple(_round(each) for each in told.objects("rounds")),
        by=told.text("by", ""),
        estimates=_by_collocation(told.object("estimates")),
        fused=_by_collocation(told.object("fused")),
        folds=told.whole("folds", 1),
        ran_on=told.texts("ran_on"),
        rows=rows,
        train_s=train_s,
        val_s=val_s,
    )


def _ranked(told: Fields) -> Ranked:
    collocation = Collocation(told.text("audio"), told.text("visual"), told.text("clip", ""))
    name = told.text("name")
    if name != collocation.name:
        raise told.wrong(f"{told.where}name is {name[:60]!r}, and its backbones make {collocation.name[:60]!r}")
    test = told.object("test")
    return Ranked(
        told.whole("rank"),
        collocation,
        _spread(told, "score"),
        {metric: _spread(test.object(metric), "mean") for metric in test.told},
        told.whole("wins", 0),
        told.whole("epochs", 0),
        told.number("seconds", float("nan")),
        told.text("out", ""),
    )


def _spread(told: Fields, mean: str) -> Spread:
    values = told.numbers("values")
    # of one value there is no deviation, though searches write 0
    std = float("nan") if len(values) == 1 else told.number("std", float("nan"))
    if std < 0:
        raise told.wrong(f"{told.where}std is {std}, and a number of at least 0 is needed")
    return Spread(told.number(mean), std, values)


def _difference(told: Fields) -> Difference | None:
    if not told.told:
        return None
    return Difference(told.number("mean"), told.number("low"), told.number("high"), told.number("confidence"))


def _step(told: Fields) -> Step:
    return Step(
        told.text("incumbent"),
        told.object("settings").told,
        _numbers(told.object("tried")),
        told.number("score"),
        told.text("best"),
        told.number("best_score"),
    )


def _round(told: Fields) -> Round:
    return Round(
        told.whole("epochs"),
        told.wholes("seeds"),
        told.texts("in"),
        told.text("leader", ""),
        _texts(told.object("out")),
    )


def _texts(told: Fields) -> dict[str, str]:
    return {name: told.text(name) for name in told.told}


def _numbers(told: Fields) -> dict[str, float]:
    return {name: told.number(name) for name in told.told}


def _by_collocation(told: Fields) -> dict[str, dict[str, float]]:
    return {name: _numbers(told.object(name)) for name in told.told}


def _clips(told: Fields) -> dict[str, tuple[int, int]]:
    found = {}
    for split in told.told:
        pair = told.wholes(split)
        if len(pair) != 2:
            raise told.wrong(
                f"{told.where}{split} has {len(pair)} numbers, and two are needed: clips, and those asked for"
            )
        found[split] = (pair[0], pair[1])
    return found


def _epochs(path: Path) -> tuple[int, float, float]:
    """Rows, and seconds of training and scoring."""
    table = _table(path, EPOCH_COLUMNS)
    if table is None:
        return 0, 0.0, 0.0
    train_s, val_s = (
        sum(filter(isfinite, table.numbers(name))) if name in table.columns else 0.0 for name in ("train_s", "val_s")
    )
    return len(table.rows), train_s, val_s


def _recall(path: Path) -> list[dict[str, str]]:
    table = _table(path, RECALL_COLUMNS)
    return [] if table is None else [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _table(path: Path, needed: tuple[str, ...]) -> Table | None:
    """A CSV; None where it is not there."""
    if not path.is_file():
        return None
    try:
        rows = [row for row in csv.reader(io.StringIO(path.read_text("utf-8"), newline="")) if row]
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror or error}; check the folder") from error
    except (ValueError, csv.Error) as error:
        raise PlanError(f"{path} is damaged: {error}; run this method of the search again") from error
    columns = tuple(rows[0]) if rows else ()
    if missing := [name for name in needed if name not in columns]:
        raise PlanError(
            f"{path} is damaged: its columns lack {', '.join(missing)}; run this method of the search again"
        )
    for i, row in enumerate(rows[1:], 2):
        if len(row) != len(columns):
            raise PlanError(
                f"{path} is damaged: row {i} has {len(row)} cells, its header {len(columns)}; run this method of the search again"
            )
    return Table(columns, tuple(map(tuple, rows[1:])))
