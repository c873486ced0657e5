"""The tables of a search: rows, the paper's layouts, CSV files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from extract.errors import StoreError, StoreUnwritable
from pipelines.collocation.collocations import Collocation
from pipelines.collocation.report import paper
from pipelines.collocation.report.compared import methods_rows, ranking_rows
from pipelines.collocation.report.layouts import (
    fig5_rows,
    fig6_rows,
    heat_rows,
    table1_rows,
    table3_rows,
    table5_rows,
)
from pipelines.collocation.report.read import read_search
from pipelines.collocation.report.tables import check_tables, tables, write_tables

SMALL = {"audio": ["a1", "a2"], "visual": ["v1", "v2"]}
SCORES = {"a1+v1": 50.0, "a1+v2": 48.0, "a2+v1": 46.0, "a2+v2": 44.0}


def row_of(name: str, score: float | None, rank: int, **more: Any) -> dict[str, Any]:
    audio, visual = name.split("+")
    return {
        "rank": rank, "name": name, "audio": audio, "visual": visual, "clip": "", "score": score, "std": 0.5,
        "values": [1.0, 2.0], "test": {}, "wins": 0, "epochs": 80, "seconds": 2.0, "out": "",
    } | more  # fmt: skip


def ranking_of(scores: dict[str, float | None], **more: Any) -> list[dict[str, Any]]:
    order = sorted(scores, key=lambda name: -(scores[name] if scores[name] is not None else -1.0))
    return [row_of(name, scores[name], rank, **more) for rank, name in enumerate(order, 1)]


@pytest.fixture
def small(made: ModuleType, tmp_path: Path) -> Path:
    """Four collocations; traverse, and decoupled with the last two swapped."""
    folder: Path = made.make_search(tmp_path / "s", slots=SMALL, methods=[], recall=False)
    made.write(folder, "traverse", made.make_result("traverse", ranking_of(SCORES)))
    swapped = SCORES | {"a2+v1": 40.0}
    made.write(folder, "decoupled", made.make_result("decoupled", ranking_of(swapped)))
    return folder


def by(rows: list[dict[str, Any]], column: str, value: str) -> dict[str, Any]:
    (found,) = [row for row in rows if row[column] == value]
    return found


def test_agreement_and_speed_of_methods(small: Path) -> None:
    rows = methods_rows(read_search(small))
    assert [row["method"] for row in rows] == ["traverse", "decoupled"]
    assert rows[0]["kendall_tau"] == ""
    assert rows[0]["times_faster_than_traverse"] == 1
    cheap = rows[1]
    assert cheap["kendall_tau"] == pytest.approx(4 / 6)  # 5 of 6 pairs in the same order
    assert (cheap["kendall_n"], cheap["same_winner_as_traverse"], cheap["rank_of_traverse_winner"]) == (4, "yes", 1)
    assert cheap["times_faster_than_traverse"] == pytest.approx(3.1)


def test_halving_agrees_by_rank_not_by_score(made: ModuleType, small: Path) -> None:
    odd = ranking_of(SCORES)
    for row, score in zip(odd, (45.0, 52.0, 30.0, 33.0), strict=True):  # of other numbers of epochs
        row["score"] = score
    made.write(small, "halving", made.make_result("halving", odd))
    assert by(methods_rows(read_search(small)), "method", "halving")["kendall_tau"] == pytest.approx(1)


def test_a_method_that_ranks_the_best_last(made: ModuleType, small: Path) -> None:
    upside_down = {name: -score for name, score in SCORES.items()}
    made.write(small, "decoupled", made.make_result("decoupled", ranking_of(upside_down), winner="a2+v2", wall_s=0.0))
    row = by(methods_rows(read_search(small)), "method", "decoupled")
    assert row["kendall_tau"] == pytest.approx(-1)
    assert (row["same_winner_as_traverse"], row["rank_of_traverse_winner"]) == ("no", 4)
    assert math.isnan(row["times_faster_than_traverse"])


def test_every_estimator_has_a_row_the_one_that_ranks_first(made: ModuleType, small: Path) -> None:
    estimates = {name: {"cos_psi_audio": -score, "logme_clips": score} for name, score in SCORES.items()}
    estimates["a2+v2"]["cos_psi_audio"] = math.nan
    told = made.make_result("transfer", ranking_of(SCORES), by="logme_clips", estimates=estimates)
    made.write(small, "transfer", told)
    full = json.loads((small / "traverse" / "result.json").read_text())
    made.write(small, "traverse", full | {"fused": {name: {"cos_psi_fused": 0.5} for name in SCORES}})
    rows = methods_rows(read_search(small))
    names = [row["method"] for row in rows]
    assert names[2:] == ["transfer", "transfer: logme_clips", "transfer: cos_psi_audio", "fused: cos_psi_fused"]
    assert by(rows, "method", "transfer: logme_clips")["kendall_tau"] == pytest.approx(1)
    other = by(rows, "method", "transfer: cos_psi_audio")
    assert (other["kendall_tau"], other["kendall_n"], other["winner"]) == (pytest.approx(-1), 3, "a2+v1")
    assert math.isnan(by(rows, "method", "fused: cos_psi_fused")["kendall_tau"])
    table = tables(read_search(small))["estimates"]
    assert table[0] == {"collocation": "a1+v1", "logme_clips": 50.0, "cos_psi_audio": -50.0, "cos_psi_fused": 0.5}


def test_the_ranking_holds_every_method(made: ModuleType, small: Path) -> None:
    tested = {"segment_type": {"mean": 40.0, "std": 1.0, "values": [39, 41]}}
    first = ranking_of({name: SCORES[name] for name in list(SCORES)[:3]}, test=tested)
    made.write(small, "traverse", made.make_result("traverse", first))
    rows = ranking_rows(read_search(small))
    assert [(row["rank"], row["collocation"]) for row in rows] == [
        (1, "a1+v1"), (2, "a1+v2"), (3, "a2+v1"), ("", "a2+v2"),
    ]  # fmt: skip
    assert {name: rows[0][name] for name in ("traverse_score", "traverse_std", "traverse_wins", "decoupled_score")} == {
        "traverse_score": 50.0, "traverse_std": 0.5, "traverse_wins": 0, "decoupled_score": 50.0,
    }  # fmt: skip
    assert (rows[0]["test_segment_type"], rows[0]["test_segment_type_std"]) == (40.0, 1.0)
    assert (rows[3]["traverse_score"], rows[3]["decoupled_score"]) == ("", 44.0)
    assert "test_segment_type" not in rows[3]


def test_table_3_stands_beside_the_printed_row(full: Path) -> None:
    search = read_search(full)
    rows = table3_rows(search)
    assert list(rows[0])[3:] == ["vgg19_bn", "resnet152", "senet154", "polynet", "openl3_image_mel256_env_512"]
    assert [row["audio"] for row in rows] == ["vggish", "openl3_audio_mel256_env_512", "VGGish"]
    best = search.results[0].by_name["vggish+polynet"]
    assert rows[0]["polynet"] == best.test["segment_type"].mean
    assert list(rows[2].values())[2:] == [paper.SOURCE, 54.1, 53.7, 53.5, 52.8, 52.4]
    assert "printed" in paper.SOURCE


def test_table_3_prints_the_paper_only_beside_its_networks(made: ModuleType, tmp_path: Path) -> None:
    slots = {"audio": ["vggish"], "visual": ["vgg19_bn_pool5", "polynet", "clip"]}
    rows = table3_rows(read_search(made.make_search(tmp_path / "a", slots=slots, methods=["traverse"])))
    assert rows[1] == {
        "audio": "VGGish", "clip": "", "source": paper.SOURCE, "polynet": 52.8, "vgg19_bn_pool5": "", "visual clip": "",
    }  # fmt: skip
    for i, slots in enumerate(
        ({"audio": ["vggish_pca8"], "visual": ["polynet"]}, {"audio": ["vggish"], "visual": ["x"]})
    ):
        rows = table3_rows(read_search(made.make_search(tmp_path / f"b{i}", slots=slots, methods=["traverse"])))
        assert [row["source"] for row in rows] == ["ours, test"]
    assert table3_rows(read_search(made.make_search(tmp_path / "c", methods=["transfer"]))) == []


def test_table_5_has_our_ratio_and_theirs(full: Path, made: ModuleType, tmp_path: Path) -> None:
    rows = table5_rows(read_search(full))
    assert rows[0]["ratio"] == pytest.approx(3.1)
    assert (rows[2]["traverse_s"], rows[2]["decoupled_s"], round(rows[2]["ratio"], 3)) == (33887.77, 11706.04, 2.895)
    ave = made.make_search(tmp_path / "s", task="ave", metric="accuracy")
    assert len(table5_rows(read_search(ave))) == 2
    assert table5_rows(read_search(made.make_search(tmp_path / "t", methods=["traverse"]))) == []


def test_table_1_stands_beside_the_printed_numbers(full: Path) -> None:
    rows = table1_rows(read_search(full))
    assert {(row["kind"], row["printed"]) for row in rows} == {("within", 97.14), ("across", 29.18)}
    assert {row["reading"] for row in rows} == {"shares a label", "equal labels"}
    assert rows[0]["recall"] == 22.4


def test_fig_5_is_in_the_papers_order(full: Path) -> None:
    rows = fig5_rows(read_search(full))
    openl3 = "openl3_audio_mel256_env_512"
    assert [row["collocation"] for row in rows] == [
        "vggish+resnet152", "vggish+vgg19_bn", "vggish+senet154", "vggish+polynet", "vggish+openl3_image_mel256_env_512",
        f"{openl3}+openl3_image_mel256_env_512", f"{openl3}+vgg19_bn", f"{openl3}+resnet152", f"{openl3}+senet154",
        f"{openl3}+polynet",
    ]  # fmt: skip
    assert [row["fig5"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8, "", ""]
    assert {"traverse", "traverse_std", "halving", "decoupled", "transfer", "test"} <= rows[0].keys()


def test_places_of_other_networks() -> None:
    assert paper.place(Collocation("vggish@0123", "resnet152@ab")) == 1
    assert paper.place(Collocation("vggish", "resnet18")) > 10
    assert [paper.visual_network(name) for name in ("vgg19_bn", "vgg19_bn_pool5", "vgg19", "openl3_image_linear_env_512")] == [
        "VGG19_bn", "", "", "OpenL3",
    ]  # fmt: skip
    assert paper.audio_network("openl3_image_linear_env_512") == ""


def test_fig_6_has_a_column_per_number_of_classes(full: Path, made: ModuleType, tmp_path: Path) -> None:
    rows = fig6_rows(read_search(full))
    assert list(rows[0]) == ["collocation", "split", "25", "25_std", "20", "20_std", "15", "15_std", "10", "10_std"]
    assert {row["split"] for row in rows} == {"test"}
    assert rows[0]["25"] > rows[0]["20"] > rows[0]["10"]
    assert fig6_rows(read_search(made.make_search(tmp_path / "s", fewer=()))) == []
    folder = made.make_search(tmp_path / "t", fewer=(20,))
    told = json.loads((folder / "traverse-20" / "result.json").read_text())
    for row in told["ranking"]:
        row["test"] = {}
    made.write(folder, "traverse-20", told)
    assert {row["split"] for row in fig6_rows(read_search(folder))} == {"val"}


def test_the_heat_map_has_a_row_per_audio_and_clip_backbone(made: ModuleType, tmp_path: Path) -> None:
    slots = {"audio": ["a1", "a2"], "visual": ["v1", "v2"], "clip": ["c1", "c2"]}
    search = read_search(made.make_search(tmp_path / "s", slots=slots))
    rows = heat_rows(search)
    assert sorted((row["audio"], row["clip"]) for row in rows) == [
        ("a1", "c1"),
        ("a1", "c2"),
        ("a2", "c1"),
        ("a2", "c2"),
    ]
    (row,) = [row for row in rows if (row["audio"], row["clip"]) == ("a2", "c1")]
    assert row["v2"] == search.results[0].by_name["a2+v2+c1"].score.mean


def test_files_hold_what_the_rows_say(full: Path, tmp_path: Path) -> None:
    told = tables(read_search(full))
    write_tables(tmp_path, told)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.csv" for name in told)
    with (tmp_path / "ranking.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == 10
    assert float(read[0]["traverse_score"]) == told["ranking"][0]["traverse_score"]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    check_tables(tmp_path)
    write_tables(tmp_path, told)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_unknown_scores_are_empty_cells(made: ModuleType, small: Path, tmp_path: Path) -> None:
    unknown: dict[str, float | None] = SCORES | {"a2+v2": None}
    made.write(small, "traverse", made.make_result("traverse", ranking_of(unknown), wall_s=None))
    write_tables(tmp_path / "tables", tables(read_search(small)))
    for name in ("ranking", "methods", "heat", "fig5"):
        assert "nan" not in (tmp_path / "tables" / f"{name}.csv").read_text()
    with (tmp_path / "tables" / "heat.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[1]["v2"] == ""
    assert methods_rows(read_search(small))[1]["kendall_n"] == 3


def test_foreign_files_stay(tmp_path: Path, full: Path) -> None:
    (tmp_path / "heat.csv").write_text("my,numbers\n1,2\n")
    with pytest.raises(StoreError, match=r"heat\.csv is there and `extract collocate` did not write it"):
        check_tables(tmp_path)
    (tmp_path / "heat.csv").unlink()
    (tmp_path / "fig5.csv").mkdir()
    with pytest.raises(StoreError, match="is a folder"):
        check_tables(tmp_path)


def test_a_folder_that_cannot_be_written_to(full: Path) -> None:
    with pytest.raises(StoreUnwritable):
        write_tables(Path("/proc/tables"), tables(read_search(full)))
