"""Comparing two stores: cosines against numpy's, zero rows, pairs of keys and clips, and the way there and back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from extract import api
from extract.errors import PlanError, StoreError, UnknownName
from extract.plan import canonical_json, key_of
from extract.store import Store
from extract.store.catalog import create_store
from extract.store.compare import _Tally, compare
from extract.store.export import export
from extract.store.matching import BY_ID, BY_PREFIX, match_clips
from extract.store.part import seal_piece
from extract.store.rows import KeyInfo, Rows
from manifests.clip import Clip, write_manifest

NS = 1_000_000_000


def info(name: str, dims: tuple[int, ...] = (16,), **more: object) -> KeyInfo:
    identity = canonical_json({"backbone": name, **more})
    storage = "float16" if more.get("storage") == "float16" else "float32"
    return KeyInfo(key_of(identity), identity, "[]", "w", "MIT", dims, storage)


def rows(clip: str, key: KeyInfo, data: np.ndarray, hop_ns: int = NS, first: int = 0, valid=None) -> Rows:
    start = (first + np.arange(len(data), dtype=np.int64)) * hop_ns
    valid = np.ones(len(data), np.uint8) if valid is None else np.array(valid, np.uint8)
    windows = np.stack([start, start + hop_ns], axis=1)
    return Rows(clip, key.key, data.astype(key.storage), windows, valid, np.full((len(data), 1), -1, np.int64))


def store(path: Path, content: list[tuple[KeyInfo, Rows]]) -> Path:
    create_store(path)
    order = list(dict.fromkeys(each.clip_id for _, each in content))
    keys = list({key.key: key for key, _ in content}.values())
    seal_piece(path / "parts", "chunk", order, keys, [each for _, each in content], (), (), {})
    return path


def noise(*seed: int, count: int = 10, dims: tuple[int, ...] = (16,)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *dims), dtype=np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    return ((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))).astype(float)


KEY = info("vggish")
OTHER = info("vggish", other=1)


def pair(tmp_path, a: dict[str, Rows], b: dict[str, Rows], **options):
    first = store(tmp_path / "a", [(KEY, each) for each in a.values()])
    second = store(tmp_path / "b", [(OTHER, each) for each in b.values()])
    (found,) = compare(first, second, **options).pairs
    return found


def test_numbers_are_those_of_numpy(tmp_path):
    clips = [f"clip{i:02d}" for i in range(30)]
    a = {clip: noise(1, i) for i, clip in enumerate(clips)}
    b = {clip: a[clip] + np.float32(0.01 * i) * noise(2, i) for i, clip in enumerate(clips)}
    b["clip07"] = a["clip07"].copy()
    b["clip07"][4] *= -1
    found = pair(
        tmp_path,
        {c: rows(c, KEY, data) for c, data in a.items()},
        {c: rows(c, OTHER, data) for c, data in b.items()},
        worst=3,
    )
    every = np.array([cosine(a[clip], b[clip]) for clip in clips])
    assert (found.clips, found.only_a, found.only_b, found.rows, found.matched) == (30, 0, 0, 300, BY_ID)
    assert found.equal == 10 + 9
    assert found.cosine_mean == pytest.approx(every.mean(), abs=1e-9)
    assert found.cosine_min == pytest.approx(-1, abs=1e-12)
    exact = np.percentile(every.ravel(), 1, method="inverted_cdf")
    assert 1 - found.cosine_p1 == pytest.approx(1 - exact, rel=0.02)
    assert [each.cosine_mean for each in found.segments] == pytest.approx(every.mean(0), abs=1e-9)
    assert [(each.second, each.rows) for each in found.segments] == [(second, 30) for second in range(10)]
    largest = {clip: float(np.abs(a[clip].astype(float) - b[clip]).max()) for clip in clips}
    assert (found.max_abs_clip, found.max_abs) == max(largest.items(), key=lambda item: item[1])
    order = sorted(range(30), key=lambda i: every[i].min())[:3]
    assert [each.clip_a for each in found.worst] == [clips[i] for i in order]
    assert found.worst[0].clip_a == "clip07"
    assert (found.worst[0].second, found.worst[0].cosine) == (4, pytest.approx(-1))
    assert [each.max_abs for each in found.worst] == [largest[clips[i]] for i in order]


def test_close_rows_keep_their_digits(tmp_path):
    """1 less the scalar product would give 0 or twice the distance here."""
    data = noise(1)
    moved = data.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], np.float32(9))
    found = pair(tmp_path, {"c": rows("c", KEY, data)}, {"c": rows("c", OTHER, moved)})
    a, b = (each[0].astype(np.longdouble) for each in (data, moved))
    gap = a / np.sqrt(a @ a) - b / np.sqrt(b @ b)
    distance = float(gap @ gap / 2)
    assert 0 < distance < 1e-14
    assert 1 - found.worst[0].cosine == pytest.approx(distance, abs=1.2e-16)
    assert (found.equal, len(found.worst)) == (9, 1)


def test_zero_rows_have_no_cosine(tmp_path):
    a, b = noise(1), noise(1)
    a[2] = b[2] = 0
    a[5] = 0
    found = pair(tmp_path, {"c": rows("c", KEY, a)}, {"c": rows("c", OTHER, b)})
    assert (found.rows, found.equal, found.both_zero, found.one_zero) == (10, 9, 1, 1)
    assert found.one_zero_clips == ("c",)
    assert (found.cosine_min, found.cosine_mean) == (1.0, 1.0)
    assert [each.second for each in found.segments] == [0, 1, 3, 4, 6, 7, 8, 9]
    assert found.max_abs == np.abs(b[5]).max()
    zero = np.zeros_like(a)
    (tmp_path / "zero").mkdir()
    nothing = pair(tmp_path / "zero", {"c": rows("c", KEY, zero)}, {"c": rows("c", OTHER, zero)})
    assert (nothing.cosine_mean, nothing.cosine_min, nothing.cosine_p1, nothing.both_zero) == (None, None, None, 10)


def test_rows_of_policies_and_of_other_windows_are_left_out(tmp_path):
    a = {
        "masked": rows("masked", KEY, noise(1), valid=[1] * 8 + [0] * 2),
        "short": rows("short", KEY, noise(2)),
        "shifted": rows("shifted", KEY, noise(3), first=3),
        "grid": rows("grid", KEY, noise(4)),
        "gone": rows("gone", KEY, noise(5)),
    }
    b = {
        "masked": rows("masked", OTHER, noise(1) * 2, valid=[0] + [1] * 9),
        "short": rows("short", OTHER, noise(2)[:7]),
        "shifted": rows("shifted", OTHER, noise(3)[2:]),
        "grid": rows("grid", OTHER, noise(4), hop_ns=960_000_000, first=1),
        "new": rows("new", OTHER, noise(6)),
        "newer": rows("newer", OTHER, noise(7)),
    }
    b["shifted"] = Rows(
        "shifted", OTHER.key, noise(3)[2:], a["shifted"].window_ns[2:], np.ones(8, np.uint8), a["grid"].source_ns[:8]
    )
    found = pair(tmp_path, a, b)
    assert (found.clips, found.no_window, found.only_a, found.only_b) == (3, 1, 1, 2)
    assert (found.other_counts, found.invalid, found.unmatched) == (2, 3, 3 + 2)
    assert (found.rows, found.equal) == (7 + 7 + 8, 7 + 8)
    assert found.cosine_min == pytest.approx(1, abs=1e-15)
    assert found.segments[-1].second == 12


def test_maps_and_half_precision(tmp_path):
    dims = (3, 2, 4)
    a, half = info("maps", dims), info("maps", dims, storage="float16")
    data = noise(1, dims=dims)
    first = store(tmp_path / "a", [(a, rows("c", a, data))])
    second = store(tmp_path / "b", [(half, rows("c", half, data))])
    (found,) = compare(first, second).pairs
    exact = cosine(data.reshape(10, -1), data.astype(np.float16).astype(np.float32).reshape(10, -1))
    assert found.cosine_min == pytest.approx(exact.min(), abs=1e-12)
    assert 0.9999 < found.cosine_min < 1
    assert found.equal == 0


def test_pairs_of_keys(tmp_path):
    one, two, mine, flat = info("vggish"), info("vggish", n=2), info("mine"), info("mine", (8,))
    a = store(tmp_path / "a", [(key, rows("c", key, noise(i))) for i, key in enumerate((one, two, mine))])
    b = store(tmp_path / "b", [(one, rows("c", one, noise(0))), (flat, rows("c", flat, noise(9, dims=(8,))))])
    with pytest.raises(StoreError, match=r"a has 2 features of vggish: vggish@.*--keys"):
        compare(a, b)
    (found,) = compare(a, a, keys={one.key: two.key}).pairs
    assert (found.key_a, found.key_b, found.equal) == (one.key, two.key, 0)
    with pytest.raises(PlanError, match=r"rows of mine@.* have shape \(16,\), rows of mine@.* \(8,\)"):
        compare(a, b, keys={"mine": "mine"})
    with pytest.raises(UnknownName, match="mein"):
        compare(a, b, keys={"mein": "mine"})
    c = store(tmp_path / "c", [(mine, rows("c", mine, noise(2)))])
    result = compare(c, a)
    assert [(each.key_a, each.equal) for each in result.pairs] == [(mine.key, 10)]
    assert (result.alone_a, result.alone_b) == ((), tuple(sorted((one.key, two.key))))
    d = store(tmp_path / "d", [(info("else"), rows("c", info("else"), noise(2)))])
    with pytest.raises(StoreError, match="no backbone in common: mine here, else there"):
        compare(c, d)


LONG = ("-aaaaaaaaa__Bark", "-aaaaaaaaa__Cat", "bbbbbbbbbbb_0_10", "eeeeeeeeeee_5_15")
BARE = ("-aaaaaaaaa_", "bbbbbbbbbbb", "ccccccccccc")


def test_clips_by_id_or_by_the_first_letters_of_it():
    found = match_clips(LONG, BARE)
    assert found.partners == {LONG[0]: (BARE[0],), LONG[1]: (BARE[0],), LONG[2]: (BARE[1],)}
    assert (found.only_a, found.only_b, found.how) == (1, 1, BY_PREFIX)
    back = match_clips(BARE, LONG)
    assert back.partners == {BARE[0]: LONG[:2], BARE[1]: LONG[2:3]}
    assert (back.only_a, back.only_b, back.how) == (1, 1, BY_PREFIX)
    same = match_clips(BARE, BARE[1:])
    assert (same.partners, same.only_a, same.how) == ({clip: (clip,) for clip in BARE[1:]}, 1, BY_ID)
    assert match_clips(LONG, ("bbbbbbbbbbb_7_17",)).partners == {}, "neither store has bare ids: these are other clips"
    assert match_clips((*LONG, "ddd"), (*BARE, "ddd")).partners == {"ddd": ("ddd",)}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0.0, 1e-17, 1e-9, 3e-4, 0.5, 1.0, 2.0]), min_size=1, max_size=300))
def test_the_percentile_is_within_one_per_cent(distances):
    tally = _Tally(0)
    array = np.array(distances)
    tally._distances("c", "c", array, np.zeros(len(array), np.int64), 1.0)
    found = tally.result("a", "b", match_clips(["c"], ["c"]))
    exact = np.sort(array)[::-1][math.ceil(len(array) / 100) - 1]  # numpy's percentile, without its rounding of 1 - x
    assert 1 - found.cosine_p1 == pytest.approx(exact, rel=0.011, abs=1e-15)
    assert found.cosine_p1 >= found.cosine_min


def llp_store(path: Path) -> Path:
    keys = [info("vggish", (128,)), info("resnet152", (2048,)), info("r2plus1d_18", (512,))]
    clips = [f"video{i:06d}_30_40" for i in range(4)]
    content = []
    for k, key in enumerate(keys):
        count, hop_ns = (80, NS // 8) if key is keys[1] else (10, NS)
        content += [
            (key, rows(clip, key, noise(k, i, count=count, dims=key.dims), hop_ns)) for i, clip in enumerate(clips)
        ]
    store(path, content)
    write_manifest(path / "manifest.csv", [Clip(clip, f"{clip[:11]}.mp4", split="test") for clip in clips])
    return path


def test_round_trip_and_a_perturbed_feature(tmp_path):
    path = llp_store(tmp_path / "ours")
    export(Store(path), "llp", tmp_path / "out")
    api.import_features(tmp_path / "out", "llp", tmp_path / "theirs")
    result = api.compare(path, tmp_path / "theirs")
    assert [each.matched for each in result.pairs] == [BY_PREFIX] * 3
    for each in result.pairs:
        assert (each.clips, each.only_a, each.only_b, each.other_counts) == (4, 0, 0, 0)
        assert each.rows == each.equal == (320 if each.key_a.startswith("resnet152") else 40)
        assert (each.cosine_mean, each.cosine_min, each.max_abs, each.worst) == (1.0, 1.0, 0.0, ())
    file = tmp_path / "out/feats/res152/video000002.npy"
    array = np.load(file)
    array[33] += 0.3 * noise(77, dims=(2048,))[0]
    np.save(file, array)
    api.import_features(tmp_path / "out", "llp", tmp_path / "other", manifest=path / "manifest.csv")
    (found,) = (each for each in api.compare(path, tmp_path / "other").pairs if each.key_a.startswith("resnet152"))
    assert (found.matched, found.rows - found.equal) == (BY_ID, 1)
    (worst,) = found.worst
    assert (worst.clip_a, worst.second, worst.cosine) == ("video000002_30_40", 33 // 8, found.cosine_min)
    assert 0.9 < worst.cosine < 0.99


def test_the_command(tmp_path):
    from extract.commands.compare import compare as command

    path = llp_store(tmp_path / "ours")
    export(Store(path), "llp", tmp_path / "out")
    api.import_features(tmp_path / "out", "llp", tmp_path / "theirs")
    done = CliRunner().invoke(command, [str(path), str(tmp_path / "theirs")])
    assert done.exit_code == 0, done.output
    assert "4 compared (by id, or first 11 characters), 0 only in A, 0 only in B" in done.stdout
    assert "320 compared, 320 of them equal bit by bit (100.00 %)" in done.stdout
    said = CliRunner().invoke(command, [str(path), str(tmp_path / "theirs"), "--json", "--keys", "vggish"])
    told = json.loads(said.stdout)
    assert [each["key_a"].split("@")[0] for each in told["pairs"]] == ["vggish"]
    assert told["pairs"][0]["equal"] == 40
