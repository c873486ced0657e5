"""The zoo: every file of this folder that is not machinery registers its backbones when the zoo is first asked.

Two more places are looked at: installed packages with an entry point in the group ``extract.backbones`` (a module that
registers when imported, or a function that does when called), and the ``*.py`` files of the folders in the environment
variable ``EXTRACT_PLUGINS``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import backbones
from backbones.spec import Backbone
from extract.errors import PlanError, nearest

GROUP = "extract.backbones"
PLUGINS = "EXTRACT_PLUGINS"
MACHINERY = frozenset(
    {
        "converted",
        "download",
        "fold",
        "hdf5",
        "known",
        "layouts",
        "random",
        "registry",
        "sources",
        "spec",
        "state",
        "testing",
        "torchscript",
        "transfer",
        "views",
        "weights",
    }
)

_zoo: dict[str, tuple[Backbone, str]] = {}
_families: dict[str, Callable[[str], Backbone]] = {}
_lock = threading.RLock()
_state = {"discovered": False}


def register(backbone: Backbone) -> Backbone:
    """Add a backbone to the zoo and return it.

    Raises
    ------
    PlanError
        its name is not lower case without spaces, ``@`` or ``/`` (store keys begin with it), or is taken
    """
    name = backbone.name
    if not name or name != name.lower() or any(c.isspace() or c in "@/," for c in name):
        raise PlanError(f"backbone name {name!r} must be lower case without spaces, '@', '/' or ','")
    origin = str(getattr(backbone.build, "func", backbone.build).__module__)  # of what a partial wraps
    # no lock: a thread that imports a family holds that module's import lock, and _discover would wait for it under _lock
    first, theirs = _zoo.setdefault(name, (backbone, origin))
    if first is not backbone:
        raise PlanError(f"two backbones are called {name!r}: one from {theirs}, one from {origin}; rename one")
    return backbone


def register_family(prefix: str, resolve: Callable[[str], Backbone]) -> None:
    """Let `resolve` make the backbones called ``prefix:…``, which are too many to be listed.

    Parameters
    ----------
    prefix
        what their names begin with, without the colon
    resolve
        takes a whole name; gives the same object for every name of one backbone, or raises UnknownName or PlanError

    Raises
    ------
    PlanError
        the prefix is taken
    """
    if _families.setdefault(prefix, resolve) is not resolve:
        raise PlanError(f"two families of backbones are called {prefix!r}: rename one")


def get(name: str) -> Backbone:
    """The backbone of that name. One of a family may answer to a shorter name than its own.

    Raises
    ------
    UnknownName
        there is none; the message suggests the nearest names
    PlanError
        it is of a family, and cannot be run exactly as published
    """
    _discover()
    if name not in _zoo:
        prefix, colon, _ = name.partition(":")
        if colon and prefix in _families:
            return _families[prefix](name)
        raise nearest(name, list(_zoo), "backbone")
    return _zoo[name][0]


def names() -> tuple[str, ...]:
    """All names, sorted; without those of families."""
    _discover()
    return tuple(sorted(_zoo))


def _discover() -> None:
    with _lock:
        if _state["discovered"]:
            return
        # set first: a family that asks for names while it is imported must not start over
        _state["discovered"] = True
        try:
            for module in pkgutil.iter_modules(backbones.__path__):
                if not module.ispkg and module.name not in MACHINERY:
                    importlib.import_module(f"backbones.{module.name}")
            _load_entry_points()
            for folder in filter(None, os.environ.get(PLUGINS, "").split(os.pathsep)):
                _load_folder(Path(folder))
        except BaseException:
            _state["discovered"] = False
            raise


def _load_entry_points() -> None:
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except Exception as error:
            raise PlanError(f"the plug-in {point.value!r} (entry point {GROUP}) failed: {error!r}") from error


def _load_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise PlanError(f"{PLUGINS} names {str(folder)!r}, which is not a folder")
    for file in sorted(folder.glob("*.py")):
        name = f"extract_plugin_{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise PlanError(f"{file} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise PlanError(f"the plug-in {file} ({PLUGINS}) failed: {error!r}") from error
