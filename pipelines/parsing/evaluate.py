"""From a network to scores: predictions of a split, the metrics of its task, and what they were computed on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from extract.errors import StoreError
from pipelines.parsing import metrics
from pipelines.parsing.config import Config
from pipelines.parsing.cpu import quick
from pipelines.parsing.data import Split
from pipelines.parsing.metrics import Parse, Probabilities
from pipelines.parsing.outputs import Located, Parsed, pool
from pipelines.parsing.scoring import interference

AT_ONCE = 128


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a network says of a split: `probabilities` for AVVP, `score` (N, T, C) for AVE."""

    ids: tuple[str, ...]
    probabilities: Probabilities | None = None
    score: NDArray[np.float32] | None = None

    @property
    def finite(self) -> bool:
        """Whether there are numbers everywhere; there are not where a training diverged."""
        return all(np.isfinite(each).all() for each in (self.probabilities or (self.score,)) if each is not None)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For an ``.npz``: ids and float32 numbers, so that whoever scores them finds the scores of the run."""
        found: dict[str, NDArray[Any]] = {"ids": np.array(self.ids, np.str_)}
        if self.probabilities is not None:
            found |= {name: each.astype(np.float32) for name, each in self.probabilities._asdict().items()}
        if self.score is not None:
            found["score"] = self.score.astype(np.float32)
        return found


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Arithmetic of a forward pass."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=torch.bfloat16)


def predict(model: nn.Module, split: Split, *, precision: str = "float32", **options: bool) -> Predicted:
    """Run a network over a split, in its order; `options` go to its forward."""
    model.eval()
    device = str(split.weak.device)
    found: list[Sequence[NDArray[np.float32]]] = []
    located = False
    with quick(device), torch.inference_mode(), autocast(device, precision):
        for start in range(0, len(split), AT_ONCE):
            features = {slot: data[start : start + AT_ONCE] for slot, data in split.features.items()}
            told = model(**features, **options)
            located = isinstance(told, Located)
            pieces = [told.score] if isinstance(told, Located) else _pooled(told)
            found.append([piece.float().cpu().numpy() for piece in pieces])
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    if located:
        return Predicted(split.ids, score=columns[0])
    return Predicted(split.ids, Probabilities(*columns))


def _pooled(parsed: Parsed) -> list[torch.Tensor]:
    return [parsed.frame, *pool(Parsed(*(each.float() for each in parsed)))]


def check_labels(split: Split) -> None:
    """Whether a split can be scored.

    Raises
    ------
    StoreError
        nothing is known of its seconds
    """
    if split.truth is None and split.event is None:
        raise StoreError(
            f"the store has no labels with times for the split {split.name}, so nothing can be scored on it; put them beside the "
            "manifest as <stem>.dense.csv (`extract manifest llp|ave` does) and run again, or choose --select last"
        )


def scores(predicted: Predicted, split: Split, config: Config, labels: str = "") -> dict[str, float]:
    """The task's numbers in percent, by name; quick enough for every epoch; raises what :func:`check_labels` does."""
    check_labels(split)
    if predicted.score is not None:
        assert split.event is not None
        return {"accuracy": metrics.accuracy(predicted.score.argmax(axis=2), split.event.cpu().numpy())}
    parse = parsed(predicted, config)
    assert split.truth is not None
    return metrics.score(parse, split.truth, gate=config.gate, labels=labels).as_dict()


def parsed(predicted: Predicted, config: Config) -> Parse:
    """Probabilities as events, by the configuration's gate."""
    assert predicted.probabilities is not None
    return metrics.binarise(predicted.probabilities, config.gate)


def headline(config: Config) -> str:
    """The number that chooses an epoch."""
    return "segment_type" if config.task == "avvp" else "accuracy"


def everything(predicted: Predicted, split: Split, config: Config, labels: str) -> dict[str, Any]:
    """Scores, subsets and interference of a split, with what must be said along with them."""
    told: dict[str, Any] = {
        **scores(predicted, split, config, labels),
        "clips": len(split),
        "of": split.asked,
        "labels": labels,
    }
    if predicted.probabilities is None:
        return told
    assert split.truth is not None
    parse = parsed(predicted, config)
    told["gate"] = metrics.describe_gate(config.gate)
    told["interference"] = interference.interference(parse, split.truth).as_dict()
    assert split.differing is not None
    for name, chosen in split.differing._asdict().items():
        rows = np.flatnonzero(chosen)
        if len(rows):
            some = (
                Parse(parse.audio[rows], parse.visual[rows]),
                Parse(split.truth.audio[rows], split.truth.visual[rows]),
            )
            told[name] = {"clips": len(rows), **metrics.score(*some, gate=config.gate, labels=labels).as_dict()}
    return told
