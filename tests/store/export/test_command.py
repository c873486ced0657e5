"""``extract export`` and api.export: choosing, words, exit codes."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from extract import api
from extract.cli import COMMANDS, extract
from extract.errors import PlanError, StoreError, UnknownName
from extract.store.export import layouts


@pytest.fixture
def store(shelf, tmp_path):
    return shelf.make(tmp_path / "shelf")


@pytest.fixture
def command():
    def run(*args):
        return CliRunner().invoke(extract, ["export", *map(str, args)])

    return run


def test_help_shows_every_layout(command):
    done = command("--help")
    assert done.exit_code == 0
    for name, line in layouts().items():
        assert name in done.output
        assert line.split()[0] in done.output
    assert "export" in COMMANDS


def test_the_whole_way(command, store, tmp_path):
    out = tmp_path / "o"
    done = command(store.path, "--layout", "npy", "-o", out, "--keys", "vggish,resnet152", "--dtype", "float16")
    assert done.exit_code == 0, done.output
    assert f"{out}: 19 files written, 0.0 MB\n" in done.output
    assert f"1 clips lack something; {out / 'missing.csv'} says what and why:" in done.output
    keys = [store.resolve(name) for name in ("resnet152", "vggish")]
    assert done.output.endswith("".join(f"  {key}  not_found: 1\n" for key in keys))
    again = command(store.path, "--layout", "npy", "-o", out, "--keys", "vggish,resnet152", "--dtype", "float16")
    assert again.exit_code == 0
    assert "0 files written, 0.0 MB, 19 were there already" in again.output
    assert "is complete already" in again.output
    assert "not_found: 1" in again.output


def test_the_folder_by_default(command, store, tmp_path, monkeypatch):
    monkeypatch.chdir(store.path)
    assert command(".", "--layout", "npy", "--keys", "vggish", "--only", "plain").exit_code == 0
    assert (store.path / "exports" / "shelf-npy" / "vggish" / "plain.npy").exists()


@pytest.mark.parametrize(
    ("args", "kind", "words"),
    [
        (["--layout", "npyy"], UnknownName, "no layout is called 'npyy'; did you mean npy"),
        (["--layout", "npy", "--annotations", "x"], PlanError, "npy does not take --annotations: of the layouts only"),
        (["--layout", "npy", "--missing", "zero"], PlanError, "does not take --missing: of the layouts only"),
        (["--layout", "npy", "--no-l2-normalize"], PlanError, "does not take --l2-normalize"),
        (["--layout", "npy", "--shard-clips", "3"], PlanError, "does not take --shard-clips"),
        (["--layout", "npy", "--split", "tset"], UnknownName, "is called 'tset'; did you mean test"),
        (["--layout", "npy", "--only", "plane"], UnknownName, "is called 'plane'; did you mean plain"),
        (["--layout", "llp"], StoreError, "feats/vggish holds (10, 128) per clip"),
        (["--layout", "llp", "--missing", "fill"], UnknownName, "no way with missing clips is called 'fill'"),
    ],
)
def test_what_cannot_be_done(command, store, tmp_path, args, kind, words):
    done = command(store.path, "-o", tmp_path / "o", *args)
    assert isinstance(done.exception, kind), done.output
    assert words in str(done.exception)
    assert not (tmp_path / "o").exists()


def test_choosing_clips(shelf, store, tmp_path):
    def ids(name, **options):
        api.export(store.path, "npy", tmp_path / name, keys=["resnet152"], **options)
        told = json.loads((tmp_path / name / "export.json").read_text())
        lines = (tmp_path / name / "index.csv").read_text("utf-8").splitlines()[1:]
        return told["clips"], [line.split(",")[0] for line in lines]

    of_test = [clip for clip in shelf.IDS[1::2] if clip != "failed"]
    assert ids("split", split="test") == (4, of_test)
    assert ids("only", only=["plain", "-dash"]) == (2, ["plain", "-dash"])
    assert ids("both", split="test", only=["plain"]) == (1, ["plain"])
    with pytest.raises(UnknownName, match="no clip of the split test is called '-dash'"):
        ids("none", split="test", only=["-dash"])


def test_no_store(command, tmp_path):
    done = command(tmp_path, "--layout", "npy")
    assert isinstance(done.exception, StoreError)
    assert "there is no feature store at" in str(done.exception)
