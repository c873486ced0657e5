"""A run computes what is missing, once, and the same bytes whatever way they came about."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from extract import api, running
from extract.errors import ExtractError, StoreBusy, UnknownName
from extract.job import Choices
from extract.running import Machine
from extract.store.catalog import Store
from extract.store.runs import Lock
from extract.summary import Summary

pytestmark = pytest.mark.usefixtures("tiny")

Run = Callable[..., Summary]


def test_the_first_run_computes_and_the_second_does_nothing(
    way: ModuleType, run: Run, listed: Path, tmp_path: Path
) -> None:
    started: list[tuple[int, int]] = []
    first = run(listed, on_start=lambda todo, asked: started.append((todo, asked)))
    stamps = way.stamps(tmp_path / "s")
    second = run(listed, on_start=lambda todo, asked: started.append((todo, asked)))

    assert started == [(6, 6), (0, 6)]
    assert (first.complete, first.computed, second.complete, second.computed) == (6, 6, 6, 0)
    assert way.stamps(tmp_path / "s") == stamps
    assert len(stamps) == 2, "six clips in chunks of four"
    assert len(way.ledgers(tmp_path / "s")) == 1, "a run that does nothing leaves no ledger"
    assert api.verify(tmp_path / "s") == []
    rows = Store(tmp_path / "s").rows("c01", "tiny_clips")
    assert (rows.data.shape, rows.source_ns.shape, rows.valid.tolist()) == ((3, 8), (3, 4), [1, 1, 1])
    assert rows.window_ns[:, 0].tolist() == [0, 10**9, 2 * 10**9]


def test_another_backbone_computes_only_itself(
    way: ModuleType, run: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(listed, backbones=("tiny_frames",))
    before, digests = way.stamps(tmp_path / "s"), Store(tmp_path / "s")["c00", "tiny_frames"].tobytes()
    decoded, loaded = [], []
    import extract.lane.ahead as ahead
    import extract.lane.lane as lane

    real_decode, real_load = ahead.decode, lane.load_models

    def spy_decode(path: str, start: int, stop: int, taps: Any, limits: Any) -> Any:
        decoded.append({type(tap.view).__name__ for tap in taps})
        return real_decode(path, start, stop, taps, limits)

    def spy_load(features: Any, *args: Any) -> Any:
        loaded.append([feature.backbone.name for feature in features])
        return real_load(features, *args)

    monkeypatch.setattr(ahead, "decode", spy_decode)
    monkeypatch.setattr(lane, "load_models", spy_load)
    run(listed, backbones=("tiny_frames", "tiny_sound"))

    assert decoded == [{"Sound"}] * 6
    assert loaded == [["tiny_sound"]]
    after = way.stamps(tmp_path / "s")
    assert {name: after[name] for name in before} == before
    store = Store(tmp_path / "s")
    assert store["c00", "tiny_frames"].tobytes() == digests
    assert len(store.clips("tiny_sound")) == 6


@pytest.mark.parametrize(
    "change", [{"precision": "bfloat16"}, {"weights": "random:1"}, {"recipe": "llp-clean"}], ids=lambda c: next(iter(c))
)
def test_a_change_of_what_is_asked_is_another_key(
    run: Run, listed: Path, tmp_path: Path, change: dict[str, str]
) -> None:
    run(listed, backbones=("tiny_frames",))
    (old,) = Store(tmp_path / "s").keys()
    before = Store(tmp_path / "s")["c00", old.key]
    done = run(listed, backbones=("tiny_frames",), **change)

    store = Store(tmp_path / "s")
    (new,) = (info for info in store.keys() if info.key != old.key)  # noqa: SIM118 - a Store is no dict
    assert done.computed == 6
    assert new.identity != old.identity
    assert np.array_equal(store["c00", old.key], before)
    if "recipe" not in change:
        assert store["c00", new.key].shape == before.shape
        assert not np.array_equal(store["c00", new.key], before)
    if "precision" in change:
        assert 0.999 < done.notes[f"cosine to float32 of {new.key}"] < 1.0


def test_a_part_of_the_manifest_first_gives_the_same_files(
    way: ModuleType, run: Run, listed: Path, tmp_path: Path
) -> None:
    run(listed, "whole")
    assert run(listed, only=("c04", "c01")).asked == 2
    assert set(Store(tmp_path / "s").clips("tiny_sound")) == {"c01", "c04"}
    assert run(listed, limit=3).computed == 2
    assert run(listed).computed == 2
    assert way.parts(tmp_path / "s") == way.parts(tmp_path / "whole")
    with pytest.raises(UnknownName, match="did you mean c01"):
        run(listed, only=("c1",))


@pytest.mark.parametrize(
    "machine",
    [
        {"decode_threads": 1},
        {"decode_threads": 5},
        {"devices": ("cpu", "cpu")},
        {"seal_s": 0.0},
        {"devices": ("cpu",) * 3, "seal_s": 0.0},
    ],
    ids=str,
)
def test_the_machine_does_not_change_a_byte(
    way: ModuleType, run: Run, media: Path, tmp_path: Path, machine: dict[str, Any]
) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "c01", "mute", "c02", "missing", "c03"], times=2)
    run(listed, "plain")
    run(listed, "other", **machine)
    assert way.parts(tmp_path / "other") == way.parts(tmp_path / "plain")
    if "seal_s" in machine:
        assert max(map(len, way.receipts(tmp_path / "other"))) == 1, "so often a piece is sealed"


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_the_size_of_chunks_changes_no_content(run: Run, listed: Path, tmp_path: Path, chunk: int) -> None:
    run(listed, "plain")
    run(listed, "other", chunk=chunk)
    assert Store(tmp_path / "other").digest() == Store(tmp_path / "plain").digest()


# ---- sound that is missing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mask", "skip", "error"])
def test_a_mute_clip_keeps_its_pictures(way: ModuleType, run: Run, media: Path, tmp_path: Path, policy: str) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "mute"])
    done = run(listed, backbones=("tiny_frames", "tiny_sound", "tiny_both"), missing_audio=policy)
    store = Store(tmp_path / "s")
    assert store["mute", "tiny_frames"].any()
    assert store.rows("mute", "tiny_frames").valid.all()
    audio = [store.resolve(name) for name in ("tiny_both", "tiny_sound")]
    if policy == "mask":
        assert (done.complete, done.masked, done.masked_reasons) == (1, 1, {"no_audio": 1})
        for key in audio:
            rows = store.rows("mute", key)
            assert (rows.data.any(), rows.valid.any(), (rows.source_ns == -1).all()) == (False, False, True)
            assert rows.source_ns.shape[1] == store.rows("c00", key).source_ns.shape[1]
    if policy == "skip":
        assert (done.complete, done.masked, done.failed) == (1, 1, 0)
        assert not any(("mute", key) in store for key in audio)
    if policy == "error":
        assert (done.complete, done.failed, done.reasons) == (1, 1, {"no_audio": 1})
    assert run(listed, backbones=("tiny_frames", "tiny_sound", "tiny_both"), missing_audio=policy).computed == 0


@pytest.mark.parametrize(("first", "then"), [("mask", "skip"), ("skip", "error"), ("error", "mask")])
def test_another_policy_for_missing_sound_takes_effect(
    way: ModuleType, run: Run, media: Path, tmp_path: Path, first: str, then: str
) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "mute"])
    run(listed, missing_audio=first)
    assert run(listed, missing_audio=then).computed == 1
    run(listed, "fresh", missing_audio=then)
    assert way.parts(tmp_path / "s") == way.parts(tmp_path / "fresh")
    assert way.receipts(tmp_path / "s") == [["mute"]]


# ---- failures, and what makes up for them ----------------------------------------------------------------------------


def test_a_file_that_appears_later_is_computed_without_a_word(
    way: ModuleType, run: Run, media: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    shutil.copytree(media, late)
    (late / "c02.mp4").rename(tmp_path / "c02.mp4")
    listed = way.manifest(tmp_path / "m.csv", late)
    done = run(listed)
    assert (done.complete, done.failed, done.reasons) == (5, 1, {"not_found": 1})
    assert run(listed).computed == 0
    (tmp_path / "c02.mp4").rename(late / "c02.mp4")
    assert run(listed).computed == 1
    assert way.receipts(tmp_path / "s") == [["c02"]]
    run(listed, "whole")
    assert way.parts(tmp_path / "s") == way.parts(tmp_path / "whole")


def test_a_raised_limit_takes_effect(way: ModuleType, run: Run, listed: Path, tmp_path: Path) -> None:
    done = run(listed, max_seconds=3.0)
    assert (done.complete, done.reasons) == (4, {"too_large": 2})
    assert run(listed, max_seconds=3.0).computed == 0
    assert run(listed, max_seconds=2.5).computed == 0
    assert run(listed, max_seconds=4.0).computed == 2
    run(listed, "whole")
    assert way.parts(tmp_path / "s") == way.parts(tmp_path / "whole")


def test_retry_computes_only_what_failed_for_that_reason(
    way: ModuleType, run: Run, media: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(media, mine)
    (mine / "c01.mp4").write_bytes(b"<html>not a video</html>" * 50)
    (mine / "c03.mp4").unlink()
    listed = way.manifest(tmp_path / "m.csv", mine)
    run(listed, backbones=("tiny_frames", "tiny_sound"), chunk=2)
    run(listed, backbones=("tiny_clips",), chunk=3)
    shutil.copy(media / "c01.mp4", mine)
    shutil.copy(media / "c03.mp4", mine)

    again = api.again(tmp_path / "s", ("not_media",))
    assert [(a.job.choices.only, a.job.choices.backbones, a.chunk) for a in again] == [
        (("c01",), ("tiny_clips",), 3),
        (("c01",), ("tiny_frames", "tiny_sound"), 2),
    ]
    for each in again:
        api.forget(each)
        assert running.run(each.job, Machine(chunk=each.chunk, torch_threads=1)).computed == 1
        assert way.receipts(tmp_path / "s") == [["c01"]]
    assert api.status(tmp_path / "s").reasons == {"not_found": 1}
    assert api.status(tmp_path / "s").clips == 6
    run(listed, backbones=("tiny_frames", "tiny_sound"), chunk=2)
    run(listed, backbones=("tiny_clips",), chunk=3)
    run(listed, "whole", backbones=("tiny_frames", "tiny_sound"), chunk=2)
    run(listed, "whole", backbones=("tiny_clips",), chunk=3)
    assert way.parts(tmp_path / "s") == way.parts(tmp_path / "whole")
    assert api.again(tmp_path / "s") == ()
    with pytest.raises(UnknownName, match="did you mean not_media"):
        api.again(tmp_path / "s", ("notmedia",))


def test_retry_of_masked_rows_and_of_chosen_clips(way: ModuleType, run: Run, media: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(media, mine)
    listed = way.manifest(tmp_path / "m.csv", mine, ["mute", "c00", "harm"])
    run(listed)
    assert api.again(tmp_path / "s") == (), "what a policy filled is no failure"
    (again,) = api.again(tmp_path / "s", ("no_audio",), ("mute",), {"missing_audio": "skip"})
    assert api.again(tmp_path / "s", ("no_audio",), ("c00",)) == ()
    assert again.job.plan.missing_audio == "skip"
    shutil.copy(mine / "c00.mp4", mine / "mute.mp4")
    assert api.forget(again) == 1
    assert running.run(again.job, Machine(chunk=again.chunk, torch_threads=1)).complete == 1
    store = Store(tmp_path / "s")
    assert np.array_equal(store["mute", "tiny_sound"], store["c00", "tiny_sound"])
    assert store.masked() == ()


@pytest.mark.parametrize("harm", ["raises", "nan", "shape"])
def test_a_network_that_goes_wrong_costs_its_rows_of_that_clip(
    way: ModuleType, run: Run, media: Path, tmp_path: Path, harm: str
) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "harm", "c01"])
    done = run(listed, backbones=("tiny_frames", f"tiny_{harm}"))
    assert (done.complete, done.failed, done.reasons) == (2, 1, {"bug": 1})
    store = Store(tmp_path / "s")
    (remark,) = store.failed()
    assert (remark.clip_id, remark.key, remark.stage) == ("harm", store.resolve(f"tiny_{harm}"), "model")
    told = {"raises": 'KeyError: "a backbone\'s own mistake" at tiny.py:', "nan": "NaN", "shape": "of shape (4, 7)"}
    assert told[harm] in remark.message
    assert len(store.clips("tiny_frames")) == 3
    assert np.array_equal(store["c01", f"tiny_{harm}"], store["c01", f"tiny_{harm}"])
    assert run(listed, backbones=("tiny_frames", f"tiny_{harm}")).computed == 0


def test_a_mistake_of_the_decoder_is_recorded_with_type_and_place(
    way: ModuleType, run: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import extract.lane.ahead as ahead

    real = ahead.decode

    def decode(path: str, *args: Any) -> Any:
        for number, event in enumerate(real(path, *args)):
            if path.endswith("c02.mp4") and number == 2:
                raise IndexError("nobody thought of this")
            yield event

    monkeypatch.setattr(ahead, "decode", decode)
    done = run(listed)
    assert (done.complete, done.reasons) == (5, {"bug": 1})
    for remark in Store(tmp_path / "s").failed():
        assert remark.clip_id == "c02"
        assert remark.message.startswith("IndexError: nobody thought of this at test_run.py:")
    monkeypatch.undo()


def test_an_error_that_no_clip_survives_stops_the_run(
    run: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import extract.lane.ahead as ahead
    from extract.errors import PlanError

    def decode(path: str, *args: Any) -> Any:
        raise PlanError("these views cannot be made")
        yield

    monkeypatch.setattr(ahead, "decode", decode)
    with pytest.raises(PlanError, match="these views"):
        run(listed)
    assert Store(tmp_path / "s").failed() == (), "no clip is blamed for it"


def test_weights_are_fetched_once_before_any_lane_starts(
    way: ModuleType, run: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lanes have no terminal: a download there would show no progress bar."""
    import backbones.weights
    from extract.errors import WeightsMissing

    asked: list[str] = []

    def fetch(backbone: Any, *_: Any) -> None:
        asked.append(backbone.name)
        if backbone.name == "vggish":
            raise WeightsMissing("the weight file is not on this machine")

    monkeypatch.setattr(backbones.weights, "fetch", fetch)
    monkeypatch.setattr(running, "open_lane", lambda *_: pytest.fail("a lane was opened"))
    with pytest.raises(WeightsMissing, match="not on this machine"):
        run(listed, weights="official", backbones=("resnet18", "vggish"))
    assert asked == ["resnet18", "vggish"]
    assert way.receipts(tmp_path / "s") == []


