"""What the page says of scores: ours beside the published ones, under which protocol, and what must be known to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from pipelines.parsing.page.published_scores import COMPUTED, PUBLISHED_INTERFERENCE, beside
from pipelines.parsing.page.tables import METRICS, PARTS, Cell, Number, cells, remark_on
from pipelines.parsing.page.told import SUBSETS, RunTold, interference_of, mapping, number, percents

MODELS = {"han": "HAN", "jomold": "JoMoLD", "avel": "AVEL", "dmrn": "DMRN", "psp": "PSP"}
HALF_PRECISION = 0.5
"""Percent by which rounding of the saved predictions to float16 may move a score."""
FACTS = ("clips", "of", "epoch", "epochs", "accuracy", *METRICS)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A row of a table of scores; `kind` is ours, published or trivial."""

    name: str
    kind: str
    cells: tuple[Cell, ...]
    source: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores beside published ones: `heads` one per column, `remarks` about Types that do not follow from their parts."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a reader must know before any number; `kind` is empty, or ``bad``."""

    head: str
    words: str
    kind: str = ""


def method_of(run: RunTold) -> str:
    """The name of what was trained, such as ``HAN + MTSM``."""
    model = str(run.config.get("model", ""))
    name = MODELS.get(model, model or "A parser")
    name += " + MTSM" if run.options.get("loss") == "mtsm" else ""
    name += " + cross-instance augmentation" if run.options.get("augment") == "cross_instance" else ""
    return name + (f" ({run.config['supervision']})" if run.task == "ave" and "supervision" in run.config else "")


def title_of(run: RunTold) -> str:
    """The main numbers in one line."""
    told = percents(run.scores.get(run.split, {}))
    name = method_of(run) + (f", {len(run.runs)} seeds" if run.runs else "")
    if "accuracy" in told:
        return f"{name}: accuracy {cells(told, ['accuracy'])[0]} % on {run.split}"
    segment, event = cells(told, ["segment_type", "event_type"])
    if segment.value is None:
        return f"{name}: no scores yet"
    return f"{name}: Type@AV {segment} segment-level, {event} event-level on {run.split}"


def over(told: Mapping[str, Any]) -> str:
    """``1,108 of 1,200 clips``; empty where it is not known."""
    clips, of = number(told.get("clips")), number(told.get("of"))
    if not isfinite(clips):
        return ""
    return f"{clips:,.0f} of {of:,.0f} clips" if isfinite(of) else f"{clips:,.0f} clips"


def score_tables(run: RunTold) -> tuple[ScoreTable, ...]:
    """Our scores of every split beside the published ones; then those of the subsets that were scored."""
    names = ("accuracy",) if run.task == "ave" else METRICS
    heads = ("Accuracy",) if run.task == "ave" else tuple(PARTS.values()) * 2
    found = [_score_table(run, "", dict(run.scores), names, heads)]
    for subset in SUBSETS:
        some = {split: inner for split, told in run.scores.items() if (inner := mapping(told.get(subset)))}
        if some:
            found.append(_score_table(run, subset, some, names, heads))
    return tuple(found)


def _score_table(
    run: RunTold, subset: str, ours: Mapping[str, Any], names: tuple[str, ...], heads: tuple[str, ...]
) -> ScoreTable:
    rows = [
        ScoreRow(
            f"{run.name}, {split}", "ours", cells(percents(told), names), over(told), str(told.get("selection", ""))
        )
        for split, told in sorted(ours.items(), key=lambda each: each[0] != run.split)
    ]
    model, supervision = str(run.config.get("model", "")), str(run.config.get("supervision", "weak"))
    for each in beside(run.task, model, supervision, subset):
        note = "; ".join(
            [*([f"chosen on {each.selection}"] if each.selection else []), *([each.note] if each.note else [])]
        )
        kind = "trivial" if each.source in COMPUTED else "published"
        rows.append(ScoreRow(each.name, kind, cells(each.scores(), names), each.source, note))
    remarks = tuple(remark for row in rows if (remark := remark_on(row.name, row.cells, names)))
    return ScoreTable(subset.replace("_", "-"), heads, tuple(rows), remarks)


