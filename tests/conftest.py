"""Fixtures shared by the whole suite."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, annotations and goldens beside the checkout; only this project's machines have it."""
    folder = ROOT.parent / "shared"
    if not (folder / "DESIGN.md").is_file():
        pytest.skip("no ../shared beside this checkout: real clips and official goldens are not distributed")
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A cluster on this machine; tests that use it belong to the xdist group ``ray``, so that there is one."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, logging_level=40, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def golden() -> Path:
    """Small arrays made for this project, which travel with it."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def way() -> ModuleType:
    """tests/way.py."""
    return _sibling("way")


@pytest.fixture(scope="session")
def golden_weights() -> ModuleType:
    """tests/golden_weights.py."""
    return _sibling("golden_weights")


def _sibling(name: str) -> ModuleType:
    return _load(f"tests_{name}", ROOT / "tests" / f"{name}.py")


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load() -> Callable[[str, Path], ModuleType]:
    """``load(name, path)``: a module of a tests' folder; with importlib imports, tests cannot import their siblings."""
    return _load


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """``small_disk("256k")``: the folder of a new tmpfs of that size."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        made = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"this user cannot mount a tmpfs: {made.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="session")
def media(way: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small clips, see tests/way.py."""
    folder: Path = way.make_media(tmp_path_factory.mktemp("media"))
    return folder


@pytest.fixture
def tiny(way: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The networks of tests/plugins in the zoo of this process, and lanes that need no process of their own."""
    from backbones import registry

    registry.names()
    before = dict(registry._zoo)
    monkeypatch.setenv(registry.PLUGINS, str(way.PLUGINS))
    monkeypatch.setattr("extract.engine.local.LocalEngine", way.InlineEngine)
    registry._load_folder(way.PLUGINS)
    yield
    registry._zoo.clear()
    registry._zoo.update(before)
    for name in [name for name in sys.modules if name.startswith("extract_plugin_tiny_")]:
        del sys.modules[name]


@pytest.fixture
def listed(way: ModuleType, media: Path, tmp_path: Path) -> Path:
    path: Path = way.manifest(tmp_path / "m.csv", media)
    return path


@pytest.fixture
def run(way: ModuleType, tmp_path: Path) -> Callable[..., Any]:
    """``run(manifest, store="s", backbones=..., chunk=..., ...)``: fields of Choices and Machine by name."""

    from extract import api
    from extract.job import Choices
    from extract.running import Machine

    def run(manifest: Path, store: str = "s", **more: Any) -> Any:
        hooks = {name: more.pop(name) for name in ("stopping", "on_event", "on_start") if name in more}
        machine = {name: more.pop(name) for name in Machine.__dataclass_fields__ if name in more}
        choices = Choices(**{"backbones": way.TRIO, "weights": "random:0", **more})
        return api.run(
            manifest, choices, Machine(**{"chunk": 4, "torch_threads": 1, **machine}), tmp_path / store, **hooks
        )

    return run
