"""The two tasks and their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from extract.errors import ManifestError, nearest
from manifests import ave, llp

BACKGROUND = "Background"
Name = Literal["avvp", "ave"]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be found in a clip.

    Parameters
    ----------
    name
        ``avvp``: any number of events at once, heard and seen apart; ``ave``: one event, heard and seen together
    classes
        names in the order of their numbers; of ``ave``, the last is the background
    """

    name: Name
    classes: tuple[str, ...]

    def number(self, label: str) -> int:
        """The class of a label.

        Raises
        ------
        ManifestError
            it is not in the vocabulary
        """
        try:
            return self.classes.index(label)
        except ValueError:
            raise ManifestError(
                f"{nearest(label, list(self.classes), 'class')}; --classes manifest takes the classes of the manifest "
                f"instead of the {len(self.classes)} of {self.name}"
            ) from None


def task_of(name: str, labels: Sequence[str] | None = None) -> Task:
    """The task of a name.

    Parameters
    ----------
    name
        ``avvp`` or ``ave``
    labels
        the vocabulary, in order, without the background; None: the official one of LLP (25) or AVE (28)

    Raises
    ------
    UnknownName
        no such task
    """
    if name == "avvp":
        return Task("avvp", tuple(labels or llp.LABELS))
    if name == "ave":
        return Task("ave", (*(labels or ave.LABELS), BACKGROUND))
    raise nearest(name, ["avvp", "ave"], "task")
