"""Reading a search: what is there, and errors in one line for what is damaged or newer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from extract.errors import PlanError
from pipelines.collocation.collocations import Collocation
from pipelines.collocation.report.read import read_search


def change(file: Path, **changes: Any) -> None:
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | changes))


def test_a_whole_search(full: Path) -> None:
    found = read_search(full)
    assert [each.method for each in found.results] == ["traverse", "halving", "decoupled", "transfer"]
    assert [each.train_classes for each in found.fewer] == [20, 15, 10]
    assert found.lead is found.of("traverse")
    assert found.clips["train"] == (9000, 10000)
    traverse = found.results[0]
    assert (traverse.rows, traverse.train_s, traverse.val_s) == (12, 6.0, 3.0)
    assert traverse.ranking[0].name == traverse.winner
    assert traverse.by_name["vggish+polynet"].collocation == Collocation("vggish", "polynet")
    assert traverse.difference is not None
    assert traverse.difference.low == 0.7
    assert len(found.results[1].rounds) == 2
    assert found.results[1].rounds[0].names
    assert found.results[2].path[0].tried == {"lr=1e-4": 46.1, "lr=3e-4": 47.0}
    assert found.results[3].by == "logme_clips"
    assert found.recall[0]["kind"] == "across"
    assert dict(found.ran_on) == {"device": "cpu", "precision": "float32", "lanes": "2"}


@pytest.mark.parametrize(
    ("methods", "lead"),
    [
        (["transfer"], "transfer"),
        (["transfer", "decoupled"], "decoupled"),
        (["decoupled", "halving"], "halving"),
        ([], None),
    ],
)
def test_the_most_trustworthy_method_leads(
    made: ModuleType, tmp_path: Path, methods: list[str], lead: str | None
) -> None:
    found = read_search(made.make_search(tmp_path / "s", methods=methods, recall=False))
    assert (found.lead.method if found.lead else None) == lead
    assert found.fewer == ()
    assert found.recall == ()


def test_of_one_seed_there_is_no_deviation(made: ModuleType, tmp_path: Path) -> None:
    folder = made.make_search(tmp_path / "s", methods=["traverse"], fewer=())
    path = folder / "traverse" / "result.json"
    told = json.loads(path.read_text())
    told["ranking"][0] |= {"std": 0.0, "values": [51.0], "score": None}
    path.write_text(json.dumps(told))
    first = read_search(folder).results[0].ranking[0]
    assert math.isnan(first.score.std)
    assert math.isnan(first.score.mean)


def test_a_folder_that_holds_no_search(tmp_path: Path) -> None:
    with pytest.raises(
        PlanError, match=r"collocate\.json is not there; give the folder that `extract collocate -o` wrote"
    ):
        read_search(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'"text"', b"[" * 100_000])
@pytest.mark.parametrize("name", ["collocate.json", "traverse/result.json"])
def test_files_that_are_no_json_objects(made: ModuleType, tmp_path: Path, name: str, raw: bytes) -> None:
    folder = made.make_search(tmp_path / "s", methods=["traverse"], fewer=())
    (folder / name).write_bytes(raw)
    with pytest.raises(PlanError, match=rf"{name} is damaged: ") as error:
        read_search(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("collocate.json", {"version": 2}, "is of version 2, and this program reads up to 1"),
        ("traverse/result.json", {"version": 7}, "is of version 7"),
        ("collocate.json", {"task": 5}, "task is 5, and a text is needed"),
        ("collocate.json", {"slots": ["vggish"]}, "an object is needed"),
        ("collocate.json", {"slots": {"audio": [1]}}, r"slots\.audio\[0\] is 1, and a text is needed"),
        ("collocate.json", {"clips": {"train": [1]}}, r"clips\.train has 1 numbers, and two are needed"),
        ("collocate.json", {"clips": {"train": [1, "x"]}}, r"clips\.train\[1\] is 'x', and a whole number is needed"),
        ("collocate.json", {"flagged": {"a": None}}, r"flagged\.a is None"),
        ("collocate.json", {"infos": {"a": 3}}, r"infos\.a is 3, and an object is needed"),
        ("traverse/result.json", {"method": "guess"}, "method is 'guess', and one of traverse, halving"),
        ("traverse/result.json", {"ranking": {}}, "ranking is {}, and a list is needed"),
        ("traverse/result.json", {"ranking": [3]}, r"ranking\[0\] is 3, and an object is needed"),
        ("traverse/result.json", {"wall_s": "long"}, "wall_s is 'long', and a finite number or null is needed"),
        ("traverse/result.json", {"wall_s": True}, "wall_s is True"),
        ("traverse/result.json", {"wall_s": math.inf}, "wall_s is inf"),
        ("traverse/result.json", {"wall_s": 10**400}, "wall_s is 1000"),
        ("traverse/result.json", {"settled": "yes"}, "settled is 'yes', and true, false or null is needed"),
        ("traverse/result.json", {"trained_epochs": -1}, "trained_epochs is -1"),
        ("traverse/result.json", {"seeds": [True]}, r"seeds\[0\] is True"),
        ("traverse/result.json", {"path": [{"incumbent": "a"}]}, r"path\[0\]\.score is missing"),
    ],
)
def test_entries_of_another_kind_are_named(
    made: ModuleType, tmp_path: Path, name: str, changes: dict[str, Any], said: str
) -> None:
    folder = made.make_search(tmp_path / "s", methods=["traverse"], fewer=())
    change(folder / name, **changes)
    with pytest.raises(PlanError, match=rf"{name} .*{said}") as error:
        read_search(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a+b"}, r"ranking\[0\]\.name is 'a\+b', and its backbones make"),
        ({"audio": None}, r"ranking\[0\]\.audio is None"),
        ({"rank": 1.5}, r"ranking\[0\]\.rank is 1\.5"),
        ({"std": -0.5}, r"ranking\[0\]\.std is -0\.5, and a number of at least 0 is needed"),
        ({"test": {"segment_type": {"mean": "x"}}}, r"ranking\[0\]\.test\.segment_type\.mean is 'x'"),
    ],
)
def test_a_damaged_row_is_named(made: ModuleType, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = made.make_search(tmp_path / "s", methods=["traverse"], fewer=())
    path = folder / "traverse" / "result.json"
    told = json.loads(path.read_text())
    told["ranking"][0] |= changes
    path.write_text(json.dumps(told))
    with pytest.raises(PlanError, match=said):
        read_search(folder)


def test_a_collocation_ranked_twice(made: ModuleType, tmp_path: Path) -> None:
    folder = made.make_search(tmp_path / "s", methods=["traverse"], fewer=())
    path = folder / "traverse" / "result.json"
    told = json.loads(path.read_text())
    change(path, ranking=[*told["ranking"], told["ranking"][0]])
    with pytest.raises(PlanError, match=r"ranking holds .* twice"):
        read_search(folder)


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("recall.csv", b"", "its columns lack kind"),
        ("recall.csv", b"kind,audio\n", "its columns lack visual"),
        ("traverse/epochs.csv", b"collocation,seed,epoch\na,0\n", "row 2 has 2 cells, its header 3"),
        ("traverse/epochs.csv", b"\xff\xfe", "can't decode"),
    ],
)
def test_damaged_tables(made: ModuleType, tmp_path: Path, name: str, raw: bytes, said: str) -> None:
    folder = made.make_search(tmp_path / "s", methods=["traverse"], fewer=())
    (folder / name).write_bytes(raw)
    with pytest.raises(PlanError, match=rf"{name} is damaged: .*{said}"):
        read_search(folder)
