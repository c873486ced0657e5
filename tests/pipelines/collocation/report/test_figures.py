"""Figures are well-formed, tell every number, keep gaps, escape names, and can be read in light and in dark."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from math import inf, isnan, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import PlanError
from pipelines.collocation.report import figure_axes
from pipelines.collocation.report.figure_style import SHADES, looks
from pipelines.collocation.report.figures import bars, curves, heat_map

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</svg></title><script>alert('x\"&')</script>\x00\ud800 {x} %s"
NAMES = ("vggish+resnet152", "vggish+vgg19_bn", "openl3+resnet152")

any_name = st.text(max_size=60)
any_value = st.one_of(st.just(nan), st.floats(-1e9, 1e9), st.sampled_from([0.0, 1e-12, 54.1]))


def parsed(picture: str) -> ET.Element:
    root = ET.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    assert not {each.tag for each in root.iter()} & {f"{SVG}{name}" for name in ("script", "image", "use", "a")}
    return root


def titles(picture: str) -> list[str]:
    return [each.text or "" for each in parsed(picture).iter(f"{SVG}title")][1:]


def words(picture: str) -> list[str]:
    return ["".join(each.itertext()) for each in parsed(picture).iter(f"{SVG}text")]


def of_class(picture: str, name: str) -> list[ET.Element]:
    return [each for each in parsed(picture).iter() if name in each.attrib.get("class", "").split()]


def numbers(text: str) -> list[float]:
    return [float(each) for each in re.findall(r"-?\d+\.\d+|-?\d+", text)]


FIGURES: dict[str, Callable[[str], str]] = {
    "curves": lambda name: curves([name, "b"], {name: [1, 2]}, {name: [1, nan]}, y_title=name, title=name),
    "heat_map": lambda name: heat_map([name, "b"], [name], [[1], [nan]], title=name, unit=name),
    "bars": lambda name: bars([name, "b"], [1, nan], [1, nan], title=name, unit=name),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_hostile_names_are_escaped_and_told(kind: str) -> None:
    picture = FIGURES[kind](EVIL)
    root = parsed(picture)
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == EVIL.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert picture.encode("utf-8")
    assert any("alert" in each for each in titles(picture))


@pytest.mark.parametrize("kind", FIGURES)
@given(name=any_name)
@settings(max_examples=40, deadline=None)
def test_any_name_gives_xml(kind: str, name: str) -> None:
    parsed(FIGURES[kind](name))


@pytest.mark.parametrize("kind", FIGURES)
def test_frame_is_accessible_and_the_same_alone_and_embedded(kind: str) -> None:
    picture = FIGURES[kind]("a name")
    root = parsed(picture)
    told = {each.attrib["id"]: each.tag for each in root if "id" in each.attrib}
    assert [told[name] for name in root.attrib["aria-labelledby"].split()] == [f"{SVG}title", f"{SVG}desc"]
    assert root.attrib["role"] == "img"
    x, y, width, height = map(float, root.attrib["viewBox"].split())
    assert (x, y, root.attrib["width"], root.attrib["height"]) == (0, 0, f"{width:g}", f"{height:g}")
    assert "prefers-color-scheme: dark" in picture
    assert "http" not in picture.replace('xmlns="http://www.w3.org/2000/svg"', "")
    outside = re.sub(r"<style>.*?</style>", "", picture, flags=re.S)
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(", outside)
    assert picture == FIGURES[kind]("a name")


@pytest.mark.parametrize("kind", FIGURES)
def test_words_lie_within_the_frame(kind: str) -> None:
    picture = FIGURES[kind]("a_rather_long_name_of_a_backbone_512")
    root = parsed(picture)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for each in root.iter(f"{SVG}text"):
        if "transform" in each.attrib:
            continue
        length = 6.5 * len("".join(each.itertext()))
        x = float((each if "x" in each.attrib else each[0]).attrib["x"])
        kinds = each.attrib.get("class", "").split()
        start = x - length * (1 if "end" in kinds else 0.5 if "middle" in kinds else 0)
        assert start >= -1
        assert start + length <= width + 1
        assert 0 < float(each.attrib["y"]) <= height


# ---- curves ----------------------------------------------------------------------------------------------------------


def test_curves_tell_every_value_and_spread() -> None:
    series = {"traverse": [54.1, 53.7, 52.4], "decoupled": [50.25, nan, 49.0]}
    picture = curves(NAMES, series, {"traverse": [0.4, nan, 0.2]}, y_title="Type@AV (%)", title="Fig. 5")
    assert titles(picture) == [
        "vggish+resnet152, traverse: 54.1 ± 0.4",
        "vggish+vgg19_bn, traverse: 53.7",
        "openl3+resnet152, traverse: 52.4 ± 0.2",
        "vggish+resnet152, decoupled: 50.25",
        "openl3+resnet152, decoupled: 49",
    ]
    assert len(of_class(picture, "whisker")) == 2
    told = parsed(picture).findtext(f"{SVG}desc") or ""
    assert "traverse: highest 54.1 (vggish+resnet152), lowest 52.4 (openl3+resnet152), 3 of 3 known" in told
    assert "decoupled: highest 50.25 (vggish+resnet152), lowest 49 (openl3+resnet152), 2 of 3 known" in told
    assert {"Fig. 5", "traverse", "decoupled", "Type@AV (%)"} <= set(words(picture))


def test_gaps_break_the_line_and_points_alone_keep_their_marker() -> None:
    picture = curves(list("abcdef"), {"m": [nan, 1, 2, nan, 3, nan]}, None, y_title="y", title="t")
    legend, line = (each.attrib["d"] for each in of_class(picture, "line"))
    assert "h" in legend
    assert [len(run.split("L")) for run in line.split("M")[1:]] == [2, 1]
    assert len(of_class(picture, "mark")) == 1 + 3
    nothing = curves(["a", "b"], {"m": [nan, nan]}, None, y_title="y", title="t")
    assert len(of_class(nothing, "mark")) == 1
    assert "no values yet" in words(nothing)


def test_points_and_whiskers_are_where_the_axis_says() -> None:
    picture = curves(["a", "b"], {"m": [10.0, 20.0]}, {"m": [5.0, nan]}, y_title="y", title="t")
    lines = [float(each.attrib["d"].split()[1].split("h")[0]) for each in of_class(picture, "grid")]
    marks = [float(text) for text in words(picture) if re.fullmatch(r"[\d.]+", text)]
    at = dict(zip(marks, lines, strict=True))
    points = of_class(picture, "line")[1].attrib["d"].removeprefix("M").split("L")
    assert [float(each.split()[1]) for each in points] == [at[10], at[20]]
    (whisker,) = of_class(picture, "whisker")
    assert numbers(whisker.attrib["d"])[1] == at[5]
    assert float(re.findall(r"V([\d.]+)", whisker.attrib["d"])[0]) == pytest.approx((at[10] + at[20]) / 2, abs=0.11)


def test_names_stand_below_their_points_and_lines_side_by_side() -> None:
    for names in (["a", "b", "c"], ["a_long_name_of_an_audio_backbone+a_visual_one"] * 12):
        series = {name: [1.0] * len(names) for name in ("m", "n", "o")}
        picture = curves(names, series, None, y_title="y", title="t")
        lines = [each.attrib["d"].removeprefix("M").split("L") for each in of_class(picture, "line")[3:]]
        xs = [[float(point.split()[0]) for point in line] for line in lines]
        assert all(b - a > 2 for one, other in pairwise(xs) for a, b in zip(one, other, strict=True))
        turned = [float(x) for x in re.findall(r"translate\(([\d.]+) [\d.]+\)rotate\(-45\)", picture)]
        flat = [float(each.attrib["x"]) for each in parsed(picture).iter(f"{SVG}tspan")]
        assert (turned or flat) == pytest.approx(xs[1], abs=1.2)


@pytest.mark.parametrize("value", [0.0, 54.1, -3.0, 1e-9, 1e12])
def test_one_name_and_equal_values(value: float) -> None:
    for names in (["only"], list("abcd")):
        picture = curves(names, {"m": [value] * len(names)}, None, y_title="y", title="t")
        line = of_class(picture, "line")[1].attrib["d"]
        heights = {each.split()[1] for each in line.removeprefix("M").split("L")}
        assert len(heights) == 1
        low, high = (numbers(of_class(picture, "grid")[i].attrib["d"])[1] for i in (0, -1))
        assert high < float(heights.pop()) < low


def test_five_hundred_names_are_thinned_below_and_all_told() -> None:
    names = [f"audio_{i // 25}+visual_{i % 25}" for i in range(500)]
    values = {"traverse": [50 + i / 100 for i in range(500)], "halving": [nan] * 500}
    picture = curves(names, values, None, y_title="y", title="t")
    assert len(picture) < 400_000
    assert titles(picture) == [f"{name}, traverse: {50 + i / 100:g}" for i, name in enumerate(names)]
    placed = [each for each in parsed(picture).iter(f"{SVG}text") if "rotate(-45)" in each.attrib.get("transform", "")]
    assert 20 < len(placed) < 70
    xs = [float(re.findall(r"translate\(([\d.]+)", each.attrib["transform"])[0]) for each in placed]
    assert min(b - a for a, b in pairwise(xs)) >= 17


def test_lines_differ_in_colour_and_pattern_beside_each_other_and_altogether() -> None:
    picture = curves(["a"], {str(i): [i] for i in range(28)}, None, y_title="y", title="t")
    found = [tuple(each.attrib["class"].split()) for each in parsed(picture).iter(f"{SVG}g")]
    looks_of = [each for each in found if len(each) == 2][:28]
    assert len(set(looks_of)) == 28
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in pairwise(looks_of))
    shapes = {re.sub(r"^M\S+ [\d.]+?(?=m)", "", each.attrib["d"]) for each in of_class(picture, "mark")[:7]}
    assert len(shapes) == 7


@pytest.mark.parametrize(
    ("names", "series", "spreads", "said"),
    [
        ([], {"m": []}, None, "no collocations"),
        (["a"], {}, None, "no lines"),
        (["a"], {"m": [1, 2]}, None, "m has 2 values for 1 names"),
        (["a"], {"m": [inf]}, None, "m of 'a' is inf; it must be finite"),
        (["a"], {"m": [1]}, {"m": [-1]}, "the spread of m of 'a' is -1.0; it must be zero or more"),
        (["a"], {"m": [1]}, {"n": [1]}, "spreads are given for 'n', which is no line; lines are 'm'"),
        (["a"], {str(i): [1] for i in range(29)}, None, "29 lines cannot be told apart; draw at most 28"),
    ],
)
def test_curves_refuse(
    names: list[str], series: dict[str, list[float]], spreads: dict[str, list[float]] | None, said: str
) -> None:
    with pytest.raises(PlanError, match=re.escape(said)):
        curves(names, series, spreads, y_title="y", title="t")


# ---- heat map --------------------------------------------------------------------------------------------------------


def test_heat_map_has_a_number_in_each_cell_and_marks_the_highest() -> None:
    picture = heat_map(["vggish", "openl3"], ["resnet152", "polynet"], [[53.7, 52.8], [nan, 50.1]], title="t", unit="%")
    assert titles(picture)[:4] == [
        "vggish + resnet152: 53.7 % (highest)",
        "vggish + polynet: 52.8 %",
        "openl3 + resnet152: not known",
        "openl3 + polynet: 50.1 %",
    ]
    cells = [each for each in of_class(picture, "cell") if each.find(f"{SVG}text") is not None][:4]
    assert [each.findtext(f"{SVG}text") for each in cells] == ["53.7", "52.8", "–", "50.1"]
    assert [each.attrib["class"].split()[1:] for each in cells] == [["q8"], ["q6"], [], ["q0"]]
    assert [len([r for r in each if r.attrib.get("class") == "best"]) for each in cells] == [1, 0, 0, 0]
    assert "pairs, in %: highest 53.7 (vggish + resnet152), lowest 50.1 (openl3 + polynet), 3 of 4 known" in (
        parsed(picture).findtext(f"{SVG}desc") or ""
    )
    assert {"50.1", "53.7 %", "highest", "not known"} <= set(words(picture))


def test_heat_map_of_equal_values_of_none_and_of_one() -> None:
    equal = heat_map(["a"], ["b", "c"], [[5, 5]], title="t", unit="")
    assert len([t for t in titles(equal) if t.endswith("(highest)")]) == 2
    assert {name for each in of_class(equal, "cell") for name in each.attrib["class"].split()[1:]} == {"q4"}
    nothing = heat_map(["a"], ["b"], [[nan]], title="t", unit="%")
    assert titles(nothing)[0] == "a + b: not known"
    assert not of_class(nothing, "best")
    assert "5.0" in words(heat_map(["a"], ["b"], [[5]], title="t", unit=""))


def luminance(colour: str) -> float:
    full = colour * 2 if len(colour) == 3 else colour
    rgb = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_numbers_stand_out_from_their_cells_and_shades_grow_evenly_in_both_schemes() -> None:
    fills, inks = ([re.findall(rf"--{kind}{i}: #([0-9a-f]+);", looks()) for i in range(SHADES)] for kind in "qi")
    assert all(len(each) == 2 for each in (*fills, *inks))
    for scheme in (0, 1):
        lights = [luminance(each[scheme]) for each in fills]
        for light, ink in zip(lights, inks, strict=True):
            low, high = sorted((light, luminance(ink[scheme])))
            assert (high + 0.05) / (low + 0.05) >= 4.5
        assert lights == sorted(lights, reverse=scheme == 0)
    for i in range(SHADES):
        assert f".cf .q{i} rect {{ fill: var(--q{i}); }} .cf .q{i} text {{ fill: var(--i{i}); }}" in looks()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1, 2]], "values have the shape (1, 2); 2 rows and 2 columns have (2, 2)"),
        ([[1, 2], [3, inf]], "'b' of 'd' is inf"),
    ],
)
def test_heat_map_refuses(values: list[list[float]], said: str) -> None:
    with pytest.raises(PlanError, match=re.escape(said.replace("'b'", "b"))):
        heat_map(["a", "b"], ["c", "d"], values, title="t", unit="")
    with pytest.raises(PlanError, match="no columns"):
        heat_map(["a"], [], [[]], title="t", unit="")


# ---- bars ------------------------------------------------------------------------------------------------------------


def test_bars_start_at_zero_and_tell_their_numbers() -> None:
    picture = bars(["up", "down", "gone"], [0.5, -0.25, nan], [0.25, nan, nan], title="τ", unit="τ")
    assert titles(picture) == ["up: 0.50 ± 0.25 τ", "down: -0.25 τ"]
    assert {"0.50 ± 0.25", "-0.25", "not known", "gone"} <= set(words(picture))
    (zero,) = of_class(picture, "zero")
    at = numbers(zero.attrib["d"])[0]
    up, down = (each.find(f"{SVG}rect") for each in of_class(picture, "bar"))
    assert up is not None
    assert down is not None
    assert float(up.attrib["x"]) == pytest.approx(at, abs=0.11)
    assert float(down.attrib["x"]) + float(down.attrib["width"]) == pytest.approx(at, abs=0.11)
    assert float(up.attrib["width"]) == pytest.approx(2 * float(down.attrib["width"]), abs=0.21)
    assert len(of_class(picture, "whisker")) == 1


def test_bars_without_any_value_and_of_zeros() -> None:
    assert "not known" in words(bars(["a"], [nan], None, title="t", unit=""))
    assert "0.0" in words(bars(["a"], [0], None, title="t", unit=""))
    with pytest.raises(PlanError, match="the spread has 2 values for 1 names"):
        bars(["a"], [1], [1, 2], title="t", unit="")
    with pytest.raises(PlanError, match="no names"):
        bars([], [], None, title="t", unit="")


@given(st.lists(st.tuples(any_name, any_value, any_value), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_numbers_can_be_drawn(rows: list[tuple[str, float, float]]) -> None:
    names, values = [row[0] for row in rows], [row[1] for row in rows]
    spreads = [abs(row[2]) for row in rows]
    known = sum(not isnan(value) for value in values)
    assert len(titles(curves(names, {"m": values}, {"m": spreads}, y_title="y", title="t"))) == known
    assert len(titles(bars(names, values, spreads, title="t", unit="u"))) == known
    cells = heat_map(names, ["v"], [[value] for value in values], title="t", unit="u")
    high = max((value for value in values if not isnan(value)), default=nan)
    assert sum(each.endswith("(highest)") for each in titles(cells)) == values.count(high) * (not isnan(high))
    for picture in (cells, bars(names, values, spreads, title="t", unit="u")):
        drawing = re.sub(r"<style>.*?</style>", "", picture, flags=re.S)
        assert not {"nan", "inf"} & set(re.findall(r'(?:x|y|width|height)="-?([a-z]+)"', drawing))


# ---- numbers and words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([54.1, 50.0], "54.1"),
        ([54.123, 54.1], "54.123"),
        ([33887.77, 11706.04], "33888"),
        ([nan], "nan"),
        ([0.0, 0.0], "0.0"),
        ([2.5e-7, 1e-7], "2.5e-07"),
    ],
)
def test_numbers_have_as_many_digits_as_tell_them_apart(values: list[float], shown: str) -> None:
    assert f"{values[0]:{figure_axes.form(values)}}" == shown


@given(st.text("ab+", max_size=60), st.integers(8, 40))
def test_cut_names_are_short_enough_and_short_names_whole(name: str, most: int) -> None:
    short = figure_axes.cut(name, most)
    assert len(short) <= most
    assert (short == name) == (len(name) <= most)


def test_cut_names_keep_the_parts_of_a_collocation_apart() -> None:
    long = "openl3_audio_mel256_env_512"
    assert figure_axes.cut(f"{long}+resnet152", 30) == "openl3_aud…56_env_512+resnet152"[:10] + "…6_env_512+resnet152"
    assert figure_axes.cut(f"{long}+{long}", 31).count("+") == 1
