"""The results table of LLP, and the published numbers in it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from extract.errors import PlanError
from pipelines.parsing.page.published_scores import PUBLISHED, beside
from pipelines.parsing.page.tables import METRICS, cells, remark_on, table, table_csv

HAN = beside("avvp", "han", "weak")[0].scores()


def test_the_table_as_text() -> None:
    wrong = {"segment_audio": 60.4, "segment_visual": 51.5, "segment_audio_visual": 50.2, "segment_type": 53.3}
    assert table({"HAN": HAN, "retrained": wrong}).splitlines() == [
        "          | Segment-level                  | Event-level",
        "          |    A     V    AV   Type  Event |    A     V    AV  Type  Event",
        "----------+--------------------------------+------------------------------",
        "HAN       | 60.1  52.9  48.9  54.0    55.4 | 51.3  48.9  43.0  47.7   48.0",
        "retrained | 60.4  51.5  50.2  54.0*      - |    -     -     -     -      -",
        "* retrained: segment-level Type is given as 53.3, its parts make 54.0",
    ]


def test_several_seeds_and_accuracy() -> None:
    assert "66.7±0.4" in table({"AVEL": {"accuracy": (66.72, 0.41)}})
    assert table({"PSP": {"accuracy": 73.5}}).splitlines() == ["    | Accuracy", "----+---------", "PSP |     73.5"]
    with pytest.raises(PlanError, match="at least one row"):
        table({})


def test_a_name_cannot_command_the_terminal() -> None:
    assert "\x1b" not in table({"\x1b[2J": HAN})


def test_the_table_as_csv_holds_all_digits() -> None:
    rows = list(
        csv.reader(io.StringIO(table_csv({"a, b": {"segment_audio": 1 / 3}, "c": {"event_type": (50.5, 0.25)}})))
    )
    assert rows[0] == ["name", *METRICS, "event_type_std"]
    assert rows[1] == ["a, b", repr(1 / 3), *[""] * 10]
    assert rows[2] == ["c", *[""] * 8, "50.5", "", "0.25"]


def test_type_is_always_computed_from_its_parts() -> None:
    parts = {"segment_audio": 10.0, "segment_visual": 20.0, "segment_audio_visual": 60.0}
    assert cells(parts, ["segment_type"])[0].value == 30.0
    assert cells({**parts, "segment_type": 30.05}, ["segment_type"])[0].printed is None
    assert cells({**parts, "segment_type": 30.1}, ["segment_type"])[0].printed == 30.1
    assert cells({"segment_type": 30.1}, ["segment_type"])[0].value == 30.1  # its parts are not known


def test_exactly_those_printed_types_are_flagged_that_do_not_follow_from_their_parts() -> None:
    flagged = {
        row.source: remark for row in PUBLISHED if row.segment and (remark := remark_on("", cells(row.scores())))
    }
    told = {source.partition(", ")[2].partition(", ")[2]: remark for source, remark in flagged.items()}
    assert told == {
        "Table 6: Baseline": ": segment-level Type is given as 53.3, its parts make 54.0",
        "Table 7: M-1": ": segment-level Type is given as 55.1, its parts make 54.8; "
        "event-level Type is given as 48.9, its parts make 48.7",
        "Table 9": ": segment-level Type is given as 55.7, its parts make 55.8; "
        "event-level Type is given as 49.4, its parts make 49.2",
    }


def test_published_rows_stand_beside_the_runs_they_belong_to() -> None:
    assert [row.accuracy for row in beside("ave", "psp", "weak")] == [73.5, 72.7, 73.2, 17.79, 82.21]
    assert [row.accuracy for row in beside("ave", "dmrn", "full")] == [73.1, 17.79, 82.21]
    assert len(beside("avvp", "han", "weak", "non_common")) == 2
    assert beside("avvp", "avel", "weak") == ()
    assert all(row.source for row in PUBLISHED)


def test_published_trivial_scores_are_the_official_ones(shared: Path) -> None:
    """The rows for trivial predictions against the file of locked scores."""
    locked = json.loads((shared / "data/derived/avvp_baseline_scores.json").read_text())
    by_name = {row.name: row for row in beside("avvp", "han", "weak")}
    for name, key in (("Nothing is there", "empty"), ("All labels of the clip, always", "weak_full")):
        told = locked[f"test|AVVP_eval_audio.csv|{key}"]
        for level, five in (("seg", by_name[name].segment), ("ev", by_name[name].event)):
            assert five == pytest.approx(
                [told[f"{level}_{part}"] for part in ("A", "V", "AV", "Type", "Event")], abs=0.006
            )
