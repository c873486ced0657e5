"""A real local Ray cluster, with actors that really die."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from extract.engine.testing import FakeSpec, check_engine, fake_chunks, open_fake_lane, run_fakes, sealed_in
from extract.errors import ExtractError, PlanError

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


@pytest.mark.slow
def test_ray_engine_keeps_the_contract(make_ray, tmp_path):
    check_engine(make_ray, tmp_path)


def test_both_engines_seal_the_same(make_ray, make_local, tmp_path):
    ends = {}
    for name, make in (("ray", make_ray), ("local", make_local)):
        folder = tmp_path / name
        folder.mkdir()
        chunks = fake_chunks(30, 8)
        outcome = run_fakes(make(open_fake_lane, FakeSpec(str(folder), {"c017": "kill"}), 2), chunks, folder)
        contents = {path.name: path.read_text() for path in folder.glob("*.sealed")}
        ends[name] = (contents, [remark.clip_id for remark in outcome.crashes], sorted(outcome.done))
    assert ends["ray"] == ends["local"]
    assert len(ends["ray"][0]) == 29


def test_lanes_get_their_threads_and_a_cluster_of_others_is_left_alone(ray_cluster, tmp_path):
    import ray

    from extract.engine.ray import RayEngine

    engine = RayEngine(open_fake_lane, FakeSpec(str(tmp_path)), 1, device="cpu", threads_per_lane=3)
    run_fakes(engine, fake_chunks(2, 2), tmp_path)
    assert [path.read_text() for path in tmp_path.glob("opened-*")] == ["cpu 3"]
    assert len(list(tmp_path.glob("closed-*"))) == 1
    assert ray.is_initialized()


def test_lanes_know_the_plug_ins_of_this_process(ray_cluster, tmp_path, monkeypatch):
    from backbones import registry
    from extract.engine.ray import RayEngine

    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "ray_plug.py").write_text(
        "from backbones import registry, resnet, spec\n"
        "registry.register(spec.Backbone('ray_plug', resnet.VIEW, (1,), dict, weights=()))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXTRACT_PLUGINS", "plug")  # set after the cluster was started, and not absolute
    registry.names()
    monkeypatch.setattr(registry, "_zoo", dict(registry._zoo))
    registry._load_folder(tmp_path / "plug")
    # a backbone travels by name, so what opens the lane only arrives where the plug-in is known
    spec = FakeSpec(str(tmp_path), {"nothing": registry.get("ray_plug")})
    run_fakes(RayEngine(open_fake_lane, spec, 1), fake_chunks(2, 2), tmp_path)
    assert len(list(tmp_path.glob("opened-*"))) == 1


def test_wrong_arguments_are_refused(ray_cluster, tmp_path):
    from extract.engine.ray import RayEngine

    spec = FakeSpec(str(tmp_path))
    with pytest.raises(PlanError, match="at least one lane; got 0"):
        RayEngine(open_fake_lane, spec, 0)
    with pytest.raises(PlanError, match="threads_per_lane=-1"):
        RayEngine(open_fake_lane, spec, 1, threads_per_lane=-1)
    with pytest.raises(
        ExtractError, match=r"64 lanes need 128 CPU, and the Ray cluster has 2 CPU and 0 GPU: use fewer"
    ):
        RayEngine(open_fake_lane, spec, 64, num_cpus=2)
    with pytest.raises(ExtractError, match=r"3 lanes need 1.5 GPU"):
        RayEngine(open_fake_lane, spec, 3, num_cpus=0, num_gpus=0.5)


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "extract.engine.ray", raising=False)
    with pytest.raises(ExtractError, match=r"pip install 'ray>=2.50', or use --engine local"):
        importlib.import_module("extract.engine.ray")


PARENT = """
    import signal
    from pathlib import Path
    from extract.engine.ray import RayEngine
    from extract.engine.testing import FakeSpec, fake_chunks, open_fake_lane, run_fakes
    from extract.errors import ExtractError
    for address in ("127.0.0.1:1", "127.0.0.1:99999", "ray://127.0.0.1:10001", "nowhere"):
        try:
            RayEngine(open_fake_lane, None, 1, address=address)
        except ExtractError as error:
            print(error)
    stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    engine = RayEngine(open_fake_lane, FakeSpec({folder!r}, clip_s=0.05, piece=10**6), 3)
    print("ready", flush=True)
    outcome = run_fakes(engine, fake_chunks(3000, 1000), Path({folder!r}), stopping=lambda _: bool(stop))
    told = sorted(event.clip_id for event in outcome.events if hasattr(event, "clip_id"))
    print(len(told), len(outcome.deaths))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cluster_of_our_own_stops_at_a_signal_and_seals(tmp_path, number):
    script = textwrap.dedent(PARENT).format(folder=str(tmp_path))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        end = time.monotonic() + 60
        while len(list(tmp_path.glob("opened-*"))) < 3:
            assert parent.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.3)
        # Ctrl-C goes to the whole group of the terminal, a scheduler's word to the one process.
        os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)
        out, _ = parent.communicate(timeout=60)
    assert parent.returncode == 0
    told, deaths = map(int, out.splitlines()[-1].split())
    assert deaths == 0
    assert told == len(sealed_in(tmp_path)) > 0
    assert "cannot connect to the Ray cluster at '127.0.0.1:1'" in out
    assert "cannot connect to the Ray cluster at '127.0.0.1:99999'" in out
    assert "cannot use 'ray://127.0.0.1:10001' as the address" in out
    assert "cannot use 'nowhere' as the address" in out
