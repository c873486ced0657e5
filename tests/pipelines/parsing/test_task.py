"""The two tasks: their classes, and names that are none."""

from __future__ import annotations

import pytest

from extract.errors import ManifestError, UnknownName
from manifests import ave, llp
from pipelines.parsing.task import BACKGROUND, task_of


def test_official_vocabularies() -> None:
    assert task_of("avvp").classes == tuple(llp.LABELS)
    assert task_of("ave").classes == (*ave.LABELS, BACKGROUND)
    assert len(task_of("avvp").classes) == 25
    assert len(task_of("ave").classes) == 29


def test_ones_own_vocabulary() -> None:
    assert task_of("avvp", ["b", "a"]).classes == ("b", "a")
    assert task_of("ave", ["b", "a"]).classes == ("b", "a", BACKGROUND)
    assert task_of("ave", ["b", "a"]).number("a") == 1


def test_names_that_are_none() -> None:
    with pytest.raises(UnknownName, match=r"no task is called 'avpp'; did you mean avvp"):
        task_of("avpp")
    with pytest.raises(ManifestError, match=r"no class is called 'Spech'; did you mean Speech\?; --classes manifest"):
        task_of("avvp").number("Spech")
