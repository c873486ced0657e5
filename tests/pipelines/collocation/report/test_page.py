"""The page of a search: what it says, that it loads nothing, that nothing in it is taken for HTML, how it is written."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

from extract.errors import PlanError, StoreError, StoreUnwritable
from extract.testing.page import Page
from pipelines.collocation.report import page as page_module
from pipelines.collocation.report.page import write_report
from pipelines.collocation.report.words import shown

SECTIONS = ["ranking", "methods", "paper", "course", "compared", "settings"]


def written(folder: Path) -> Page:
    return Page(write_report(folder).read_text())


@pytest.fixture(scope="module")
def page(full: Path) -> Page:
    return written(full)


def test_it_names_the_winner_and_shows_every_section(full: Path, page: Page) -> None:
    first = json.loads((full / "traverse" / "result.json").read_text())["ranking"][0]
    assert page.sections() == SECTIONS
    assert (
        f"{first['name']} is the best of 10 collocations: segment-level Type@AV {first['score']:.1f} ±" in page.joined
    )
    for words in (
        "9,000 of 10,000 of train, 1,100 of 1,200 of test have the features of all backbones",
        "printed, Wu et al.", "33,887.77", "97.14", "54.1", "Who left, after 4 epochs", "itself: here the search ends",
        "it does not rank", "Kendall", "mtsm.t_exp", "float32", "vggish@0123456789ab",
        "Scores of those that left early are after few epochs",
    ):  # fmt: skip
        assert words in page.joined, words
    assert "no meaning" not in page.joined
    assert "Not the official labels" not in page.joined
    assert "Ranked by" in page.joined
    assert page.count("svg") == 5


def test_every_picture_is_a_file_too(full: Path, page: Page) -> None:
    found = sorted(path.name for path in (full / "figures").iterdir())
    assert found == ["fig5.svg", "fig6.svg", "heat.svg", "seconds.svg", "tau.svg"]
    for path in (full / "figures").iterdir():
        root = ET.fromstring(path.read_text())
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert "script" not in path.read_text()


def test_it_carries_everything_within_itself(full: Path, page: Page) -> None:
    raw = (full / "page.html").read_text()
    for _, attrs in page.elements:
        for name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href"):
            assert attrs.get(name, "#").startswith("#")
        assert not any(name.startswith("on") for name in attrs)
    outside = raw.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"url\(|@import|https?://|//cdn", outside)
    assert "default-src 'none'" in raw
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_nothing_given_is_taken_for_html(made: ModuleType, tmp_path: Path) -> None:
    evil = made.EVIL
    slots = {"audio": [f"a{evil}", "=cmd&<b>"], "visual": [f'v"{evil}', "v' {x} {{ 7 }}"]}
    folder = made.make_search(
        tmp_path / "s", slots=slots, weights=evil, flagged={evil: evil}, notes=[evil], labels=evil, store=evil,
        config={evil: evil}, versions={evil: evil}, device=evil,
    )  # fmt: skip
    path = folder / "halving" / "result.json"
    told = json.loads(path.read_text())
    told |= {"verdict": evil, "notes": [evil], "finished": False}
    told["rounds"][0]["out"] = {evil: evil}
    path.write_text(json.dumps(told))
    raw = (folder / "recall.csv").read_text().replace("shares a label", "<script>1</script>")
    (folder / "recall.csv").write_text(raw)
    found = written(folder)
    assert found.count("script") == 1
    assert found.count("img") == 0
    assert found.count("b") == written_plain_bs(found)
    assert found.sections() == SECTIONS
    assert "alert('x\"&')" in found.joined
    for path in (folder / "figures").iterdir():
        ET.fromstring(path.read_text())
    assert "{{ 7 }}" in found.joined


def written_plain_bs(found: Page) -> int:
    """Bold parts that the templates make: heads of notices, and numbers of agreement."""
    return sum("notice" in attrs.get("class", "") for _, attrs in found.elements) + 4


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ([], "No method has finished yet"),
        (["transfer"], "Ranked by transfer, not by a traversal."),
        (["halving", "transfer"], "Ranked by halving, not by a traversal."),
        (["decoupled"], "Ranked by decoupled, not by a traversal."),
    ],
)
def test_any_methods_may_be_missing(made: ModuleType, tmp_path: Path, methods: list[str], said: str) -> None:
    folder = made.make_search(tmp_path / "s", methods=methods, recall=False)
    found = written(folder)
    assert found.sections() == SECTIONS
    assert said in found.joined
    assert (folder / "tables").is_dir()
    assert shown(folder)


def test_empty_rankings_are_said_to_be_so(made: ModuleType, tmp_path: Path) -> None:
    folder = made.make_search(tmp_path / "s", methods=[], recall=False)
    made.write(folder, "traverse", made.make_result("traverse", [], wall_s=None, work_s=None, difference=None))
    found = written(folder)
    assert "No collocation could be ranked" in found.joined
    assert "No method could rank anything." in found.joined
    assert shown(folder).startswith("No collocation could be ranked")


def test_one_collocation(made: ModuleType, tmp_path: Path) -> None:
    slots = {"audio": ["vggish"], "visual": ["resnet152"]}
    folder = made.make_search(tmp_path / "s", slots=slots)
    assert "vggish+resnet152 is the only collocation" in written(folder).joined


def test_two_hundred_collocations_with_a_third_slot(made: ModuleType, tmp_path: Path) -> None:
    slots = {
        "audio": [f"a{i}" for i in range(5)],
        "visual": [f"v{i}" for i in range(10)],
        "clip": [f"c{i}" for i in range(4)],
    }
    folder = made.make_search(tmp_path / "s", slots=slots, weights="random:0", fewer=(10,))
    found = written(folder)
    assert "is the best of 200 collocations" in found.joined
    assert "Random weights. The numbers have no meaning: the features of a0, a1," in found.joined
    assert "and 9 more come from untrained networks" in found.joined
    assert sorted(path.name for path in (folder / "figures").glob("heat*")) == [f"heat-{i}.svg" for i in range(1, 5)]
    assert len((folder / "page.html").read_bytes()) < 1_500_000
    text = shown(folder)
    assert "... and 180 more" in text
    assert "RANDOM WEIGHTS" in text


def test_unknown_scores_are_dashes(made: ModuleType, tmp_path: Path) -> None:
    folder = made.make_search(tmp_path / "s", methods=["traverse"], fewer=())
    path = folder / "traverse" / "result.json"
    told = json.loads(path.read_text())
    for row in told["ranking"]:
        row |= {"score": None, "std": None, "values": [], "test": {}, "seconds": None}
    told |= {"difference": None, "wall_s": None, "verdict": "", "winner": "", "runner_up": "", "settled": None}
    path.write_text(json.dumps(told))
    found = written(folder)
    assert "nan" not in found.joined.replace("finance", "")
    assert "–" in found.joined
    assert "nan" not in shown(folder)


def test_what_a_reader_must_know(made: ModuleType, tmp_path: Path) -> None:
    folder = made.make_search(
        tmp_path / "s", methods=["traverse"], flagged={"clap": "all numbers are equal in every second"}, labels="mine (0123)",
        infos={"vggish": {"weights": "random:0", "identity": '{"source": "synthetic"}'}},
    )  # fmt: skip
    path = folder / "traverse" / "result.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"settled": False, "verdict": "", "finished": False}))
    text = written(folder).joined
    for words in (
        "clap is not ranked. All numbers are equal in every second.",
        "Not settled.", "they differ by 1.9 (0.7 to 3.1, 95 %)", "traverse is not finished.",
        "Not the official labels. They are mine (0123).", "Made-up clips. The features of vggish were drawn from labels",
    ):  # fmt: skip
        assert words in text, words
    assert "Random weights" not in text
    assert "vggish+resnet152 comes first of 10 collocations" in text
    assert "made-up clips: the features of vggish were drawn from labels" in shown(folder)
    path.write_text(json.dumps(told | {"settled": False, "verdict": "not settled: chance explains it"}))
    text = written(folder).joined
    assert "Not settled: chance explains it." in text
    assert text.count("ot settled") == 2  # once above, and once where the method is told


def test_decoupled_in_folds_is_judged_by_other_clips(made: ModuleType, tmp_path: Path) -> None:
    folder = made.make_search(tmp_path / "s", methods=["decoupled"])
    same, rest = "trained on the very clips of val that judge them", "judged by the rest"
    text = written(folder).joined
    assert (text.count(same), text.count(rest)) == (2, 0)
    path = folder / "decoupled" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"folds": 5}))
    text = written(folder).joined
    assert (text.count(same), text.count(rest)) == (0, 2)


def test_seconds_of_other_means_do_not_compare(made: ModuleType, tmp_path: Path) -> None:
    folder = made.make_search(tmp_path / "s", methods=["traverse", "halving", "transfer"])
    assert "Seconds do not compare." not in written(folder).joined
    for method, ran_on in (
        ("traverse", ["cpu: 2 lanes of 5"]),
        ("halving", ["cpu: 2 lanes of 5", "cuda: 1 lane of 32"]),
    ):
        path = folder / method / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"ran_on": ran_on}))
    said = "traverse on cpu: 2 lanes of 5; halving on cpu: 2 lanes of 5, then cuda: 1 lane of 32."
    assert f"Seconds do not compare. Methods had other means: {said}" in written(folder).joined


def test_files_are_drawn_again_alike(made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module.time, "strftime", lambda *args: "now")
    folder = made.make_search(tmp_path / "s")
    write_report(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_report(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["page.html", "tables/ranking.csv", "figures/fig5.svg"])
def test_only_our_own_files_are_replaced(made: ModuleType, tmp_path: Path, name: str) -> None:
    folder = made.make_search(tmp_path / "s")
    write_report(folder)
    (folder / name).write_text("<p>mine</p>")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match=rf"{name} is there and `extract collocate` did not write it; move it away"):
        write_report(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(StoreError, match="is a folder"):
        write_report(folder)


def test_a_folder_without_a_search_gets_no_page(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"collocate\.json is not there"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(full: Path, small_disk: object, tmp_path: Path) -> None:
    folder = small_disk("256k")  # type: ignore[operator]
    for path in full.iterdir():
        if path.name not in ("page.html", "tables", "figures"):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    (folder / "ballast").write_bytes(bytes(60_000))
    with pytest.raises(StoreUnwritable):
        write_report(folder)
    assert not (folder / "page.html").exists()
    assert not list(folder.rglob("*.tmp"))


def test_the_ranking_as_text(full: Path, made: ModuleType, tmp_path: Path) -> None:
    text = shown(full)
    first = json.loads((full / "traverse" / "result.json").read_text())["ranking"][0]
    lines = text.splitlines()
    assert lines[0].startswith(f"{first['name']} is the best of 10 collocations")
    assert f"{first['score']:.1f} ± {first['std']:.1f}" in lines[3]
    assert re.search(
        r"^halving: 2\.1 min, 8\.0 times faster than traverse, Kendall tau 0\.\d\d \(p ", text, re.MULTILINE
    )
    folder = made.make_search(tmp_path / "s", slots={"audio": ["a\x1b[31m"], "visual": ["v\n"]}, notes=["x\x07"])
    assert "\x1b" not in shown(folder)
    assert "\x07" not in shown(folder)
