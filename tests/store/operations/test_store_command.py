"""``extract store``: what a person reads, the exit codes, and that nothing happens without --yes."""

from __future__ import annotations

import dataclasses

import pytest
from click.testing import CliRunner

from extract.cli import extract
from extract.errors import PlanError, StoreBusy
from extract.store import Store
from extract.store.runs import Lock


def call(*args):
    done = CliRunner().invoke(extract, ["store", *map(str, args)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_pack(many, tmp_path):
    path = many.make(tmp_path / "s")
    done = call("pack", path, "--part-bytes", "0.5 MiB", "--compression", "gzip:1")
    assert done.exit_code == 0
    assert "6 parts before, 1 now; 1 written" in done.output
    assert "1 parts before, 1 now; 0 written" in call("pack", path).output
    for wrong in ("many", "-5", "0", "1 TiB", "1e9"):
        done = call("pack", path, f"--part-bytes={wrong}")
        assert (done.exit_code, "is no size" in done.output) == (2, True), wrong
    many.seal_chunk(path / "parts", "e" * 16, ["800_clip"], merge=False)
    assert "1 piece(s) of unfinished chunks stayed" in call("pack", path).output
    with Lock(path), pytest.raises(StoreBusy):
        call("pack", path)


def test_merge(many, tmp_path):
    a, b = many.make(tmp_path / "a", only=range(4)), many.make(tmp_path / "b", only=range(2, 6))
    rows = many.content.make_rows("800_clip", many.STILL)
    for path, each in ((a, rows), (b, dataclasses.replace(rows, data=rows.data + 1))):
        many.seal_chunk(path / "parts", "e" * 16, ["800_clip"], [("rows", each)])
    done = call("merge", a, b, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert f"800_clip {many.STILL.key}: data differ: max abs difference 1, min cosine" in done.output
    assert str(a / "parts" / f"{'e' * 16}.h5") in done.output
    assert "1 conflict(s), nothing was written" in done.output
    assert not (tmp_path / "out").exists()
    done = call("merge", a, b, "-o", tmp_path / "out", "--prefer", b)
    assert done.exit_code == 0
    assert "preferred the first: 800_clip" in done.output
    assert f"1 times different rows, taken from {b}" in done.output
    assert "complete already" in call("merge", a, b, "-o", tmp_path / "out", "--prefer", b).output


def test_split(many, tmp_path):
    path = many.make(tmp_path / "s")
    done = call("split", path, "-o", tmp_path / "out", "--by", "split")
    assert sorted(done.output.splitlines()) == sorted(
        f"{tmp_path / 'out' / name}: 6 clips" for name in ("train", "val", "test", "unsplit")
    )
    (tmp_path / "mine.txt").write_text("000_clip\n\n001_clip\n")
    call("split", path, "-o", tmp_path / "ids", "--ids", tmp_path / "mine.txt")
    assert set(Store(tmp_path / "ids" / "mine").manifest) == {"000_clip", "001_clip"}
    assert call("split", path, "-o", tmp_path / "x").exit_code == 2
    assert call("split", path, "-o", tmp_path / "x", "--by", "split", "--shards", 2).exit_code == 2
    with pytest.raises(PlanError, match="ask for 1 to 24 shards"):
        call("split", path, "-o", tmp_path / "x", "--shards", 0)
    assert not (tmp_path / "x").exists()


def test_rm(many, tmp_path):
    path = many.make(tmp_path / "s")
    before = many.tree(path, ())
    done = call("rm", path, "--key", "vggish")
    assert done.exit_code == 0
    assert f"would go: rows of 21 clip(s), {many.SOUND.key}" in done.output
    assert "nothing was removed; add --yes" in done.output
    assert many.tree(path, ()) == before
    assert "removed: rows of 21 clip(s)" in call("rm", path, "--key", "vggish", "--yes").output
    assert len(Store(path).keys()) == 1
    assert "removed: 3 failure(s)" in call("rm", path, "--failed", "not_found", "--yes").output


def test_convert(many, tmp_path):
    path = many.make(tmp_path / "s")
    done = call("convert", path, "-o", tmp_path / "out", "--storage", "float16")
    assert done.exit_code == 0
    assert f"{many.STILL.key} -> resnet152@" in done.output
    assert "cosine at least 0.99999" in done.output
    assert " before, " in done.output
    again = call("convert", path, "-o", tmp_path / "out", "--storage", "float16")
    assert again.output.replace("complete already", "converted") == done.output
    assert f"{many.STILL.key}: rows equal" in call("convert", path, "-o", tmp_path / "copy").output


def test_view(many, tmp_path):
    path, view = many.make(tmp_path / "s"), tmp_path / "view.h5"
    assert "resnet152" in call("view", path, "-o", view).output
    assert call("view", path, "-o", view, "--check").output == f"{view}: up to date\n"
    call("pack", path)
    done = call("view", path, "-o", view, "--check")
    assert (done.exit_code, "make the view again" in done.output) == (1, True)
    assert "it shows" in call("view", many.make(tmp_path / "other", count=4), "-o", view, "--check").output
