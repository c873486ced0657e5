"""Parsers of several collocations under one roof: HAN's as a stack, every other network one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from extract.errors import Diverged
from pipelines.collocation.collocations import Trial
from pipelines.collocation.stack.stacked import Member, Stack
from pipelines.parsing.config import Config
from pipelines.parsing.cpu import quick
from pipelines.parsing.data import Split
from pipelines.parsing.evaluate import Predicted, predict
from pipelines.parsing.learning.objective import Objective, make_objective
from pipelines.parsing.networks import build
from pipelines.parsing.train import one_epoch, rate
from pipelines.parsing.weights import load_into, restore, resume_tensors


class Learners(Protocol):
    """Parsers that are trained side by side; all that is given back is in the order of their trials."""

    def epoch(self, epoch: int) -> list[dict[str, float]]:
        """Train each on every clip once: ``loss`` and its parts."""
        ...

    def predict(self, split: Split) -> list[Predicted]:
        """What each says of some clips."""
        ...

    def weights(self, trial: Trial) -> dict[str, Tensor]:
        """A copy of a parser's weights."""
        ...

    def network(self, trial: Trial, weights: Mapping[str, Tensor]) -> nn.Module:
        """A parser's network with these weights."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that going on needs: names hold the trial's."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where `tensors` was asked."""
        ...


def stackable(config: Config) -> bool:
    """Whether :class:`~pipelines.collocation.stack.stacked.Stack` trains what a configuration asks for."""
    return config.model == "han" and config.loss == "mil" and not config.augment


def make_learners(
    trials: Sequence[Trial], config: Config, train: Split, judge: Split, classes: Sequence[str], folder: Path
) -> Learners:
    """Parsers with first weights.

    Parameters
    ----------
    trials
        whose collocations name features of the splits
    config
        all but seed and features
    train
        to learn from; on the device that is to be used
    judge
        val, for networks whose training asks for it
    classes
        names, the background included
    folder
        for what such a network leaves
    """
    if stackable(config):
        return _Stacked(trials, config, train)
    return _Alone(trials, config, train, judge, classes, folder)


def of_slots(split: Split, trial: Trial) -> Split:
    """A split with the features of a collocation, by slot."""
    return replace(split, features={slot: split.features[name] for slot, name in trial.collocation.slots.items()})


def _config(config: Config, trial: Trial) -> Config:
    slots: dict[str, Any] = trial.collocation.slots
    return replace(config, seed=trial.seed, **slots)


class _Stacked:
    def __init__(self, trials: Sequence[Trial], config: Config, train: Split) -> None:
        self._config, self._train = config, train
        members = [Member(trial.name, trial.collocation.slots, trial.seed, config.lr) for trial in trials]
        self._stack = Stack(
            members, train.features, train.weak,
            width=config.width, layers=config.layers, heads=config.heads, feedforward=config.width,
            dropout=config.dropout, encoder_compat=config.encoder_compat,
            smooth_audio=config.smooth_audio, smooth_visual=config.smooth_visual, precision=config.precision,
        )  # fmt: skip

    def epoch(self, epoch: int) -> list[dict[str, float]]:
        factor = rate(self._config, epoch) / self._config.lr
        return self._stack.epoch(epoch, batch=self._config.batch, lr_factor=factor)

    def predict(self, split: Split) -> list[Predicted]:
        return [Predicted(split.ids, found) for found in self._stack.predict(split.features)]

    def weights(self, trial: Trial) -> dict[str, Tensor]:
        return self._stack.state_dict(trial.name)

    def network(self, trial: Trial, weights: Mapping[str, Tensor]) -> nn.Module:
        return network_of(trial, weights, self._config, self._train)

    def tensors(self) -> dict[str, Tensor]:
        return self._stack.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._stack.restore(tensors)


class _Alone:
    def __init__(
        self,
        trials: Sequence[Trial],
        config: Config,
        train: Split,
        judge: Split,
        classes: Sequence[str],
        folder: Path,
    ) -> None:
        self._trials, self._config, self._train = tuple(trials), config, train
        self._configs = [_config(config, trial) for trial in trials]
        self._objectives: list[Objective | None] = []
        self._networks, self._optimizers = [], []
        for number, (trial, each) in enumerate(zip(trials, self._configs, strict=True)):
            own = of_slots(train, trial)
            inner = folder / f"{number}"
            inner.mkdir(parents=True, exist_ok=True)
            splits = {"train": own, "val": of_slots(judge, trial)}
            with quick(str(train.weak.device)):
                self._objectives.append(_objective(each, splits, classes, inner))
            network = build(each, len(classes), own.dims).to(train.weak.device)
            if self._objectives[-1] is None:
                _give_up(network)
            self._networks.append(network)
            self._optimizers.append(torch.optim.Adam(network.parameters(), lr=each.lr, fused=True))

    def epoch(self, epoch: int) -> list[dict[str, float]]:
        rows = []
        with quick(str(self._train.weak.device)):
            parts = zip(self._configs, self._objectives, self._networks, self._optimizers, strict=True)
            for config, objective, network, optimizer in parts:
                told: Mapping[str, Any] = {"loss": math.nan}
                if objective is not None:
                    try:
                        told = one_epoch(config, objective, network, optimizer, epoch)
                    except Diverged:
                        _give_up(network)
                rows.append({name: value for name, value in told.items() if name.startswith("loss")})
        return rows

    def predict(self, split: Split) -> list[Predicted]:
        return [
            predict(network, of_slots(split, trial), precision=self._config.precision)
            for trial, network in zip(self._trials, self._networks, strict=True)
        ]

    def weights(self, trial: Trial) -> dict[str, Tensor]:
        network = self._networks[self._trials.index(trial)]
        return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def network(self, trial: Trial, weights: Mapping[str, Tensor]) -> nn.Module:
        return network_of(trial, weights, self._config, self._train)

    def tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for trial, network, optimizer in zip(self._trials, self._networks, self._optimizers, strict=True):
            found |= {f"{trial.name}/{name}": each for name, each in resume_tensors(network, optimizer).items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for trial, network, optimizer in zip(self._trials, self._networks, self._optimizers, strict=True):
            start = f"{trial.name}/"
            own = {name.removeprefix(start): each for name, each in tensors.items() if name.startswith(start)}
            restore(network, optimizer, own, Path(trial.name))


def _objective(config: Config, splits: Mapping[str, Split], classes: Sequence[str], folder: Path) -> Objective | None:
    """None: what it needs to be made was trained, and diverged."""
    try:
        return make_objective(config, splits, classes, folder)
    except Diverged:
        return None


def _give_up(network: nn.Module) -> None:
    """Leave nothing of a parser that diverged: its scores are 0 from now on, in a search that is resumed too."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(math.nan)


def network_of(trial: Trial, weights: Mapping[str, Tensor], config: Config, train: Split) -> nn.Module:
    """The network of a trial with these weights, on the device of `train`."""
    own = of_slots(train, trial)
    network: Any = build(_config(config, trial), train.weak.shape[1], own.dims)
    load_into(network, weights, Path(trial.name))
    found: nn.Module = network.to(train.weak.device)
    return found