# ---- interruptions ---------------------------------------------------------------------------------------------------


def test_a_stop_seals_what_is_done_and_the_next_run_goes_on(
    way: ModuleType, run: Run, listed: Path, tmp_path: Path
) -> None:
    seen: list[Any] = []
    done = run(listed, chunk=4, on_event=seen.append, stopping=lambda: len(seen) > 2)
    assert done.interrupted
    assert 0 < done.complete < 6
    assert done.left == 6 - done.complete
    first = {clip for piece in way.receipts(tmp_path / "s") for clip in piece}
    rest = run(listed, chunk=4)
    second = {clip for piece in way.receipts(tmp_path / "s") for clip in piece}
    assert (rest.complete, rest.left, rest.interrupted) == (6, 0, False)
    assert first.isdisjoint(second)
    assert len(first | second) == 6
    run(listed, "whole", chunk=4)
    assert way.parts(tmp_path / "s") == way.parts(tmp_path / "whole")


def test_a_stop_does_not_wait_for_a_long_clip(way: ModuleType, run: Run, listed: Path, tmp_path: Path) -> None:
    from extract.lane.ahead import Ahead, StoppedError
    from extract.plan import Plan

    job = api.plan(listed, Choices(backbones=way.TRIO, weights="random:0"), tmp_path / "s")
    (chunk,) = _chunks(job)
    assert isinstance(job.plan, Plan)
    stop = False
    with Ahead(chunk.todos, job.plan, 1, lambda: stop) as decodings:
        clip = iter(next(decodings))
        next(clip)
        stop = True
        with pytest.raises(StoppedError):
            next(clip)


