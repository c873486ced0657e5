"""The command as a person or a script meets it: its words, its exit codes, and what it does not import."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from extract.cli import COMMANDS
from extract.store.catalog import Store
from manifests.clip import Clip, write_manifest

Extract = Callable[..., Any]
HEADER = "clip_id,path,start,end,labels,split"
HEAVY = ("torch", "torchvision", "av", "h5py", "ray", "librosa", "tqdm", "numpy")


@pytest.fixture
def extract(
    tiny: None, way: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Extract:
    """``extract("status", store)``: the command in this process."""
    return lambda *args: way.invoke(capsys, monkeypatch, *args)


def imported_by(*args: str) -> set[str]:
    """Which heavy packages a command imports."""
    code = (
        "import sys\nfrom extract.cli import main\nsys.argv = ['extract', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('IMPORTED', *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, *args], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_imports_nothing_heavy() -> None:
    assert imported_by("--help") == set()
    assert imported_by("parse", "--help") == set()
    assert imported_by("collocate", "--help") == set()


def test_lists_and_plans_import_no_torch(way: ModuleType, media: Path, tmp_path: Path) -> None:
    listed = way.manifest(tmp_path / "m.csv", media)
    store = str(tmp_path / "s")
    light = {"torch", "torchvision", "ray", "librosa", "tqdm"}
    assert not imported_by("backbones", "list") & {*light, "av", "h5py"}
    assert not imported_by("recipes") & {*light, "av", "h5py"}
    assert not imported_by("plan", str(listed), "--out", store, "--weights", "random:0") & light
    assert not Path(store).exists(), "a plan writes nothing"


def test_every_command_has_help() -> None:
    from click.testing import CliRunner

    from extract.cli import extract

    for name in COMMANDS:
        result = CliRunner().invoke(extract, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)
        assert "Usage: " in result.output
    result = CliRunner().invoke(extract, ["rum"])
    assert result.exit_code == 2
    assert "no command is called 'rum'; did you mean run?" in result.output


def test_a_plan_says_everything_and_computes_nothing(
    way: ModuleType, extract: Extract, media: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(media, mine)
    (mine / "c03.mp4").unlink()
    listed = way.manifest(tmp_path / "m.csv", mine)
    done = extract("plan", *way.run_args(listed, tmp_path / "s")[1:-2])
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "s").exists()
    words = done.stdout
    assert "6 clips, about 0.01 h" in words
    assert "recipe    per-second" in words
    assert "6 clips x 3 backbones; the store does not exist yet" in words
    assert (
        "1. 1 RGB frame, short side 32, centre crop 32, bilinear; a row every 1 s of 1 s, frames by centered" in words
    )
    assert words.count("random:0") == 3
    assert "1 of 6 files are missing; they will be recorded as not_found:" in words
    assert f"  c03: {mine / 'c03.mp4'}" in words


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("llp.csv", None, "extract manifest llp --annotations"),
        ("mine.csv", None, "extract manifest folder DIR -o"),
        ("m.csv", f"{HEADER}\na,a.mp4,0,1,,\na,b.mp4,0,1,,\n", "line 3: clip id 'a' is already that of line 2"),
        ("m.csv", f"{HEADER}\na,a.mp4,2,1,,\n", "line 2: end 1 must be after start 2"),
        ("m.csv", f"{HEADER}\n", "lists no clips"),
    ],
    ids=["missing-llp", "missing", "duplicate", "backwards", "empty"],
)  # fmt: skip
def test_a_manifest_that_cannot_be_used(
    way: ModuleType, extract: Extract, tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    done = extract(*way.run_args(tmp_path / name, tmp_path / "s"))
    assert done.returncode == 2
    assert done.stderr.startswith("extract: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--backbones", "tiny_frame"], "no backbone is called 'tiny_frame'; did you mean tiny_frames"),
        (["--backbones", "tiny_frames,tiny_frames"], "asked for twice: tiny_frames@"),
        (["--recipe", "lpp"], "no recipe is called 'lpp'; did you mean llp"),
        (["--weights", "random:x"], "the seed must be a whole number"),
        (["--weights", "/nowhere"], "there is no such folder"),
        (
            ["--weights", "official", "--backbones", "tiny_frames"],
            "no trained weights of tiny_frames were ever published",
        ),
        (["--videos", "/nowhere"], "there is no such folder"),
        (["--only", "c99"], "no clip of the manifest is called 'c99'"),
        (["--device", ","], "names no device"),
        (["--device", "gpu"], "'gpu' is no device; use cpu, cuda or cuda:N"),
        (["--device", "cuda:99"], "there is no cuda:99 on this machine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_cannot_be_met(
    way: ModuleType, extract: Extract, media: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    listed = way.manifest(tmp_path / "m.csv", media)
    done = extract(*way.run_args(listed, tmp_path / "s", *more))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_whole_way(way: ModuleType, extract: Extract, media: Path, tmp_path: Path) -> None:
    """Run with a failure, look, mend, retry, verify: exit codes and words of each step."""
    mine = tmp_path / "mine"
    shutil.copytree(media, mine)
    (mine / "c01.mp4").write_bytes(b"no video at all" * 100)
    listed = way.manifest(tmp_path / "m.csv", mine, ["c00", "c01", "mute"])
    store = tmp_path / "s"

    first = extract(*way.run_args(listed, store, "--chunk", 2))
    assert first.returncode == 1
    assert "3 clips: 1 complete, 1 masked, 1 failed; 3 computed in this run" in first.stdout
    assert "  failed  not_media: 1" in first.stdout
    assert "  masked  no_audio: 1" in first.stdout
    assert f"`extract retry {store} --reason R`" in first.stdout
    assert "weights are RANDOM" in first.stderr
    start, *sealed, summary = way.events(first.stderr)
    assert start == {"event": "start", "todo": 3, "clips": 3}
    assert [(line["event"], line["clips"], line["done"], line["failed"], line["masked"]) for line in sealed] == [
        ("sealed", 2, 2, 1, 0),
        ("sealed", 1, 3, 0, 1),
    ]
    assert (summary["event"], summary["complete"], summary["reasons"]) == ("summary", 1, {"not_media": 1})
    assert json.loads((store / "lock").read_text())["pid"] == os.getpid()

    lenient = extract(*way.run_args(listed, store, "--chunk", 2, "--max-failures", 1))
    assert lenient.returncode == 0
    assert "0 computed in this run" in lenient.stdout

    status = extract("status", store)
    assert "failed not_media: 1 clip(s): c01" in status.stdout
    assert "2 of 3 clips" in status.stdout
    told = json.loads(extract("status", store, "--json", "--failed").stdout)
    assert (told["clips"], told["reasons"], told["masked_reasons"]) == (3, {"not_media": 1}, {"no_audio": 1})
    assert {key.split("@")[0]: counts for key, counts in told["keys"].items()} == {
        "tiny_clips": {"rows": 2, "masked": 0, "failed": 1},
        "tiny_frames": {"rows": 2, "masked": 0, "failed": 1},
        "tiny_sound": {"rows": 2, "masked": 1, "failed": 1},
    }
    assert {failure["clip_id"] for failure in told["failures"]} == {"c01"}
    assert told["running"] is None

    nothing = extract("retry", store, "--reason", "truncated")
    assert nothing.returncode == 0
    assert "there is nothing to retry" in nothing.stdout
    unknown = extract("retry", store, "--reason", "truncatde")
    assert unknown.returncode == 2
    assert "did you mean truncated" in unknown.stderr
    still = extract("retry", store, "--reason", "not_media")
    assert still.returncode == 1
    assert "1 clips: 0 complete, 0 masked, 1 failed; 1 computed" in still.stdout
    shutil.copy(media / "c01.mp4", mine)
    mended = extract("retry", store, "--reason", "not_media")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "3 remark(s) forgotten" in mended.stderr
    extract(*way.run_args(listed, tmp_path / "whole", "--chunk", 2))
    assert way.parts(store) == way.parts(tmp_path / "whole")

    verified = extract("verify", store)
    assert verified.returncode == 0
    assert f"sound; content digest {Store(store).digest()}" in verified.stdout
    part = next((store / "parts").iterdir())
    content = bytearray(part.read_bytes())
    content[-200] ^= 0xFF
    content[len(content) // 2] ^= 0xFF
    part.write_bytes(content)
    broken = extract("verify", store)
    assert broken.returncode == 1
    assert f"damage: {part.name}" in broken.stdout
    assert "delete the named part and run again" in broken.stdout


def test_no_store_no_run(way: ModuleType, extract: Extract, tmp_path: Path) -> None:
    for command in ("status", "verify", "retry"):
        done = extract(command, tmp_path / "nothing")
        assert done.returncode == 2
        assert "there is no feature store at" in done.stderr
    (tmp_path / "empty" / "parts").mkdir(parents=True)
    done = extract("retry", tmp_path / "empty")
    assert done.returncode == 2
    assert "no run is recorded in" in done.stderr


def test_ids_that_begin_with_a_dash_and_the_default_store(way: ModuleType, media: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "odd.csv", [Clip("-dash_0_2", "c00.mp4", 0, 2 * 10**9), Clip("b", "c01.mp4")])
    args = ["run", "odd.csv", "--videos", os.path.relpath(media, tmp_path), "--backbones", "tiny_frames"]
    args += ["--weights", "random:0", "--only", "-dash_0_2"]
    done = subprocess.run(
        way.command(*args), capture_output=True, text=True, cwd=tmp_path, env=way.environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert Store(tmp_path / "features" / "odd").clips("tiny_frames") == ("-dash_0_2",)


def test_the_bar_on_a_terminal(way: ModuleType, media: Path, tmp_path: Path) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "absent", "c01"])
    args = way.run_args(listed, tmp_path / "s", backbones=("tiny_frames",))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        way.command(*args), stdout=subprocess.PIPE, stderr=theirs, text=True, env=way.environment()
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 4096)
        except OSError:  # Linux says so when the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    stdout, _ = process.communicate(timeout=60)
    text = shown.decode()
    assert process.returncode == 1
    assert "3/3" in text
    assert "clip/s" in text
    assert "1 failed" in text
    assert '"event"' not in text, "no JSON where a person reads"
    assert "3 clips: 2 complete, 0 masked, 1 failed" in stdout
