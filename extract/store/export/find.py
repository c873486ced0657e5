"""Which layouts there are, and what options each of them has."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from extract.errors import PlanError, nearest

_PACKAGE = "extract.store.export"


@cache
def _modules() -> Mapping[str, ModuleType]:
    modules = {}
    for found in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{_PACKAGE}.{found.name}")
        function = getattr(module, "export", None)
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            modules[found.name] = module
    return modules


def layouts() -> dict[str, str]:
    """What each layout is for, by name: the first line of its module's docstring."""
    return {name: inspect.getdoc(module).partition("\n")[0] for name, module in sorted(_modules().items())}  # type: ignore[union-attr]


def layout(name: str) -> ModuleType:
    """The module of a layout.

    Raises
    ------
    UnknownName
        there is none of that name
    """
    if name not in _modules():
        raise nearest(name, list(_modules()), "layout")
    return _modules()[name]


def options_of(name: str) -> dict[str, Any]:
    """The options of a layout with their defaults."""
    parameters = inspect.signature(layout(name).export).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def bind(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a layout: those given, the others at their defaults.

    Raises
    ------
    PlanError
        the layout does not have one of them; the message names the layouts that do
    """
    known = options_of(name)
    for option in sorted(given.keys() - known.keys()):
        others = [each for each in layouts() if option in options_of(each)]
        flag = "--" + option.replace("_", "-")
        where = f"of the layouts only {', '.join(others)} do" if others else "no layout does"
        raise PlanError(f"the layout {name} does not take {flag}: {where}")
    return {**known, **given}