def _chunks(job: api.Job) -> list[Any]:
    from extract.engine.base import make_chunks

    return make_chunks(job.listed, job.paths, job.plan.keys, lambda _: (), 64)


def test_pieces_left_by_a_kill_are_merged_also_by_a_run_that_asks_for_more(
    way: ModuleType, run: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def die(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(running, "merge_chunk", die)
        with pytest.raises(KilledError):
            run(listed, backbones=("tiny_frames",), chunk=6, seal_s=0.0)
    assert len(way.parts(tmp_path / "s")) == 6, "all pieces were there"
    shutil.copytree(tmp_path / "s", tmp_path / "other")

    run(listed, backbones=("tiny_frames",), chunk=6)
    run(listed, "whole", backbones=("tiny_frames",), chunk=6)
    assert way.parts(tmp_path / "s") == way.parts(tmp_path / "whole")

    run(listed, "other", backbones=("tiny_frames", "tiny_sound"), chunk=4)
    assert not [name for name in way.parts(tmp_path / "other") if "piece" in name]
    assert api.verify(tmp_path / "other") == []
    run(listed, "whole", backbones=("tiny_sound",))
    assert Store(tmp_path / "other").digest() == Store(tmp_path / "whole").digest()


def test_a_run_killed_in_its_first_breath_stops_nobody(run: Run, listed: Path, tmp_path: Path) -> None:
    run(listed)
    (tmp_path / "s" / "runs" / "29990101T000000Z-ffff.jsonl").touch()
    assert api.status(tmp_path / "s").clips == 6
    assert run(listed, only=("c00",)).complete == 1
    assert api.again(tmp_path / "s") == ()


def test_a_part_that_is_deleted_is_computed_anew(way: ModuleType, run: Run, listed: Path, tmp_path: Path) -> None:
    run(listed)
    before = way.parts(tmp_path / "s")
    victim = next((tmp_path / "s" / "parts").iterdir())
    content = bytearray(victim.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    victim.write_bytes(content)
    assert {finding.level for finding in api.verify(tmp_path / "s")} == {"damage"}
    with pytest.raises(ExtractError, match="delete"):
        run(listed)
    victim.unlink()
    run(listed)
    assert way.parts(tmp_path / "s") == before


# ---- what is written down --------------------------------------------------------------------------------------------


def test_the_ledger_tells_the_run(way: ModuleType, run: Run, media: Path, tmp_path: Path) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "mute", "absent", "c01"])
    done = run(listed, chunk=2)
    ((header, *receipts, summary),) = way.ledgers(tmp_path / "s")
    assert (header["line"], header["clips"], header["recipe"]) == ("header", 4, "per-second")
    assert header["choices"]["weights"] == "random:0"
    assert header["manifest_sha256"] == api.plan(listed, Choices(weights="random:0")).manifest_sha256
    assert [line["clip_ids"] for line in receipts] == [["c00", "mute"], ["absent", "c01"]]
    assert receipts[1]["failed"][0]["reason"] == "not_found"
    assert receipts[0]["masked"][0]["reason"] == "no_audio"
    assert (summary["line"], summary["computed"]) == ("summary", 4)
    assert (done.asked, done.complete, done.masked, done.failed, done.left) == (4, 2, 1, 1, 0)
    assert (done.reasons, done.masked_reasons) == ({"not_found": 1}, {"no_audio": 1})
    assert set(done.seconds) == {"decode", "wait", "prepare", "model", "seal", "wall"}
    assert all(seconds > 0 for seconds in done.seconds.values())
    one_lane = sum(done.seconds[stage] for stage in ("wait", "prepare", "model", "seal"))
    assert one_lane <= done.seconds["wall"] + 0.01
    assert done.size_bytes == sum(map(len, way.parts(tmp_path / "s").values()))
    assert (tmp_path / "s" / "manifest.csv").read_bytes() == listed.read_bytes()


def test_a_long_run_tells_plan_how_fast_this_machine_is(
    run: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from extract import explain

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(running, "SHORT_S", 0.0)
    job = api.plan(listed, Choices(backbones=("tiny_frames",), weights="random:0"), tmp_path / "s")
    assert "time: unknown on this machine" in explain.job(job)
    run(listed, backbones=("tiny_frames",))
    assert "by the rate of the last run here" in explain.job(job)


def test_a_held_store_is_refused_with_who_holds_it(run: Run, listed: Path, tmp_path: Path) -> None:
    import os
    import socket

    run(listed, limit=1)
    with Lock(tmp_path / "s"), pytest.raises(StoreBusy, match=f"process {os.getpid()} on {socket.gethostname()}"):
        run(listed)