def notices(run: RunTold, mean: float | None = None) -> tuple[Notice, ...]:
    """What must be known before any number is read; `mean` is the score that the predictions in the folder give."""
    told = run.scores.get(run.split, {})
    found = []
    if run.options.get("select") == "test" or str(told.get("selection", "")).upper().startswith("TEST"):
        found.append(
            Notice(
                "Test-selected.", "The epoch was chosen by the scores of the test split, which flatters them.", "bad"
            )
        )
    clips, of = number(told.get("clips")), number(told.get("of"))
    if clips < of:
        found.append(Notice("Clips are missing.", f"All scores of {run.split} are over {over(told)}."))
    said = cells(percents(told), ["accuracy" if run.task == "ave" else "segment_type"])[0].value
    if mean is not None and said is not None and abs(mean - said) > HALF_PRECISION:
        words = f"The predictions of {run.split} score {mean:.1f}, and scores.json says {said:.1f}: they are of different runs."
        found.append(Notice("Timelines and scores disagree.", words, "bad"))
    labels = str(told.get("labels", ""))
    if labels and not labels.startswith("official"):
        found.append(
            Notice("Not the official labels.", f"They are {labels}. Published numbers are shown for orientation only.")
        )
    infos = mapping(run.config.get("infos"))
    made = [slot for slot, info in infos.items() if '"synthetic"' in str(mapping(info).get("identity", ""))]
    if made:
        words = f"The features in {', '.join(made)} were drawn from labels; no network saw anything."
        found.append(Notice("Made-up clips.", words))
    random = [slot for slot, info in infos.items() if slot not in made and _is_random(info)]
    if random:
        found.append(Notice("Random weights.", f"The features in {', '.join(random)} come from untrained networks."))
    return tuple(found)


def _is_random(info: object) -> bool:
    return str(mapping(info).get("weights", "")).partition(":")[0] == "random"


def facts_of(run: RunTold) -> list[tuple[str, str]]:
    """Name and value of what stands below the title."""
    told = run.scores.get(run.split, {})
    numbers = percents(told)
    found: list[tuple[str, str]] = []
    for name, head in (("segment_event", "Event@AV, segment"), ("event_event", "Event@AV, event")):
        if name in numbers:
            found.append((head, str(cells(numbers, [name])[0])))
    found.append(("Clips", over(told).removesuffix(" clips") or "unknown"))
    gate = told.get("gate", run.options.get("gate")) if run.task == "avvp" else None
    found += [("Gate", str(gate))] if gate else []
    epoch, epochs = number(told.get("epoch")), number(told.get("epochs"))
    if isfinite(epoch):
        found.append(("Epoch kept", f"{epoch:.0f}" + (f" of {epochs:.0f}" if isfinite(epochs) else "")))
    if run.runs:
        found.append(("Seeds", ", ".join(name.removeprefix("seed-") for name, _ in run.runs)))
    elif "seed" in run.config:
        found.append(("Seed", str(run.config["seed"])))
    return found


def protocol_of(run: RunTold) -> list[tuple[str, str]]:
    """How the scores were made: the lines that belong beside them wherever they are shown."""
    told = run.scores.get(run.split, {})
    lines = [
        ("Scored over", over(told)),
        ("Gate", str(told.get("gate", ""))),
        ("Labels", str(told.get("labels", ""))),
        ("Epoch chosen by", str(told.get("selection", run.config.get("selection", "")))),
    ]
    return [(name, words or "not recorded") for name, words in lines if words or name != "Gate" or run.task == "avvp"]


def interference_rows(run: RunTold) -> list[tuple[str, float, int | None, float, float]]:
    """Metric, our percent, clips, and the published percent of HAN and of HAN with augmentation."""
    found = interference_of(run.scores.get(run.split, {}))
    words = {"a_fp_vo": "A_FP_VO", "v_fp_ao": "V_FP_AO", "a_leak_v": "A_Leak_V", "v_leak_a": "V_Leak_A"}
    return [(words[name], value, clips, *PUBLISHED_INTERFERENCE[name]) for name, value, clips in found]


def seed_rows(run: RunTold) -> list[tuple[str, str, Cell, list[float]]]:
    """Split, metric, mean and standard deviation, and the value of every seed."""
    found = []
    for split, metrics in run.seeds.items():
        pairs: Mapping[str, Number] = percents(run.scores.get(split, {}))
        for name, values in metrics.items():
            pair = pairs[name]
            if isinstance(pair, tuple):
                found.append((split, name.replace("_", " "), Cell(*pair), list(values)))
    return found


def other_scores(run: RunTold) -> list[tuple[str, str, Number]]:
    """Split, name and value of the numbers that no other table shows."""
    return [
        (split, name.replace("_", " "), value)
        for split, told in run.scores.items()
        for name, value in percents(told).items()
        if name not in FACTS
    ]
