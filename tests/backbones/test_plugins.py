"""A backbone is one file: in a folder of EXTRACT_PLUGINS, or behind an entry point of an installed package."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from backbones import registry
from extract.store.catalog import Store

ROOT = Path(__file__).resolve().parents[2]

PLUGIN = '''
"""The mean colour of a window through one matrix."""

from backbones.registry import register
from backbones.spec import Backbone, Frames


def _build():
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 4)

        def forward(self, frames):
            return self.fc(frames.mean((1, 3, 4)))

    return Net()


def add():
    register(Backbone("{name}", Frames(2, (8, 8), None), (4,), _build, weights=(), batch=4, params=16, gmacs=1e-6))
'''


@pytest.fixture
def plugged(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has a file in a plug-in folder and a package with an entry point."""
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "mine.py").write_text(PLUGIN.replace("{name}", "from_folder") + "\n\nadd()\n")
    site = tmp_path / "site"
    (site / "somebodys-1.0.dist-info").mkdir(parents=True)
    (site / "somebodys.py").write_text(PLUGIN.replace("{name}", "from_package"))
    (site / "somebodys-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (site / "somebodys-1.0.dist-info" / "entry_points.txt").write_text("[extract.backbones]\nx = somebodys:add\n")
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    return {"EXTRACT_PLUGINS": str(tmp_path / "plug"), "PYTHONPATH": path}


@pytest.mark.slow
def test_a_plug_in_is_listed_planned_run_and_checked(way, media, tmp_path, plugged):
    names = ("from_folder", "from_package")
    manifest = way.manifest(tmp_path / "m.csv", media, ["c00", "c01"])
    listed = way.cli("backbones", "list", "from_*", **plugged)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["name", *names], listed.stderr
    shown = way.cli("backbones", "show", "from_package", **plugged)
    assert "row 4" in shown.stdout, shown.stderr
    chosen = ("--backbones", ",".join(names), "--weights", "random:0")
    planned = way.cli("plan", manifest, *chosen, **plugged)
    assert all(f"{name}@" in planned.stdout for name in names), planned.stderr
    ran = way.cli("run", manifest, "--out", tmp_path / "store", *chosen, "--threads", 1, **plugged)
    assert ran.returncode == 0, ran.stderr
    store = Store(tmp_path / "store")
    rows = {name: store["c01", name] for name in names}
    assert len(store.keys()) == 2
    assert rows["from_folder"].shape == (3, 4)
    assert rows["from_folder"].any()
    assert (rows["from_folder"] == rows["from_package"]).all()  # the same network with the same seed
    checked = way.cli("backbones", "check", *names, "--weights", "random:0", **plugged)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert all(f"{name}: neighbours    ok" in checked.stdout for name in names)
    without = way.cli("backbones", "list", "from_*")
    assert (without.returncode, without.stdout) == (2, "")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example of CONTRIBUTING.md, in a plug-in folder."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^## Add a backbone.*?^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "clip.py").write_text(code)
    return tmp_path / "plug"


def test_the_example_of_contributing_is_listed_and_planned(way, media, tmp_path, example):
    listed = way.cli("backbones", "list", "clip_b32", EXTRACT_PLUGINS=str(example))
    assert listed.stdout.splitlines()[-1].startswith("clip_b32"), listed.stderr
    manifest = way.manifest(tmp_path / "m.csv", media, ["c00"])
    planned = way.cli(
        "plan", manifest, "--backbones", "clip_b32", "--weights", "random:0", EXTRACT_PLUGINS=str(example)
    )
    assert planned.returncode == 0, planned.stderr
    assert "clip_b32@" in planned.stdout


def test_the_example_of_contributing_is_the_network_it_says(zoo, example, monkeypatch):
    from backbones.random import skip_initialisation

    registry._load_folder(example)
    backbone = registry.get("clip_b32")
    with skip_initialisation(), torch.device("meta"):
        module = backbone.build().eval()
    assert sum(parameter.numel() for parameter in module.parameters()) == backbone.params
    rows = module(torch.empty(backbone.batch, *backbone.view.input_shape, device="meta"))
    assert tuple(rows.shape) == (backbone.batch, *backbone.dims)
