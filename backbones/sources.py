"""``--weights official|DIR|random:SEED``: where weights are to come from, and the id that a plan writes down for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbones.spec import Backbone, Weights
from extract.errors import PlanError, WeightsMissing


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights come from.

    Parameters
    ----------
    kind
        ``official``: the cache folder, then a download; ``folder``: official file names in `folder`; ``random``: `seed`
    folder
        absolute
    seed
        >= 0
    """

    kind: Literal["official", "folder", "random"]
    folder: Path | None = None
    seed: int = 0


OFFICIAL = Source("official")


def parse_source(text: str) -> Source:
    """Read what the user gave to ``--weights``.

    Raises
    ------
    PlanError
        `text` is no such thing
    WeightsMissing
        it names a folder that does not exist
    """
    allowed = "use `official`, `random:SEED` (such as random:0) or a folder of weight files"
    if text == "official":
        return OFFICIAL
    kind, _, seed = text.partition(":")
    if kind == "random":
        if not (seed.isascii() and seed.isdigit()):
            raise PlanError(f"--weights {text}: the seed must be a whole number >= 0; {allowed}")
        return Source("random", seed=int(seed))
    folder = Path(text).expanduser().absolute()
    if folder.is_file():
        raise PlanError(f"--weights {text} is a file; give its folder, the file keeping its official name")
    if not text or not folder.is_dir():
        raise WeightsMissing(f"--weights {text}: there is no such folder; {allowed}")
    return Source("folder", folder=folder)


def digests(backbone: Backbone) -> tuple[str | None, ...]:
    """What names each entry of `backbone.weights`: the first 8 hex digits of its first publication that has a digest.

    Publishers put 8 digits into file names. Naming weights by no more of them keeps every key when a full digest becomes
    known; files are checked against all digits there are.
    """
    return tuple(next((w.sha256[:8] for w in entry if w.sha256), None) for entry in backbone.weights)


def published_first(entry: tuple[Weights, ...]) -> tuple[Weights, ...]:
    """The publications of one entry, those with a published digest before the others."""
    return tuple(sorted(entry, key=lambda weights: weights.sha256 is None))


def require_published(backbone: Backbone) -> None:
    """Raise WeightsMissing for a network whose trained weights were never published."""
    if not backbone.weights:
        raise WeightsMissing(
            f"no trained weights of {backbone.name} were ever published; it runs with --weights random:SEED only"
        )
