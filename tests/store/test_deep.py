"""`verify --deep`: what no checksum tells. Every flaw is planted in a store that is sound otherwise."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from extract import api, recipes
from extract.grid import NS
from extract.lane import key_info
from extract.plan import canonical_json, key_of
from extract.recipes import make_plan
from extract.store.catalog import create_store
from extract.store.part import seal_piece
from extract.store.rows import Remark, Rows
from extract.store.verify import verify
from manifests.clip import Clip, write_manifest
from manifests.dense import Event, dense_path, write_dense

IDS = ("a_0_10", "b_0_10")


def feature_of(backbone="vggish", recipe="llp", **choices):
    return make_plan(recipes.get(recipe), backbones=[backbone], **choices).features[0]


def rows_of(feature, clip_id, rows=10):
    """What a network might give: nothing constant, nothing twice."""
    rng = np.random.default_rng(len(clip_id) + rows)
    count = feature.grid.count or rows
    return Rows(
        clip_id,
        feature.key,
        rng.standard_normal((count, *feature.backbone.dims)).astype(np.float32),
        feature.grid.windows_ns(count * feature.grid.hop_ns),
        np.ones(count, np.uint8),
        np.arange(count, dtype=np.int64)[:, None],
    )


def plant(store, infos, rows, masked=(), chunk="0" * 16):
    """A part that is sealed as any other."""
    piece = seal_piece(
        store / "parts", chunk, [each.clip_id for each in rows] or IDS, infos, rows, (), masked, {"a": 1}
    )
    piece.rename(piece.with_name(f"{chunk}.h5"))


@pytest.fixture
def store(tmp_path):
    create_store(tmp_path / "s")
    write_manifest(tmp_path / "s" / "manifest.csv", [Clip(each, f"{each}.mp4", 0, 10 * NS) for each in IDS])
    return tmp_path / "s"


def found(store, level="suspect"):
    return [
        (each.key.split("@")[0], each.clip, each.problem)
        for each in api.verify(store, deep=True)
        if each.level == level
    ]


@pytest.mark.parametrize(
    ("recipe", "backbone"),
    [
        ("llp", "vggish"),
        ("llp-clean", "resnet18"),
        ("ave", "vgg19_ave"),
        ("native", "vggish"),
        ("per-second", "resnet18"),
    ],
)
def test_what_recipes_make_is_plausible(store, recipe, backbone):
    feature = feature_of(backbone, recipe)
    plant(store, [key_info(feature)], [rows_of(feature, each) for each in IDS])
    assert api.verify(store, deep=True) == []


def first(change):
    """Change the rows of the first clip."""
    return lambda rows: [change(rows[0]), *rows[1:]]


def constant(rows):
    rows.data[3] = 0.5
    return rows


def alike(rows):
    rows.data[:] = rows.data[0]
    return rows


def beside(rows):
    rows.window_ns[4:] += NS // 2
    return rows


def short(rows):
    names = ("data", "window_ns", "valid", "source_ns")
    return dataclasses.replace(rows, **{name: getattr(rows, name)[:9] for name in names})


def filled(rows):
    rows.valid[-2:] = 0
    return rows


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (constant, "1 of its 10 valid rows hold one value everywhere"),
        (alike, "its 10 valid rows are all the same"),
        (beside, "the windows of 6 rows are not those of its key's grid: row 4 is [4.5, 5.5) s, must be [4, 5) s"),
        (short, "has 9 rows, its key's grid 10"),
        (filled, "has rows that a policy filled (valid = 0), and no remark in /masked says why"),
    ],
)
def test_a_clip_that_is_odd_is_named(store, change, problem):
    feature = feature_of()
    plant(store, [key_info(feature)], first(change)([rows_of(feature, each) for each in IDS]))
    assert found(store) == [("vggish", IDS[0], problem)]
    assert verify(store) == [], "its bytes are what was sealed"


def test_rows_that_a_policy_filled_may_be_constant(store):
    feature = feature_of()
    rows = rows_of(feature, IDS[0])
    rows.data[5:], rows.valid[5:] = 0, 0
    remark = Remark(IDS[0], feature.key, "decode", "too_short", "5 of 10 rows")
    plant(store, [key_info(feature)], [rows], [remark])
    assert found(store) == []


def test_a_remark_may_lie_in_another_part(store):
    feature = feature_of()
    plant(store, [key_info(feature)], [filled(rows_of(feature, each)) for each in IDS])
    remark = Remark(IDS[1], feature.key, "decode", "too_short", "2 of 10 rows")
    plant(store, [], [], [remark], chunk="1" * 16)
    assert [clip for _, clip, _ in found(store)] == [IDS[0]]


def test_a_remark_on_rows_that_are_all_valid(store):
    feature = feature_of()
    remark = Remark(IDS[1], feature.key, "audio", "no_audio", "no audio stream")
    plant(store, [key_info(feature)], [rows_of(feature, each) for each in IDS], [remark])
    assert found(store) == [("vggish", IDS[1], "is remarked as masked (no_audio), but all its 10 rows are valid")]


def test_more_rows_than_the_clip_is_long(store):
    feature = feature_of(recipe="per-second")
    plant(store, [key_info(feature)], [rows_of(feature, IDS[0], 7), rows_of(feature, IDS[1], 12)])
    assert found(store) == [("vggish", IDS[1], "has 12 rows, its key's grid has 10 on the 10 s of the manifest")]


# ---- keys ------------------------------------------------------------------------------------------------------------


def claimed(feature, **changes):
    """A key that claims something else than the feature is."""
    info = key_info(feature)
    identity = canonical_json({**json.loads(info.identity), **changes})
    return dataclasses.replace(info, key=key_of(identity), identity=identity)


@pytest.mark.parametrize(
    ("changes", "level", "problem"),
    [
        ({"backbone": "vgish"}, "note", "the zoo here cannot tell about vgish: no backbone is called 'vgish'"),
        ({"weights": "random:3"}, "note", "its weights are random (random:3)"),
        ({"weights": "file:" + "0" * 64}, "note", "its weights came from a file"),
        ({"weights": "sha256:00000000"}, "suspect", "its weights are sha256:00000000, those published for vggish are "),
        ({"views": [{"kind": "Sound", "rate_hz": 1}]}, "suspect", "its views are neither those of vggish itself nor"),
        ({"grid": {"window": 1}}, "suspect", "its identity has no grid that could be compared with its rows"),
        ({"storage": "float16"}, "suspect", "its identity says that it is stored as float16, its rows are float32"),
        ({"imported": {"layout": "llp", "name": "x"}}, "note", "was imported; how it was computed is not known"),
    ],
)
def test_a_key_that_claims_what_is_not_so(store, changes, level, problem):
    feature = feature_of()
    info = claimed(feature, **changes)
    rows = [dataclasses.replace(rows_of(feature, each), key=info.key) for each in IDS]
    plant(store, [info], rows[:1])
    plant(store, [info], rows[1:], chunk="1" * 16)
    ((name, clip, said),) = found(store, level)
    assert (name, clip) == (info.key.split("@")[0], ""), "once, though two parts hold the key"
    assert said.startswith(problem)
    assert not [each for each in api.verify(store, deep=True) if each.level not in (level,)]


def test_rows_of_another_shape_than_the_network_gives(store):
    feature = feature_of()
    info = dataclasses.replace(key_info(feature), dims=(64,))
    rows = rows_of(feature, IDS[0])
    plant(store, [info], [dataclasses.replace(rows, data=rows.data[:, :64].copy())])
    assert found(store) == [("vggish", "", "its rows have shape (64,), those of vggish are (128,)")]


def test_views_are_compared_with_those_of_every_recipe(store, monkeypatch):
    """A recipe that cannot feed a network at all is not in the way."""
    feature = feature_of()
    odd = dataclasses.replace(feature, views=(dataclasses.replace(feature.views[0], resample="resampy_rows"),))
    plant(store, [key_info(odd)], [rows_of(odd, IDS[0])])
    assert found(store) == [], "so does the recipe ave"
    everything = recipes.recipes()

    def refuses(backbone):
        raise ValueError("takes no sound")

    known = (
        dataclasses.replace(everything[0], column=refuses),
        *(each for each in everything if each.name == "native"),
    )
    monkeypatch.setattr("extract.recipes.recipes", lambda: known)
    assert "neither those of vggish itself nor of a recipe" in found(store)[0][2]


def test_terms_that_differ_between_parts(store):
    feature = feature_of()
    info = key_info(feature)
    plant(store, [info], [rows_of(feature, IDS[0])])
    plant(store, [dataclasses.replace(info, licence="mine")], [rows_of(feature, IDS[1])], chunk="1" * 16)
    assert found(store) == [("vggish", "", f"has another licence than in {'0' * 16}.h5")]


def test_rows_that_differ_in_shape_between_parts(store):
    feature = feature_of()
    info = key_info(feature)
    rows = rows_of(feature, IDS[1])
    plant(store, [info], [rows_of(feature, IDS[0])])
    two = dataclasses.replace(rows, source_ns=np.repeat(rows.source_ns, 2, axis=1))
    plant(store, [info], [two], chunk="1" * 16)
    (finding,) = verify(store)
    assert (finding.part, finding.key, finding.level) == (f"{'1' * 16}.h5", info.key, "damage")
    assert (
        "and 2 source times, those in 0000000000000000.h5 shape (128,) of float32 and 1 source times" in finding.problem
    )


# ---- the manifest ----------------------------------------------------------------------------------------------------


def test_clips_that_the_manifest_does_not_list(store):
    feature = feature_of()
    ids = [*IDS, *(f"x{i}" for i in range(7))]
    plant(store, [key_info(feature)], [rows_of(feature, each) for each in ids])
    ((_, clip, problem),) = found(store, "note")
    assert clip == "x0"
    assert problem == "manifest.csv does not list 7 clip(s) that have rows: x0, x1, x2, x3, x4 and 2 more"
    (store / "manifest.csv").unlink()
    assert found(store, "note") == [], "a store need not have one"


def test_labels_that_do_not_fit(store):
    manifest = store / "manifest.csv"
    events = [
        Event(IDS[0], "both", 3, 10, "Dog"),
        Event(IDS[1], "audio", 0, 12, "Cat"),
        Event("c", "audio", 0, 1, "Cat"),
    ]
    write_dense(dense_path(manifest), events)
    assert found(store) == [
        ("", IDS[1], "its label 'Cat' ends at 12 s, the clip at 10 s"),
        ("", "c", "has labels with times, but manifest.csv does not list it"),
    ]
    dense_path(manifest).write_text("clip,when\n")
    assert [each.part for each in api.verify(store, deep=True) if each.level == "damage"] == ["manifest.dense.csv"]
    manifest.write_text("clip,when\n")
    assert [each.part for each in api.verify(store, deep=True) if each.level == "damage"] == ["manifest.csv"]


# ---- the command -----------------------------------------------------------------------------------------------------


def test_exit_codes_and_json(store, way, capsys, monkeypatch):
    feature = feature_of()
    plant(store, [key_info(feature)], first(constant)([rows_of(feature, each) for each in IDS]))

    def extract(*args):
        return way.invoke(capsys, monkeypatch, "verify", store, *args)

    plain = extract()
    assert (plain.returncode, plain.stdout.split(";")[0]) == (0, "sound")
    deep = extract("--deep")
    assert deep.returncode == 0
    assert f"suspect: {'0' * 16}.h5 {feature.key} {IDS[0]}: 1 of its 10 valid rows hold" in deep.stdout
    assert "sound, 1 suspect(s); content digest" in deep.stdout
    assert extract("--deep", "--strict").returncode == 1
    told = [json.loads(line) for line in extract("--deep", "--json").stdout.splitlines()]
    assert [sorted(line) for line in told] == [["clip", "key", "level", "part", "problem"]]
    (store / "index.h5").write_bytes(b"no index")
    broken = extract("--json")
    assert broken.returncode == 1
    assert json.loads(broken.stdout)["level"] == "index"


def test_what_a_run_leaves_is_plausible(way, tiny, media, tmp_path, capsys, monkeypatch):
    """Real rows of networks with random weights, a clip without sound among them: nothing to suspect."""
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "c01", "mute"])
    assert way.invoke(capsys, monkeypatch, *way.run_args(listed, tmp_path / "run")).returncode == 0
    findings = api.verify(tmp_path / "run", deep=True)
    assert {(each.key.split("@")[0], each.level) for each in findings} == {(name, "note") for name in way.TRIO}
    assert all("its weights are random (random:0)" in each.problem for each in findings)


def test_what_is_only_odd_is_not_listed_without_end(store, way, capsys, monkeypatch):
    feature = feature_of()
    rows = [constant(rows_of(feature, f"c{i:02}")) for i in range(30)]
    plant(store, [key_info(feature)], rows)
    done = way.invoke(capsys, monkeypatch, "verify", store, "--deep")
    lines = [line for line in done.stdout.splitlines() if line.startswith("suspect")]
    assert len(lines) == 21
    assert lines[-1] == f"suspect: {feature.key}: 10 more like these; --json lists all"
