"""What a step minimises: the loss of the configuration, on clips as they are, spliced or swapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.errors import Diverged
from pipelines.parsing import run_folder
from pipelines.parsing.batch import Batch
from pipelines.parsing.config import Config
from pipelines.parsing.data import Split
from pipelines.parsing.evaluate import predict
from pipelines.parsing.learning import augment
from pipelines.parsing.learning.denoising import NoiseRatios, denoising_loss
from pipelines.parsing.learning.losses import location_loss, mil_loss
from pipelines.parsing.learning.mtsm import mtsm_loss
from pipelines.parsing.learning.noise import estimate, load_ratios
from pipelines.parsing.metrics import binarise, score
from pipelines.parsing.networks import build
from pipelines.parsing.outputs import Located, pool


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The loss of a configuration on a training split.

    Parameters
    ----------
    config
        of the run
    train
        the clips to learn from
    classes
        names
    labelled
        (N, C): the labels of the clips
    ratios
        how noisy each label is, by modality; for jomold
    """

    config: Config
    train: Split
    classes: tuple[str, ...]
    labelled: NDArray[np.bool_]
    ratios: NoiseRatios | None = None

    def kind(self, epoch: int) -> augment.Kind:
        """How the clips of an epoch are made."""
        return augment.epoch_kind(epoch, self.config.schedule) if self.config.augment else "plain"

    def parts(self, model: nn.Module, rows: Tensor, epoch: int, epoch_fraction: float) -> dict[str, Tensor]:
        """The parts of the loss of one step; their sum is minimised.

        Parameters
        ----------
        model
            the network
        rows
            (B,) int64, the clips of the step
        epoch, epoch_fraction
            which, and how far into the training, such as 1.25 for a quarter of the second
        """
        config, batch = self.config, self.train.batch(rows)
        kind = self.kind(epoch)
        if kind == "temporal":
            return self._spliced(model, batch, epoch)
        if kind == "modality":
            return self._swapped(model, batch, epoch)
        if config.task == "ave":
            located: Located = model(**batch.features)
            video = model.pool(located.score) if config.supervision == "weak" else None  # type: ignore[operator]
            return location_loss(config.model, config.supervision, located, video, batch, target=config.target)
        if config.model == "jomold":
            assert self.ratios is not None
            return denoising_loss(model, batch, self.ratios, config.denoising, epoch_fraction=epoch_fraction)
        parsed = model(**batch.features)
        parts = mil_loss(pool(parsed), batch.weak, smooth_audio=config.smooth_audio, smooth_visual=config.smooth_visual)
        return parts | (mtsm_loss(parsed.before, parsed.after, config.mtsm) if config.loss == "mtsm" else {})

    def _other(self, batch: Batch, epoch: int) -> Batch:
        """Clips that share no label with those of `batch`."""
        rows = batch.rows.cpu().numpy()
        found = augment.partners(self.labelled, rows, seed=self.config.seed, epoch=epoch, classes=self.classes)
        return self.train.batch(torch.from_numpy(found).to(batch.rows.device))

    def _spliced(self, model: nn.Module, batch: Batch, epoch: int) -> dict[str, Tensor]:
        config, rows = self.config, batch.rows.cpu().numpy()
        at = torch.from_numpy(augment.split_points(rows, self.train.seconds, seed=config.seed, epoch=epoch))
        spliced = augment.splice(batch, self._other(batch, epoch), at)
        told = model(**spliced.features)
        if isinstance(told, Located):
            pooling: Any = model.pool
            return augment.spliced_location_loss(
                config.model, config.supervision, told, pooling, spliced, target=config.target
            )
        return augment.temporal_loss(
            told, spliced, renormalise=config.renormalise,
            smooth_audio=config.smooth_audio, smooth_visual=config.smooth_visual,
        )  # fmt: skip

    def _swapped(self, model: nn.Module, batch: Batch, epoch: int) -> dict[str, Tensor]:
        config, swapped = self.config, augment.swap(batch, self._other(batch, epoch))
        return augment.modality_loss(
            model(**swapped.features), swapped, smooth_audio=config.smooth_audio, smooth_visual=config.smooth_visual
        )


def make_objective(config: Config, splits: Mapping[str, Split], classes: Sequence[str], folder: Path) -> Objective:
    """The objective of a run; for jomold, after the estimator of noise was trained, or from what it left in `folder`."""
    train = splits["train"]
    labelled = train.weak.cpu().numpy() > 0
    if config.model != "jomold":
        return Objective(config, train, tuple(classes), labelled)
    path = folder / run_folder.NOISE
    if not path.exists():
        run_folder.write_arrays(path, _estimated(config, splits, len(classes))._asdict())
    return Objective(config, train, tuple(classes), labelled, load_ratios(path, len(classes)))


def _estimated(config: Config, splits: Mapping[str, Split], classes: int) -> NoiseRatios:
    train, judge = splits["train"], splits.get(config.select)
    options = config.denoising
    model = build(config, classes, train.dims).to(train.weak.device)

    def batches(epoch: int) -> Iterator[Batch]:
        torch.manual_seed(config.seed * 1_000_003 - 1 - epoch)
        for rows in torch.split(torch.randperm(len(train)), options.estimator_batch):
            yield train.batch(rows.to(train.weak.device))

    def audio_events(network: nn.Module) -> float:
        assert judge is not None
        assert judge.truth is not None
        found = predict(network, judge, cross_attention=False)
        assert found.probabilities is not None
        if not found.finite:
            raise Diverged("the noise estimator's probabilities are not finite; lower denoising.estimator_lr")
        return score(binarise(found.probabilities, "per_modality"), judge.truth).event.audio

    return estimate(model, batches, options, score=audio_events if judge is not None else None)
