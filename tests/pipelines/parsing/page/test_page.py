"""The results page: what it shows, that it loads nothing, that nothing in it is taken for HTML, how it is written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from extract.errors import StoreError, StoreUnwritable
from extract.testing.page import Page
from manifests.dense import Event
from pipelines.parsing.page.curves import charts
from pipelines.parsing.page.told import Table, read_run
from pipelines.parsing.page.write import timeline_name, write_page

SECTIONS = ["scores", "classes", "training", "timelines", "configuration"]
CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def written(folder: Path, events: list[Event] | None = None) -> Page:
    return Page(write_page(folder, read_run(folder, events)).read_text())


@pytest.fixture(scope="session")
def made(load: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load("tests_run_folders", Path(__file__).with_name("run_folders.py"))


@pytest.fixture(scope="module")
def full(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = made.make_avvp(tmp_path_factory.mktemp("runs") / "han", of=64)
    return folder


@pytest.fixture(scope="module")
def page(full: Path) -> Page:
    return written(full)


@pytest.fixture
def copy(full: Path, tmp_path: Path) -> Path:
    """The run of `full`, its page taken away, to be changed."""
    folder = Path(shutil.copytree(full, tmp_path / "han"))
    (folder / "page.html").unlink(missing_ok=True)
    shutil.rmtree(folder / "timelines", ignore_errors=True)
    return folder


def test_it_shows_every_section_and_how_the_scores_were_made(full: Path, page: Page) -> None:
    scores = json.loads((full / "scores.json").read_text())["test"]
    assert page.sections() == SECTIONS
    assert (
        f"HAN: Type@AV {scores['segment_type']:.1f} segment-level, {scores['event_type']:.1f} event-level" in page.text
    )
    for words in (
        "60 of 64 clips", "Gate global", "Epoch kept 13 of 20", "best epoch on the validation split",
        "Clips are missing.", "not an official set (0123456789ab", "Random weights. The features in visual",
        "vggish 0123456789ab", "mtsm.t_exp 3.0", "torch 2.11", "clips train 100 of 100, test 60 of 64",
    ):  # fmt: skip
        assert words in page.text


def test_made_up_clips_are_said_to_be_so(copy: Path) -> None:
    told = json.loads((copy / "config.json").read_text())
    told["infos"]["visual"]["identity"] = json.dumps({"backbone": "resnet152", "source": "synthetic"})
    (copy / "config.json").write_text(json.dumps(told))
    text = written(copy).text
    assert "Made-up clips. The features in visual were drawn from labels; no network saw anything." in text
    assert "Random weights" not in text


def test_scores_stand_beside_published_ones(full: Path, page: Page) -> None:
    scores = json.loads((full / "scores.json").read_text())
    ours = [f"{scores['test'][f'{level}_{name}']:.1f}" for level in ("segment", "event") for name in
            ("audio", "visual", "audio_visual", "type", "event")]  # fmt: skip
    assert f"han, test 60 of 64 clips; best epoch on the validation split {' '.join(ours)} han, val" in page.text
    assert "chosen on validation 60.1 52.9 48.9 54.0 55.4 51.3 48.9 43.0 47.7 48.0" in page.text
    assert "60.4 51.5 50.2 54.0 * 55.0" in page.text  # the paper prints 53.3
    assert "* HAN, retrained: segment-level Type is given as 53.3, its parts make 54.0" in page.text
    assert "Clips with non-identical labels" in page.text
    assert "A_FP_VO 70.1 55 79.2 68.7" in page.text


def test_classes_are_a_table(full: Path, page: Page) -> None:
    assert page.count("table", value="classes") == 1
    assert "Label Audible Visible Segment A Segment V Segment AV Event A Event V Event AV" in page.text
    with (full / "classes.csv").open() as file:
        dog = next(line for line in file if line.startswith("Dog,")).strip().split(",")
    shown = [f"{float(each):.1f}" if each != "nan" else "–" for each in dog[3:]]
    assert " ".join(["Dog", *dog[1:3], *shown]) in page.text


def test_curves_are_drawn_for_every_kind_of_epoch(page: Page) -> None:
    for name in ("Training loss", "Validation, segment-level F (%)", "Validation, event-level F (%)", "Learning rate"):
        assert name in page.text
    assert page.count("svg", value="chart") == 4
    for name in ("all, plain", "all, modality", "all, temporal", "second, temporal"):
        assert name in page.text
    assert page.count("path", value="best") == 4
    assert "whose weights were kept, 13" in page.text


def test_curves_of_a_short_or_odd_log() -> None:
    assert charts(Table(("epoch", "loss"), ())) == ()
    assert charts(Table(("step", "loss"), (("1", "2"),))) == ()
    (one,) = charts(Table(("epoch", "loss"), (("0", "2.5"),)))
    assert "<circle" in one.svg
    assert one.legend == (("all", "h1 d0", 2.5),)
    (gap,) = charts(Table(("epoch", "loss"), (("0", "1"), ("1", "nan"), ("2", ""), ("3", "4"))))
    assert gap.svg.count("L") == 1
    rows = (("0", "plain", "4"), ("1", "swap", "1"), ("2", "plain", "2"))
    (two,) = charts(Table(("epoch", "kind", "loss"), rows))
    assert two.legend == (("all, plain", "h1 d0", 2.0), ("all, swap", "h1 d1", 1.0))
    assert two.svg.count("<circle") == two.svg.count('class="line"') == 1
    (flat,) = charts(Table(("epoch", "val_accuracy"), (("0", "50"), ("1", "50"))))
    assert flat.title == "Validation, accuracy (%)"


def test_timelines_show_the_best_the_median_and_the_worst(full: Path, page: Page) -> None:
    assert page.count("figure", value="timeline") == 24
    shown = [float(each) for each in re.findall(r"([\d.]+) Type@AV A [\d.]+, V", page.text)]
    assert len(shown) == 24
    assert shown == sorted(shown, reverse=True)
    pictures = list((full / "timelines").iterdir())
    assert len(pictures) == 24
    for path in pictures:
        assert ET.fromstring(path.read_text()).find("{http://www.w3.org/2000/svg}title").text == path.stem  # type: ignore[union-attr]


def test_every_clip_can_be_drawn(copy: Path) -> None:
    write_page(copy, read_run(copy), every=True)
    assert len(list((copy / "timelines").iterdir())) == 60


def test_a_class_has_one_colour_on_the_whole_page(full: Path, page: Page) -> None:
    raw = (full / "page.html").read_text()
    table = dict(
        re.findall(r'<th scope="row"><svg class="tl swatch"[^>]*><g class="(h\d d\d)">.*?</svg>([^<]+)</th>', raw)
    )
    assert len(set(table)) == 25
    figures = raw.split('<figure class="sheet timeline">')[1:]
    assert len(figures) == 24
    for figure in figures:
        kinds = re.findall(r'<g class="(h\d d\d)">', figure)
        names = re.findall(r"<title>\w+ \w+: (.+?), \d+ to \d+ s</title>", figure)
        assert [table[kind] for kind in kinds] == names


def test_it_carries_everything_within_itself(full: Path, page: Page) -> None:
    raw = (full / "page.html").read_text()
    for _, attrs in page.elements:
        for name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href"):
            assert attrs.get(name, "#").startswith("#")
    assert not re.search(r"url\(|@import|https?://|//cdn", raw)
    assert "default-src 'none'" in raw
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert len(raw) < 1_000_000


def test_nothing_given_is_taken_for_html(made: ModuleType, tmp_path: Path) -> None:
    evil = made.EVIL
    classes = (evil.replace(";", ""), *(f"c{i}" for i in range(4)))
    names = [evil.replace("/", ""), "..x", "plain"]
    folder = made.make_avvp(
        tmp_path / "run", classes=classes, ids=names, task="avvp", versions={evil: evil}, **{evil: evil}
    )
    scores = json.loads((folder / "scores.json").read_text())
    scores["test"] |= {"gate": evil, "labels": evil, "selection": evil, evil: 1.5}
    scores[evil] = {"segment_audio": 5.0}
    (folder / "scores.json").write_text(json.dumps(scores))
    made.write_rows(folder / "log.csv", [{"epoch": 0, "kind": evil, "loss": 1.0, f"loss_{evil}": 2, f"val_{evil}": 3}])
    told = written(folder)
    assert [tag for tag, _ in told.elements].count("script") == 1
    assert "img" not in {tag for tag, _ in told.elements}
    assert " ".join(evil.split()) in told.text
    assert len(list((folder / "timelines").iterdir())) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-store"]


def test_ids_make_safe_file_names() -> None:
    assert timeline_name("-_ab (c)_0_10") == "-_ab (c)_0_10.svg"
    assert timeline_name("../etc/passwd") == "..%2Fetc%2Fpasswd.svg"
    assert timeline_name("a\\b\0") == "a%5Cb%00.svg"
    long = [timeline_name("x" * 300 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(name) < 150 for name in long)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "How this run was made is not known"),
        ("scores.json", "There are no scores"),
        ("log.csv", "There are no curves"),
        ("classes.csv", "Nothing is known of single classes"),
        ("predictions_test.npz", "No clip can be drawn"),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_a_missing_or_broken_file_is_a_section_that_says_so(copy: Path, name: str, said: str, broken: bool) -> None:
    if broken:
        (copy / name).write_bytes(b'\xff{"a": [')
    else:
        (copy / name).unlink()
    told = written(copy)
    assert told.sections() == SECTIONS
    assert said in told.text
    assert f"{name} {'cannot be read' if broken else 'is not there'}" in told.text


def test_an_empty_folder(tmp_path: Path) -> None:
    told = written(tmp_path)
    assert told.sections() == SECTIONS
    assert "A parser: no scores yet" in told.text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "scores.json",
            {"test": {"segment_audio": "high", "clips": [], "interference": [1], "epoch": 10**400}, "val": 3},
        ),
        ("scores.json", {"test": {"accuracy": None, "clips": float("inf"), "gate": {}, "non_identical": 3}}),
        ("config.json", {"task": 5, "classes": "abc", "keys": [1], "infos": {"audio": 3}, "versions": [], "config": 7}),
        ("config.json", {"task": "ave", "model": ["han"], "classes": [1, None], "store": 4}),
    ],
)
def test_files_with_other_things_in_them(copy: Path, name: str, content: object) -> None:
    (copy / name).write_text(json.dumps(content))
    assert written(copy).sections() == SECTIONS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frame": np.zeros((60, 10, 2, 7), np.float16)}, "have 7 classes and config.json names 25"),
        ({"frame": np.full((60, 10, 2, 25), np.nan, np.float16)}, "NaN"),
        ({"frame": np.zeros((60, 0, 2, 25), np.float16)}, "holds nothing"),
        ({"frame": np.zeros((60, 10, 25), np.float16)}, "needs 4 axes"),
        ({"video": np.zeros((3, 25), np.float16)}, "has shape (3, 25) for 60 clips"),
        ({"ids": np.array([["a"]])}, "no list of clips"),
    ],
)
def test_predictions_that_do_not_fit_are_told(copy: Path, change: dict[str, np.ndarray], said: str) -> None:
    with np.load(copy / "predictions_test.npz") as found:
        arrays = dict(found)
    np.savez(copy / "predictions_test.npz", **(arrays | change))  # type: ignore[arg-type]
    assert said in written(copy).text


def test_without_true_events_only_predictions_are_drawn(copy: Path) -> None:
    told = written(copy, [])
    assert "The true events are not known, so only predictions are drawn: 24 of 60 clips of test" in told.text
    assert "A predicted" in told.text
    assert "A truth" not in told.text


def test_predictions_of_another_run_are_noticed(copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    scores["test"] = {name: value / 2 if isinstance(value, float) else value for name, value in scores["test"].items()}
    (copy / "scores.json").write_text(json.dumps(scores))
    assert "Timelines and scores disagree." in written(copy).text


def test_ave_has_accuracy_and_says_when_test_chose_the_epoch(made: ModuleType, tmp_path: Path) -> None:
    told = written(made.make_ave(tmp_path / "psp"))
    assert re.search(r"PSP \(weak\): accuracy \d\d\.\d % on test", told.text)
    assert "Test-selected." in told.text
    assert "PSP, retrained Zhu et al., Mixed in time and modality, Table 2 72.7" in told.text
    assert "Test: it chooses the epoch, accuracy (%)" in told.text
    assert told.count("figure", value="timeline") == 12
    assert "All 12 clips of test, the best first" in told.text
    assert "Gate" not in told.text


def test_several_seeds_have_mean_and_deviation(made: ModuleType, tmp_path: Path) -> None:
    folder = made.make_seeds(tmp_path / "seeds")
    told = written(folder)
    assert told.sections() == ["scores", "seeds", *SECTIONS[1:]]
    each = json.loads((folder / "seeds.json").read_text())["test"]["segment_audio"]
    values = " ".join(f"{value:.2f}" for value in each["values"])
    assert f"segment audio test {each['mean']:.2f} {each['std']:.2f} {values}" in told.text
    assert f"{each['mean']:.1f} ±{each['std']:.1f}" in told.text
    assert "HAN, 3 seeds: Type@AV" in told.text
    assert "5 of 5 clips" in told.text  # what all seeds say alike
    (folder / "seeds.json").write_text("{}")
    assert "There is nothing to average" in written(folder).text


def test_only_our_pages_and_pictures_are_replaced(copy: Path) -> None:
    write_page(copy, read_run(copy))
    write_page(copy, read_run(copy))
    picture = next((copy / "timelines").iterdir())
    before = (copy / "page.html").read_bytes()
    picture.write_text("<svg>mine</svg>")
    with pytest.raises(StoreError, match="did not write it"):
        write_page(copy, read_run(copy))
    assert picture.read_text() == "<svg>mine</svg>"
    assert (copy / "page.html").read_bytes() == before
    (copy / "page.html").write_text("<p>mine</p>")
    with pytest.raises(StoreError, match=r"page\.html is there and `extract parse` did not write it"):
        write_page(copy, read_run(copy))
    assert (copy / "page.html").read_text() == "<p>mine</p>"


def test_a_folder_that_cannot_be_written_to(full: Path) -> None:
    with pytest.raises(StoreUnwritable):
        write_page(Path("/proc"), read_run(full))


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: apt-get install chromium")
def test_the_page_in_a_browser(full: Path, page: Page, tmp_path: Path) -> None:
    """It asks for nothing, its script runs under its own policy and sorts, and nothing is wider than a phone."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_CONNECT = do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    def browse(path: Path, *options: str) -> str:
        command = [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *options, path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    server = HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        proxy = (f"--proxy-server=127.0.0.1:{server.server_port}", "--proxy-bypass-list=<-loopback>")
        dom = browse(full / "page.html", *proxy, "--dump-dom")
    finally:
        server.shutdown()
        server.server_close()
    assert dom.count('<button type="button">') == 9
    assert [url for url in asked if "google" not in url] == []  # the browser's own services are not the page's
    clicked = tmp_path / "clicked.html"
    raw = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", (full / "page.html").read_text())
    clicked.write_text(raw.replace("</body>", "<script>document.querySelectorAll('button')[5].click()</script></body>"))
    body = browse(clicked, "--dump-dom").partition('class="sortable classes"')[2].partition("</table>")[0]
    column = [re.findall(r"<td[^>]*>([^<]*)</td>", row)[4] for row in body.split("<tr>")[2:]]
    known = [float(each) for each in column if each != "–"]
    assert len(column) == 25
    assert column[len(known) :] == ["–"] * (25 - len(known))
    assert known == sorted(known, reverse=True)
    shot = tmp_path / "shot.png"
    browse(
        full / "page.html", "--window-size=400,4000", "--blink-settings=preferredColorScheme=0", f"--screenshot={shot}"
    )
    pixels = np.asarray(Image.open(shot).convert("L"), np.int64)
    assert np.median(pixels) < 60
    inked = np.abs(pixels - np.median(pixels)) > 40
    assert 0.01 < inked.mean() < 0.6
    assert (
        inked[:, -4:].any(axis=1).mean() < 0.02
    )  # a margin remains on the right; only the list of sections reaches it
