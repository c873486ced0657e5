from __future__ import annotations

import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest

from backbones import registry
from extract.errors import PlanError, UnknownName

PLUGIN = """
from dataclasses import replace
from backbones import registry
from backbones.resnet import VIEW
from backbones.spec import Backbone
def build():
    raise AssertionError("listing builds nothing")
registry.register(Backbone(name="{name}", view=VIEW, dims=(1,), build=build, weights=()))
"""


def test_the_folder_is_the_zoo():
    names = registry.names()
    assert {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "r2plus1d_18"} <= set(names)
    assert {"vggish", "vggish_preact", "vggish_pca8"} <= set(names)
    assert list(names) == sorted(names)
    assert registry.get("resnet152").dims == (2048,)


def test_a_near_miss_is_suggested():
    with pytest.raises(UnknownName, match=r"no backbone is called 'resnet512'; did you mean .*resnet152"):
        registry.get("resnet512")
    with pytest.raises(UnknownName, match=r"known: (\w+, ){20}… \(\d+ in all\)$"):
        registry.get("zzz")


def test_a_duplicate_is_an_error(zoo, tiny):
    with pytest.raises(
        PlanError, match=r"two backbones .*: one from backbones\.vggish, one from .*conftest; rename one"
    ):
        registry.register(replace(tiny, name="vggish"))
    assert zoo["vggish"][0].dims == (128,)


@pytest.mark.parametrize("name", ["", "Tiny", "a b", "a@b", "a/b", "a,b"])
def test_names_that_would_spoil_keys_are_refused(zoo, tiny, name):
    with pytest.raises(PlanError, match="must be lower case"):
        registry.register(replace(tiny, name=name))


def test_backbones_travel_by_name():
    backbone = registry.get("resnet152")
    data = pickle.dumps(backbone)
    assert len(data) < 100
    assert pickle.loads(data) is backbone  # noqa: S301


def test_what_is_not_registered_does_not_travel(zoo, tiny):
    with pytest.raises(ValueError, match="differs from the registered one"):
        pickle.dumps(replace(registry.get("resnet18"), batch=1))
    with pytest.raises(UnknownName):
        pickle.dumps(tiny)


def test_listing_imports_no_torch_and_no_numpy():
    code = (
        "import sys, json; from backbones import registry; registry.names(); import extract.commands.backbones;"
        "print(json.dumps([m for m in ('torch', 'torchvision', 'numpy', 'av', 'ray', 'h5py') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []


def test_a_backbone_travels_to_a_fresh_process():
    data = pickle.dumps(registry.get("vggish")).hex()
    code = f"import pickle; print(pickle.loads(bytes.fromhex('{data}')).name)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "vggish\n"


def test_plugin_folders(zoo, tmp_path, monkeypatch):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "same.py").write_text(PLUGIN.format(name=f"plug_{folder.name}"))
    monkeypatch.setenv("EXTRACT_PLUGINS", os.pathsep.join(map(str, folders)))
    registry._state["discovered"] = False
    assert {"plug_one", "plug_two", "vggish"} <= set(registry.names())


@pytest.mark.parametrize(
    ("content", "said"), [("import nowhere_at_all", "nowhere_at_all"), (PLUGIN.format(name="vggish"), "two backbones")]
)
def test_a_broken_plugin_is_named(zoo, tmp_path, monkeypatch, content, said):
    (tmp_path / "bad.py").write_text(content)
    monkeypatch.setenv("EXTRACT_PLUGINS", str(tmp_path))
    registry._state["discovered"] = False
    with pytest.raises(PlanError, match=rf"bad\.py \(EXTRACT_PLUGINS\) failed: .*{said}"):
        registry.names()


def test_a_missing_plugin_folder_is_named(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("EXTRACT_PLUGINS", str(tmp_path / "none"))
    registry._state["discovered"] = False
    with pytest.raises(PlanError, match="which is not a folder"):
        registry.names()


def test_entry_points(zoo, tiny, monkeypatch):
    class Point:
        value = "package:function"

        def __init__(self, loaded):
            self.load = lambda: loaded

    def broken():
        raise RuntimeError("no licence")

    points = [Point(partial(registry.register, replace(tiny, name="plug_entry")))]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points if group == registry.GROUP else [])
    registry._state["discovered"] = False
    assert "plug_entry" in registry.names()
    points[:] = [Point(broken)]
    registry._state["discovered"] = False
    with pytest.raises(PlanError, match=r"package:function.*no licence"):
        registry.names()
