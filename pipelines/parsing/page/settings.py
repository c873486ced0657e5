"""What the page says of a run's configuration: its settings, the features it read, and what it ran on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.parsing.page.told import RunTold, mapping

ELSEWHERE = ("config", "options", "infos", "keys", "versions", "classes", "labels", "selection")


@dataclass(frozen=True, slots=True)
class FeatureTold:
    """Features in one slot; `kind` is random, imported or empty; `identity` is indented JSON."""

    slot: str
    name: str
    digest: str
    weights: str
    kind: str
    dims: str
    view: str
    identity: str


def settings_of(run: RunTold) -> list[tuple[str, list[tuple[str, str]]]]:
    """Panels of names and values: the run, its settings, and versions."""
    config = run.config
    about = [(name, _words(value)) for name, value in config.items() if name not in ELSEWHERE]
    if run.labels:
        about.append(("classes", f"{len(run.labels)}: {', '.join(run.labels)}"))
    about += [(name, _words(config[name])) for name in ("labels", "selection") if name in config]
    panels = [
        ("Run", about),
        ("Settings", list(_flat(run.options))),
        ("Versions", [(name, _words(value)) for name, value in mapping(config.get("versions")).items()]),
    ]
    return [(title, pairs) for title, pairs in panels if pairs]


def features_of(run: RunTold) -> list[FeatureTold]:
    """The features of each slot."""
    keys, infos = mapping(run.config.get("keys")), mapping(run.config.get("infos"))
    found = []
    for slot in dict.fromkeys([*keys, *infos]):
        info = mapping(infos.get(slot))
        name, _, digest = str(keys.get(slot, "unknown")).partition("@")
        weights = str(info.get("weights", "unknown"))
        dims = info.get("dims")
        shape = " × ".join(map(str, dims)) if isinstance(dims, list) else "unknown"
        kind = {"random": "random", "file": "unverified"}.get(weights.partition(":")[0], "")
        view, identity = (_indented(info.get(name)) for name in ("view", "identity"))
        found.append(FeatureTold(str(slot), name, digest, weights, kind, shape, view, identity))
    return found


def _flat(options: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _words(value)


def _words(value: object) -> str:
    if isinstance(value, str):
        return value or "none"
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping) and not any(isinstance(each, Mapping) for each in value.values()):
        return ", ".join(f"{name} {_of(each)}" for name, each in value.items())
    return json.dumps(value, ensure_ascii=False, default=str)


def _of(value: object) -> str:
    """``1108 of 1200`` for a pair."""
    return f"{value[0]} of {value[1]}" if isinstance(value, list) and len(value) == 2 else _words(value)


def _indented(value: object) -> str:
    """JSON that is there as text or as it is, with line breaks; any other text as it is."""
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except ValueError:
            return value
    return "" if found is None else json.dumps(found, indent=2, ensure_ascii=False, default=str)
