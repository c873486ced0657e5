"""How a store stands: what is still to do, what has passed, and how a summary and a status count it, on one small store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from extract import api
from extract.commands.status import status as status_command
from extract.engine.base import slice_clips
from extract.errors import ManifestError, StoreError
from extract.job import Choices, Job, make_job
from extract.status import Split, as_json
from extract.store.catalog import Catalog, create_store
from extract.store.part import index_part, merge_chunk, seal_piece
from extract.store.rows import KeyInfo, Remark, Rows
from extract.store.runs import Ledger, Lock
from extract.summary import Summary, take_stock
from extract.todo import forget_outdated, headers, merge_leftovers, missing_chunks
from manifests.clip import Clip, write_manifest

CHOICES = Choices(weights="random:0", backbones=("resnet18", "vggish"), recipe="per-second")
SPLITS = {"whole": "train", "gone": "train", "mute": "test", "half": "train", "left": "test", "part": ""}
SIZE = 2


def info(job: Job, key: str) -> KeyInfo:
    return KeyInfo(key, job.plan.feature(key).identity_json, "[]", "random:0", "none", (3,))


def rows(clip_id: str, key: str) -> Rows:
    data = np.full((1, 3), len(clip_id), np.float32)
    window_ns = np.array([[0, 10**9]])
    return Rows(clip_id, key, data, window_ns, np.ones(1, np.uint8), np.zeros((1, 1), np.int64))


def failure(clip_id: str, key: str, reason: str) -> Remark:
    return Remark(clip_id, key, "open", reason, f"{clip_id} is {reason}")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    write_manifest(tmp_path / "m.csv", [Clip(clip_id, f"{clip_id}.mp4", split=s) for clip_id, s in SPLITS.items()])
    return tmp_path / "m.csv"


@pytest.fixture
def job(listed: Path, tmp_path: Path) -> Job:
    """A clip with all rows, one not found, one masked, one of them masked and failed, one with nothing, one half tried."""
    job = make_job(listed, CHOICES, tmp_path / "s")
    create_store(job.store)
    still, sound = job.plan.keys
    content = {
        "whole": ([still, sound], [], []),
        "gone": ([], [failure("gone", still, "not_found"), failure("gone", sound, "not_found")], []),
        "mute": ([still, sound], [], [Remark("mute", sound, "audio", "no_audio", "no stream")]),
        "half": ([still], [failure("half", sound, "too_large")], [Remark("half", still, "decode", "truncated", "cut")]),
        "part": ([], [failure("part", sound, "undecodable")], []),
    }
    for name, clips in slice_clips(job.listed, job.plan.keys, SIZE).items():
        order = [clip.clip_id for clip in clips]
        here = [(clip_id, *content[clip_id]) for clip_id in order if clip_id in content]
        if here:
            seal_piece(
                job.store / "parts",
                name,
                order,
                [info(job, key) for key in job.plan.keys],
                [rows(clip_id, key) for clip_id, keys, _, _ in here for key in keys],
                [each for _, _, failed, _ in here for each in failed],
                [each for _, _, _, masked in here for each in masked],
                {},
            )
    merge_leftovers(job, SIZE, ())
    return job


def chosen(job: Job, *clip_ids: str) -> Job:
    return make_job(job.manifest, replace(CHOICES, only=clip_ids), job.store)


# ---- what is to do ---------------------------------------------------------------------------------------------------


def todos(job: Job, store: Catalog | None = None) -> dict[str, int]:
    return {todo.clip.clip_id: len(todo.keys) for chunk in missing_chunks(job, SIZE, store) for todo in chunk.todos}


def test_rows_and_remarks_need_nothing_any_more(job: Job) -> None:
    assert todos(job) == {"left": 2, "part": 1}
    assert todos(job, Catalog(job.store)) == {"left": 2, "part": 1}
    assert todos(chosen(job, "left", "whole")) == {"left": 2}
    other = make_job(job.manifest, replace(CHOICES, backbones=("resnet18", "resnet34")), job.store)
    assert todos(other) == {"whole": 1, "gone": 1, "mute": 1, "half": 1, "left": 2, "part": 2}


def test_an_open_store_without_clips_is_used_as_it_is(listed: Path, tmp_path: Path) -> None:
    job = make_job(listed, CHOICES, tmp_path / "s")
    create_store(job.store)
    empty = Catalog(job.store)
    assert len(empty) == 0
    assert todos(replace(job, store=tmp_path / "elsewhere"), empty) == dict.fromkeys(SPLITS, 2)
    assert forget_outdated(replace(job, store=tmp_path / "elsewhere"), empty) == 0
    summary = Summary(asked=6)
    take_stock(replace(job, store=tmp_path / "elsewhere"), summary, empty)
    assert summary.left == 6


def test_nothing_outdated_is_nothing_forgotten(job: Job) -> None:
    before = Catalog(job.store).digest()
    assert forget_outdated(job) == 0
    assert Catalog(job.store).digest() == before


def test_a_file_that_has_come(job: Job) -> None:
    (job.manifest.parent / "gone.mp4").touch()
    assert forget_outdated(chosen(job, "whole", "half")) == 0, "of chosen clips only"
    assert forget_outdated(job) == 2
    assert todos(job) == {"gone": 2, "left": 2, "part": 1}


def test_a_file_that_has_come_and_may_not_be_read(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    (job.manifest.parent / "gone.mp4").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert forget_outdated(job) == 0


@pytest.mark.parametrize(("policy", "forgotten"), [("mask", 0), ("skip", 1), ("error", 1)])
def test_another_policy_for_clips_without_sound(job: Job, policy: str, forgotten: int) -> None:
    asked = make_job(job.manifest, replace(CHOICES, missing_audio=policy), job.store)
    assert forget_outdated(asked) == forgotten
    assert todos(job) == {"left": 2, "part": 1} | ({"mute": 1} if forgotten else {})


def test_a_raised_limit(job: Job) -> None:
    start(job)
    raised = make_job(job.manifest, replace(CHOICES, max_frames=10**9), job.store)
    assert forget_outdated(raised) == 1
    assert todos(raised) == {"half": 1, "left": 2, "part": 1}


def start(job: Job, **more: object) -> Ledger:
    from extract.running import Machine, header

    ledger = Ledger.start(job.store, {**header(job, Machine()), **more})
    ledger.finish({})
    return ledger


def test_of_a_ledger_only_its_first_line_is_read(job: Job) -> None:
    with start(job).path.open("ab") as file:
        file.write(b"no json\nat all")
    (header,) = headers(job.store)
    assert header["keys"] == list(job.plan.keys)
    assert "line" not in header


@pytest.mark.parametrize(
    ("text", "says"),
    [("[]\n", "has no header"), ('{"line":"receipt"}\n', "has no header"), ("{\n", r"jsonl:1 is no ledger line")],
)
def test_a_ledger_that_is_none(job: Job, text: str, says: str) -> None:
    (job.store / "runs" / "20260101T000000Z-0000.jsonl").write_text(text)
    with pytest.raises(StoreError, match=says):
        list(headers(job.store))


def test_pieces_of_another_chunk_size_are_merged_in_the_manifests_order(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    still, merged = job.plan.keys[0], []
    for number, clips in enumerate([("whole",), ("mute", "gone", "unlisted")]):
        order = ["unlisted", "mute", "whole", "gone"]
        some = [rows(clip_id, still) for clip_id in clips]
        seal_piece(job.store / "parts", "other", order, [info(job, still)], some, (), (), {"n": number})
    monkeypatch.setattr("extract.todo.merge_chunk", lambda *args: merged.append(args[1]) or merge_chunk(*args))
    merge_leftovers(job, SIZE, ())
    assert merged == ["other"], "what has no piece is not touched"
    assert not list((job.store / "parts").glob("*.piece.h5"))
    assert index_part(job.store / "parts" / "other.h5").keys[still].clips == ("whole", "gone", "mute", "unlisted")


# ---- how it stands ---------------------------------------------------------------------------------------------------


def stock(job: Job) -> Summary:
    summary = Summary(asked=len(job.clips))
    take_stock(job, summary)
    return summary


def test_a_summary_counts_every_clip_once(job: Job) -> None:
    all_of_them = stock(job)
    counts = (all_of_them.complete, all_of_them.masked, all_of_them.failed, all_of_them.left)
    assert counts == (1, 1, 3, 1)
    assert all_of_them.reasons == {"not_found": 1, "too_large": 1, "undecodable": 1}
    assert all_of_them.masked_reasons == {"no_audio": 1, "truncated": 1}
    assert all_of_them.size_bytes == sum(path.stat().st_size for path in (job.store / "parts").iterdir())

    some = stock(chosen(job, "mute", "gone", "left"))
    assert (some.complete, some.masked, some.failed, some.left) == (0, 1, 1, 1)
    assert some.reasons == {"not_found": 1}

    stills = make_job(job.manifest, replace(CHOICES, backbones=("resnet18",)), job.store)
    assert (stock(stills).complete, stock(stills).masked, stock(stills).failed) == (2, 1, 1)
    assert stock(stills).masked_reasons == {"truncated": 1}


def test_a_status_counts_by_key_split_and_reason(job: Job) -> None:
    still, sound = sorted(job.plan.keys)
    found = api.status(job.store)
    assert found.keys == {
        still: {"rows": 3, "masked": 1, "failed": 1},
        sound: {"rows": 2, "masked": 1, "failed": 3},
    }
    assert (found.clips, found.splits, found.runs, found.running, found.parts) == (None, {}, 0, None, 3)
    assert (found.reasons, found.masked_reasons) == (
        {"not_found": 1, "too_large": 1, "undecodable": 1},
        {"no_audio": 1, "truncated": 1},
    )
    assert found.examples == {"not_found": ("gone",), "too_large": ("half",), "undecodable": ("part",)}
    assert found.size_bytes == sum(path.stat().st_size for path in (job.store / "parts").iterdir())

    start(job)
    write_manifest(job.store / "manifest.csv", [clip for clip in job.listed if clip.clip_id != "whole"])
    with Lock(job.store):
        found = api.status(job.store)
        assert found.running is not None
        assert found.running["pid"]
    assert list(found.splits.items()) == [
        ("train", Split(2, {still: 1, sound: 0})),
        ("test", Split(2, {still: 1, sound: 1})),
        ("", Split(1, {still: 0, sound: 0})),
    ]
    assert (found.clips, found.runs) == (6, 1)


def test_what_is_damaged_is_named_and_left_out(job: Job) -> None:
    (job.store / "parts" / "broken.h5").write_bytes(b"x" * 5000)
    found = api.status(job.store)
    (why,) = found.damaged
    assert "broken.h5" in why
    assert found.parts == 3


def test_a_broken_copy_of_the_manifest_is_said(job: Job) -> None:
    (job.store / "manifest.csv").write_text("clip_id,path\n")
    with pytest.raises(ManifestError, match="header of a manifest"):
        api.status(job.store)


def test_the_schema_for_programs(job: Job) -> None:
    """Fields may be added; one that goes or changes its meaning raises the number."""
    start(job)
    write_manifest(job.store / "manifest.csv", job.listed)
    told = json.loads(CliRunner().invoke(status_command, [str(job.store), "--json"]).stdout)
    assert list(told) == [
        "schema",
        "store",
        "clips",
        "keys",
        "splits",
        "reasons",
        "masked_reasons",
        "examples",
        "size_bytes",
        "parts",
        "runs",
        "running",
        "damaged",
    ]
    assert told["schema"] == 1
    assert told == json.loads(json.dumps(as_json(api.status(job.store))))
    assert told["splits"]["train"] == {
        "clips": 3,
        "rows": dict(zip(sorted(job.plan.keys), (2, 1), strict=True)),
    }
    more = json.loads(CliRunner().invoke(status_command, [str(job.store), "--json", "--failed"]).stdout)
    assert more.pop("failures")[0] == {
        "clip_id": "gone",
        "key": sorted(job.plan.keys)[0],
        "stage": "open",
        "reason": "not_found",
        "message": "gone is not_found",
    }
    assert more == told


def test_a_status_in_words(job: Job, listed: Path) -> None:
    still, sound = sorted(job.plan.keys)
    start(job)
    lines = CliRunner().invoke(status_command, [str(job.store)]).stdout.splitlines()
    assert "in 3 part(s), 1 run(s), 6 clips in the manifest of the last" in lines[0]
    assert lines[2].split() == [still, "3", "of", "6", "clips", "1", "1"]
    assert lines[4:] == [
        "failed not_found: 1 clip(s): gone",
        "failed too_large: 1 clip(s): half",
        "failed undecodable: 1 clip(s): part",
        "masked no_audio: 1 clip(s)",
        "masked truncated: 1 clip(s)",
    ]
    write_manifest(job.store / "manifest.csv", job.listed)
    words = CliRunner().invoke(status_command, [str(job.store), "--failed"]).stdout
    assert f"train: 3 clips, with rows of {still} 2, {sound} 1\n" in words
    assert "no split: 1 clips, with rows of" in words
    assert f"half\t{sound}\ttoo_large\thalf is too_large\n" in words


def test_ten_examples_and_how_many_more(tmp_path: Path) -> None:
    many = [Clip(f"c{i:02}", f"c{i:02}.mp4") for i in range(13)]
    write_manifest(tmp_path / "m.csv", many)
    job = make_job(tmp_path / "m.csv", replace(CHOICES, backbones=("vggish",)), tmp_path / "s")
    create_store(job.store)
    remarks = [failure(clip.clip_id, job.plan.keys[0], "not_media") for clip in many]
    seal_piece(job.store / "parts", "one", [clip.clip_id for clip in many], (), (), remarks, (), {})
    (said,) = (
        line
        for line in CliRunner().invoke(status_command, [str(job.store)]).stdout.splitlines()
        if line.startswith("failed")
    )
    assert said.startswith("failed not_media: 13 clip(s): c00, c01, ")
    assert said.endswith("c09 and 3 more (--failed lists all)")
