"""Timelines: rows from arrays, exact text, and pictures that are well-formed, complete and the same in every clip."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from extract.errors import PlanError
from manifests import ave, llp
from pipelines.parsing.page.timeline import Row, ave_rows, avvp_rows, look, printable, runs, svg, swatch, text

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ("Speech", "Dog", "Cat")
EVIL = "</svg></title><script>alert('x\"&')</script>"
ROWS = (Row("A truth", [(0, 4, "Speech"), (6, 9, "Speech"), (2, 5, "Dog")]), Row("A predicted", [(0, 5, "Speech")]))


def classes_of(picture: str) -> list[str]:
    return [each.attrib["class"] for each in ET.fromstring(picture).iter(f"{SVG}g")]


@given(arrays(bool, st.tuples(st.integers(0, 12), st.just(3))))
@settings(max_examples=60, deadline=None)
def test_runs_cover_exactly_what_is_there(matrix: np.ndarray) -> None:
    again = np.zeros_like(matrix)
    found = runs(matrix, CLASSES)
    for start, stop, label in found:
        column = again[:, CLASSES.index(label)]
        assert not column[int(start) : int(stop)].any()
        column[int(start) : int(stop)] = True
        assert start == 0 or not matrix[int(start) - 1, CLASSES.index(label)]
    assert np.array_equal(again, matrix)
    assert found == sorted(found, key=lambda run: (run[0], CLASSES.index(run[2])))


def test_runs_in_other_steps_and_other_types() -> None:
    assert runs(np.array([[0, 1, 0], [1, 1, 0]]), CLASSES, hop_s=0.5) == [(0, 1.0, "Dog"), (0.5, 1.0, "Speech")]
    with pytest.raises(PlanError, match=r"3 classes\), got an array of shape \(2, 4\)"):
        runs(np.zeros((2, 4)), CLASSES)


def test_avvp_has_six_rows_and_av_is_what_is_heard_and_seen_at_once() -> None:
    heard, seen = np.zeros((2, 10, 3), np.uint8)
    heard[2:8, 0] = seen[5:, 0] = seen[:, 1] = 1
    rows = avvp_rows(CLASSES, (heard, seen), (seen, heard))
    assert [row.name for row in rows] == [
        "A truth",
        "A predicted",
        "V truth",
        "V predicted",
        "AV truth",
        "AV predicted",
    ]
    assert rows[1].events == [(2, 8, "Speech")]
    assert rows[4].events == rows[5].events == [(5, 8, "Speech")]
    assert [row.name for row in avvp_rows(CLASSES, (heard, seen))] == ["A predicted", "V predicted", "AV predicted"]


def test_ave_has_one_pair_and_draws_no_background() -> None:
    classes = (*CLASSES, "Background")
    rows = ave_rows(classes, np.array([3, 1, 1, 3]), np.array([3, 3, 0, 0]))
    assert rows == (Row("AV truth", [(2, 4, "Speech")]), Row("AV predicted", [(1, 3, "Dog")]))
    assert [row.name for row in ave_rows(classes, np.array([3, 3]))] == ["AV predicted"]


def test_text_of_a_clip() -> None:
    assert text("BjCEufrlXm4_20_30", 10, (*ROWS, Row("V truth", []))).splitlines() == [
        "BjCEufrlXm4_20_30 (10 s)",
        "",
        "                    0    1    2    3    4    5    6    7    8    9    10 s",
        "A truth      Speech ████████████████████··········███████████████·····",
        "             Dog    ··········███████████████·························",
        "A predicted  Speech █████████████████████████·························",
        "V truth             ··················································",
    ]


def test_text_in_ascii() -> None:
    assert text("clip é", 4, [Row("AV predicted", [(1, 2, "Baby_cry_infant_cry")])], plain=True).splitlines() == [
        r"clip \xe9 (4 s)",
        "",
        "                                 0     1     2     3     4 s",
        "AV predicted Baby_cry_infant_cry ......######............",
    ]


def test_text_goes_on_below_and_says_so() -> None:
    told = text("long", 100, [Row("A truth", [(58, 63, "Speech")])]).splitlines()
    assert told[0] == "long (100 s, continued every 50 s)"
    assert told[2].split() == [*map(str, range(0, 51, 5)), "s"]
    assert told[3] == "A truth             " + "·" * 50
    assert told[5].split() == [*map(str, range(50, 101, 5)), "s"]
    assert told[6] == "A truth      Speech " + "·" * 8 + "█" * 5 + "·" * 37


def test_parts_of_seconds_take_the_columns_they_touch() -> None:
    told = text("x", 2.5, [Row("A truth", [(0.25, 2.4, "Dog")])]).splitlines()
    assert told[-1] == "A truth      Dog ·██████████████"
    assert told[-2].split() == ["0", "1", "2", "s"]


@given(
    st.floats(0.1, 5000),
    st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.01, 0.1), st.text(max_size=30)), max_size=5),
    st.text(),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_text_fits_any_length_and_holds_nothing_that_a_terminal_obeys(
    seconds: float, events: list[tuple[float, float, str]], title: str, plain: bool
) -> None:
    rows = [Row("AV predicted", [(a * seconds, (a + b) * seconds, label) for a, b, label in events])]
    lines = text(title, seconds, rows, plain=plain).split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= 80 for line in lines[1:])
    assert not plain or all(line.isascii() for line in lines)


def test_escape_sequences_are_written_out_and_wide_characters_counted() -> None:
    assert printable("a\x1b[31m\n") == r"a\x1b[31m\n"
    told = text("x", 10, [Row("A truth", [(0, 1, "犬")]), Row("A predicted", [(0, 1, "ab")])]).splitlines()
    assert told[-2].index("█") + 1 == told[-1].index("█")  # the character takes two columns


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(PlanError, match="above 0 s, got 0"):
        text("x", 0, [])
    with pytest.raises(PlanError, match="'Dog' from 9 to 11 s does not lie in a clip of 10 s"):
        svg("x", 10, [Row("A truth", [(9, 11, "Dog")])], CLASSES)
    with pytest.raises(PlanError, match="60 columns, got 40"):
        text("x", 10, [], width=40)


def test_a_picture_is_told_and_complete() -> None:
    picture = svg("BjCEufrlXm4_20_30", 10, ROWS, CLASSES)
    root = ET.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert desc is not None
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == f"{title.attrib['id']} {desc.attrib['id']}"
    assert title.text == "BjCEufrlXm4_20_30"
    assert desc.text == ("10 s. A truth: Speech 0 to 4 s, Speech 6 to 9 s, Dog 2 to 5 s; A predicted: Speech 0 to 5 s")
    words = ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]
    assert words == [*("0 s", *map(str, range(1, 11))), "A truth", "Speech", "Speech", "Dog", "A predicted", "Speech"]
    assert "prefers-color-scheme: dark" in picture
    assert not re.search(r"url\(|@import|href|src=|<script|https?://(?!www.w3.org/2000/svg)", picture)


def test_bars_lie_where_the_seconds_are() -> None:
    root = ET.fromstring(svg("x", 10, ROWS, CLASSES))
    ticks = [
        float(each.attrib["d"][1:].split(" ")[0])
        for each in root.iter(f"{SVG}path")
        if each.attrib.get("class") == "tick"
    ]
    bars = [each.find(f"{SVG}rect") for each in root.iter(f"{SVG}g")]
    places = [
        (float(bar.attrib["x"]), float(bar.attrib["x"]) + float(bar.attrib["width"])) for bar in bars if bar is not None
    ]
    assert places == [(ticks[a], pytest.approx(ticks[b])) for a, b in ((0, 4), (6, 9), (2, 5), (0, 5))]
    tops = [float(bar.attrib["y"]) for bar in bars if bar is not None]
    assert tops[0] == tops[1] < tops[2] < tops[3]  # a line per class, in the same order in every row


def test_every_class_has_its_own_look_everywhere() -> None:
    for classes in (llp.LABELS, ave.LABELS):
        assert len({look(label, classes) for label in classes}) == len(classes)
    one = classes_of(svg("a", 10, [Row("A truth", [(0, 1, "Cat"), (0, 1, "Dog")])], CLASSES))
    other = classes_of(svg("b", 10, [Row("V predicted", [(3, 5, "Dog")]), Row("AV truth", [(0, 9, "Cat")])], CLASSES))
    assert one == ["h3 d0", "h2 d0"]
    assert other == ["h2 d0", "h3 d0"]
    assert classes_of(svg("c", 10, [Row("A truth", [(0, 1, "Horse")])], CLASSES)) == ["h0 d0"]
    assert 'class="h2 d0"' in swatch("Dog", CLASSES)


def test_labels_are_readable_even_in_short_events() -> None:
    late = Row("A truth", [(9, 10, "Telephone_bell_ringing")])
    busy = Row("A predicted", [(s, s + 1, "Telephone_bell_ringing") for s in range(0, 10, 2)])
    root = ET.fromstring(svg("x", 10, [late, busy], CLASSES))
    texts = [each for each in root.iter(f"{SVG}text") if each.attrib["class"] in ("label", "before")]
    assert [(each.text, each.attrib["class"]) for each in texts] == [
        ("Telephone_bell_ringing", "before"),  # there is no room to the right of it
        ("Telephone_bell_ri…", "label"),
    ]


def test_minutes_go_below_one_another() -> None:
    root = ET.fromstring(svg("x", 130, [Row("A truth", [(50, 70, "Dog")])], CLASSES))
    names = [each.text for each in root.iter(f"{SVG}text") if each.attrib["class"] == "name"]
    assert names == ["A truth"] * 3
    assert classes_of(svg("x", 130, [Row("A truth", [(50, 70, "Dog")])], CLASSES)) == ["h2 d0"] * 2


def test_nothing_given_is_taken_for_markup() -> None:
    classes = (EVIL, "b")
    row = Row(EVIL, [(0, 1, EVIL)])
    root = ET.fromstring(svg(f"{EVIL}\x00\x1b\ud800", 10, [row], classes))
    assert {each.tag.removeprefix(SVG) for each in root.iter()} == {
        "svg", "title", "desc", "style", "rect", "text", "g", "path"
    }  # fmt: skip
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == f"{EVIL}���"


def test_pictures_in_one_page_have_ids_of_their_own() -> None:
    ids = [re.findall(r'id="([^"]+)"', svg(name, 10, ROWS, CLASSES, alone=False)) for name in ("a", "b")]
    assert len({*ids[0], *ids[1]}) == 4
    assert "xmlns" not in svg("a", 10, ROWS, CLASSES, alone=False)
