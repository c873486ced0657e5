"""Reading JSON objects of a search strictly: an entry of another type than it should have is an error that names it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.errors import PlanError

VERSION = 1
"""Of the files of a search that this report reads; files without a number are of version 1."""
LARGEST = sys.float_info.max
_NEEDED: Any = object()


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """An object of a JSON file; every method raises PlanError where an entry is missing without a default, or is of another type.

    Parameters
    ----------
    path
        of the file
    told
        the object
    where
        its place in the file, such as ``ranking[2].``
    """

    path: Path
    told: Mapping[str, Any]
    where: str = ""

    def text(self, name: str, default: str = _NEEDED) -> str:
        """A text."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def number(self, name: str, default: float = _NEEDED) -> float:
        """A number; null is nan."""
        return self._number(name, self._get(name, default))

    def whole(self, name: str, default: int = _NEEDED) -> int:
        """A whole number of at least 0."""
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(name, value, "a whole number of at least 0")
        return value

    def truth(self, name: str, default: bool | None) -> bool | None:
        """True or false; null is None."""
        value = self._get(name, default)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, value, "true, false or null")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; empty where it is missing."""
        values = self._list(name)
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise self._wrong(f"{name}[{i}]", value, "a text")
        return tuple(values)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers; empty where it is missing."""
        return tuple(self._number(f"{name}[{i}]", value) for i, value in enumerate(self._list(name)))

    def wholes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers; empty where it is missing."""
        values = self._list(name)
        for i, value in enumerate(values):
            if not isinstance(value, int) or isinstance(value, bool):
                raise self._wrong(f"{name}[{i}]", value, "a whole number")
        return tuple(values)

    def objects(self, name: str) -> Iterator[Fields]:
        """A list of objects; none where it is missing."""
        for i, value in enumerate(self._list(name)):
            if not isinstance(value, dict):
                raise self._wrong(f"{name}[{i}]", value, "an object")
            yield Fields(self.path, value, f"{self.where}{name}[{i}].")

    def object(self, name: str) -> Fields:
        """An object; an empty one where it is missing or null."""
        value = self._get(name, None)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return Fields(self.path, value or {}, f"{self.where}{name}.")

    def wrong(self, words: str) -> PlanError:
        """The error for a file that does not hold together."""
        return PlanError(f"{self.path} is damaged: {words}; run this method of the search again")

    def _get(self, name: str, default: Any) -> Any:
        if name in self.told:
            return self.told[name]
        if default is _NEEDED:
            raise self.wrong(f"{self.where}{name} is missing")
        return default

    def _list(self, name: str) -> list[Any]:
        value = self._get(name, [])
        if not isinstance(value, list):
            raise self._wrong(name, value, "a list")
        return value

    def _number(self, name: str, value: Any) -> float:
        if value is None:
            return float("nan")
        if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > LARGEST:
            raise self._wrong(name, value, "a finite number or null")
        return float(value)

    def _wrong(self, name: str, value: Any, needed: str) -> PlanError:
        return self.wrong(f"{self.where}{name} is {repr(value)[:60]}, and {needed} is needed")


def in_words(value: object) -> str:
    """Any entry as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False)


def read_fields(path: Path) -> Fields:
    """The object in a JSON file.

    Raises
    ------
    PlanError
        it cannot be read, holds no JSON object, or is of a newer version
    """
    try:
        told = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror or error}; check the folder") from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is damaged: {error}; run this method of the search again") from error
    if not isinstance(told, dict):
        raise PlanError(f"{path} is damaged: it holds no JSON object; run this method of the search again")
    found = Fields(path, told)
    version = found.whole("version", VERSION)
    if version > VERSION:
        raise PlanError(f"{path} is of version {version}, and this program reads up to {VERSION}; use a newer extract")
    return found
