"""``--weights official|DIR|random:SEED``: where weights are to come from, and the id that a plan writes down for them."""

from __future__ import annotations

import re
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
    """What names each entry of `backbone.weights`: ``<kind>:<first 8 hex digits>`` of its first publication with a digest.

    Publishers put 8 digits into file names. Naming weights by no more of them keeps every key when a full digest becomes
    known; files are checked against all digits there are.
    """
    return tuple(
        next((":".join((kind, digits[:8])) for kind, _, digits in parts if digits), None)
        for parts in ([w.digest.partition(":") for w in entry] for entry in backbone.weights)
    )


def published_first(entry: tuple[Weights, ...]) -> tuple[Weights, ...]:
    """The publications of one entry, those with a published digest before the others."""
    return tuple(sorted(entry, key=lambda weights: not weights.digest))


def published(weights: Weights) -> bool:
    """Whether the file was ever published; one that was not comes out of the user's own training (``uri=""``)."""
    return bool(weights.uri)


def require_published(backbone: Backbone, source: Source) -> None:
    """Raise WeightsMissing for a network whose trained weights are in no place that `source` names."""
    if not backbone.weights:
        raise WeightsMissing(
            f"no trained weights of {backbone.name} were ever published; it runs with --weights random:SEED only"
        )
    own = [entry for entry in backbone.weights if not any(published(weights) for weights in entry)]
    if own and source.kind == "official":
        files = " and ".join(" or ".join(weights.filename for weights in entry) for entry in own)
        raise WeightsMissing(
            f"no trained weights of {backbone.name} were ever published: train it, put your {files} into a folder and give "
            f"it with --weights DIR, or use --weights random:SEED"
        )


# words of a licence's name that forbid something
_FORBIDS = {"nc": "no commercial use", "nd": "no sharing of changed versions", "research": "research only"}


def restriction(weights: Weights) -> str:
    """What the licence of the trained weights forbids, in words; empty where it forbids nothing."""
    words = re.split(r"[^a-z]+", re.sub("non-?commercial", "nc", weights.licence.lower()))
    return ", ".join(meaning for word, meaning in _FORBIDS.items() if word in words)


def licence(weights: Weights) -> str:
    """The licence with what it forbids: ``CC-BY-NC-4.0 (no commercial use)``."""
    forbids = restriction(weights)
    return f"{weights.licence} ({forbids})" if forbids else weights.licence


def licences(backbone: Backbone) -> tuple[str, ...]:
    """The licences of all files of a backbone, in their order, each with what it forbids."""
    return tuple(dict.fromkeys(licence(weights) for entry in backbone.weights for weights in entry))
