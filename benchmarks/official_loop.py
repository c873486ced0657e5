"""How the published AVVP code trains and evaluates, written anew for benchmarks/parsing.py to measure against.

Source of every choice: YapengTian/AVVP-ECCV20 at fde5611 (``main_avvp.py``, ``dataloader.py``, ``nets/net_audiovisual.py``,
``utils/eval_metrics.py``). Kept, because it is how that code spends its time:

* three ``.npy`` files per clip, read for every item of every epoch; 80 frames of 2048 numbers go through the loader and through
  the first linear layer, and only then is every second's mean taken;
* a fresh set of loader processes per epoch: 12 for training, 1 for evaluation (``DataLoader`` without ``persistent_workers``);
* ``nn.MultiheadAttention`` once per stream for itself and once for the other, sequence first, with attention weights asked for
  (the default) and thrown away; this also rules out the fused kernel;
* Adam as constructed by default, which on a CPU walks the parameters one by one; ``StepLR``;
* the loss read back every 50 steps; after every epoch the validation clips, one per forward; per clip the true matrices are
  filled from its events, then per class numbers of hits, then events as lists of vectors of ten seconds, compared in pairs.

Where this differs, it differs in that code's favour: pandas (a look-up in a table of 10,000 rows per item, two scans over
thousands of rows per evaluated clip) is a dict here; sums over classes are formed once per clip and not once per class;
an event's vector is a slice and not a loop; what it builds and never uses (half of its 9.3 million parameters) is not
built, as nothing is computed with it; ``pin_memory``, which does nothing without a GPU, and copies between devices are
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from manifests.dense import Event
from manifests.llp import CLIP_S, LABELS

TRAIN_WORKERS, EVALUATION_WORKERS = 12, 1
BATCH, LEARNING_RATE, PRINTED_EVERY = 16, 3e-4, 50
FOLDERS = {"audio": "vggish", "visual": "res152", "clip": "r2plus1d_18"}
NUMBER = {label: number for number, label in enumerate(LABELS)}


@dataclass(frozen=True)
class Item:
    """A line of the official CSVs: a clip and what occurs in it somewhere."""

    name: str
    labels: tuple[str, ...]


class PerClipFiles(Dataset[dict[str, Tensor]]):
    """What ``LLP_dataset`` does for each item, without pandas."""

    def __init__(self, folder: Path, items: Sequence[Item]) -> None:
        self.folder, self.items = folder, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = self.items[index]
        label = np.zeros(len(LABELS))
        for each in item.labels:
            label[NUMBER[each]] = 1
        file = f"{item.name[:11]}.npy"
        sample = {slot: torch.from_numpy(np.load(self.folder / name / file)) for slot, name in FOLDERS.items()}
        return sample | {"label": torch.from_numpy(label)}


class HybridLayer(nn.Module):
    """One stream looks at itself and at the other; ``HANLayer``."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, 1, dropout=dropout)
        self.cm_attn = nn.MultiheadAttention(width, 1, dropout=dropout)
        self.linear1, self.linear2 = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)
        self.dropout11, self.dropout12 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, stream: Tensor, other: Tensor) -> Tensor:
        stream, other = stream.permute(1, 0, 2), other.permute(1, 0, 2)
        across, _ = self.cm_attn(stream, other, other)
        within, _ = self.self_attn(stream, stream, stream)
        stream = self.norm1(stream + self.dropout11(across) + self.dropout12(within))
        further = self.linear2(self.dropout(F.relu(self.linear1(stream))))
        return self.norm2(stream + self.dropout2(further)).permute(1, 0, 2)


class HybridEncoder(nn.Module):
    """The layer, with the same weights for both streams. Its two norms are held by the official one and never applied."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([HybridLayer(width, dropout)])
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers[0](audio, visual), self.layers[0](visual, audio)


class Answer(NamedTuple):
    """``video``, ``audio``, ``visual`` (B, C) and ``frame`` (B, T, 2, C), in the order in which ``MMIL_Net`` returns them."""

    video: Tensor
    audio: Tensor
    visual: Tensor
    frame: Tensor


class Network(nn.Module):
    """``MMIL_Net`` for audio (B, T, 128), visual (B, 8T, 2048) and clip (B, T, 512); parameters have their official names."""

    def __init__(self, *, width: int = 512, dropout: float = 0.1) -> None:
        super().__init__()
        self.fc_prob, self.fc_frame_att, self.fc_av_att = (nn.Linear(width, len(LABELS)) for _ in range(3))
        self.fc_a, self.fc_v, self.fc_st = nn.Linear(128, width), nn.Linear(2048, width), nn.Linear(512, width)
        self.fc_fusion = nn.Linear(2 * width, width)
        self.hat_encoder = HybridEncoder(width, dropout)

    def forward(self, audio: Tensor, visual: Tensor, clip: Tensor) -> Answer:
        heard = self.fc_a(audio)
        frames = self.fc_v(visual).permute(0, 2, 1).unsqueeze(-1)
        seconds = F.avg_pool2d(frames, (8, 1)).squeeze(-1).permute(0, 2, 1)
        seen = self.fc_fusion(torch.cat([seconds, self.fc_st(clip)], dim=-1))
        both = torch.stack(self.hat_encoder(heard, seen), dim=-2)
        frame = torch.sigmoid(self.fc_prob(both))
        weighted = torch.softmax(self.fc_frame_att(both), dim=1) * frame
        video = (weighted * torch.softmax(self.fc_av_att(both), dim=2)).sum(dim=2).sum(dim=1)
        return Answer(video, weighted[:, :, 0].sum(dim=1), weighted[:, :, 1].sum(dim=1), frame)


def train_loader(folder: Path, items: Sequence[Item], workers: int = TRAIN_WORKERS) -> DataLoader[dict[str, Tensor]]:
    return _loader(folder, items, BATCH, True, workers)


def evaluation_loader(
    folder: Path, items: Sequence[Item], workers: int = EVALUATION_WORKERS
) -> DataLoader[dict[str, Tensor]]:
    return _loader(folder, items, 1, False, workers)


def _loader(
    folder: Path, items: Sequence[Item], batch: int, shuffle: bool, workers: int
) -> DataLoader[dict[str, Tensor]]:
    # workers are forked, as under Linux when that code was written; spawned ones would take seconds to begin
    how = "fork" if workers else None
    return DataLoader(PerClipFiles(folder, items), batch, shuffle, num_workers=workers, multiprocessing_context=how)


def optimiser(network: Network) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)


def train_step(network: Network, optimizer: torch.optim.Optimizer, sample: Mapping[str, Tensor]) -> Tensor:
    """A batch forwards and backwards, and a step; returns the loss."""
    weak = sample["label"].type(torch.FloatTensor)
    optimizer.zero_grad()
    video, audio, visual, _ = network(sample["audio"], sample["visual"], sample["clip"])
    for each in (video, audio, visual):
        each.clamp_(min=1e-7, max=1 - 1e-7)
    smooth = 0.9 * weak + (1 - 0.9) * 0.5
    bce = F.binary_cross_entropy
    loss = bce(audio, weak) + bce(visual, smooth) + bce(video, weak)
    loss.backward()
    optimizer.step()
    return loss


def train_epoch(
    network: Network, optimizer: torch.optim.Optimizer, loader: Iterable[Mapping[str, Tensor]]
) -> list[float]:
    """An epoch; returns the losses it would have printed."""
    network.train()
    printed = []
    for number, sample in enumerate(loader):
        loss = train_step(network, optimizer, sample)
        if number % PRINTED_EVERY == 0:
            printed.append(loss.item())
    return printed


def true_matrix(events: Iterable[Event]) -> np.ndarray:
    matrix = np.zeros((len(LABELS), CLIP_S))
    for event in events:
        matrix[NUMBER[event.label], event.onset_s : event.offset_s] = 1
    return matrix


def evaluate(
    network: Network,
    loader: Iterable[Mapping[str, Tensor]],
    items: Sequence[Item],
    events: Mapping[str, Mapping[str, Sequence[Event]]],
) -> np.ndarray:
    """F of every clip: (N, 2, 4) for segments and events, of what is heard, seen, both together, and either.

    Parameters
    ----------
    events
        by name of the clip and modality
    """
    network.eval()
    scores = []
    with torch.no_grad():
        for item, sample in zip(items, loader, strict=True):
            video, _, _, frame = network(sample["audio"], sample["visual"], sample["clip"])
            gate = np.repeat((video.numpy() >= 0.5).astype(np.int_), CLIP_S, axis=0)
            heard, seen = ((frame[0, :, which].numpy() >= 0.5).astype(np.int_) * gate for which in (0, 1))
            true = [true_matrix(events[item.name][modality]) for modality in ("audio", "visual")]
            predicted = [heard.T, seen.T]
            predicted.append(predicted[0] * predicted[1])
            true.append(true[0] * true[1])
            scores.append([f_of(segment_counts(predicted, true)), f_of(event_counts(predicted, true))])
    return np.array(scores)


def means(scores: np.ndarray) -> dict[str, float]:
    """Percent, over clips; Type@AV is the mean of the first three."""
    told: dict[str, float] = {}
    for level, row in zip(("segment", "event"), scores.mean(axis=0) * 100, strict=True):
        told |= {f"{level}_{name}": row[i] for i, name in enumerate(("audio", "visual", "audio_visual", "event"))}
        told[f"{level}_type"] = row[:3].mean()
    return told


Counts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Hits, false alarms and misses per class."""


def f_of(counts: Sequence[Counts]) -> list[float]:
    """F of heard, seen, both and either: the mean over classes that are predicted or true; 1 where there is none."""
    heard, seen, both = counts
    either = tuple(a + v for a, v in zip(heard, seen, strict=True))
    scores = []
    for hits, alarms, misses in (heard, seen, both, either):
        predicted, true, wrong = hits + alarms, hits + misses, alarms + misses
        each = [
            2 * hits[number] / (2 * hits[number] + wrong[number])
            for number in range(len(LABELS))
            if predicted[number] != 0 or true[number] != 0
        ]
        scores.append(sum(each) / len(each) if each else 1.0)
    return scores


def segment_counts(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> list[Counts]:
    return [
        (np.sum(p * t, axis=1), np.sum(p * (1 - t), axis=1), np.sum((1 - p) * t, axis=1))
        for p, t in zip(predicted, true, strict=True)
    ]


def event_counts(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> list[Counts]:
    counts = []
    for p, t in zip(predicted, true, strict=True):
        hits, alarms, misses = np.zeros(len(LABELS)), np.zeros(len(LABELS)), np.zeros(len(LABELS))
        for number in range(len(LABELS)):
            told = events_in(p[number]) if np.sum(p[number]) != 0 else []
            real = events_in(t[number]) if np.sum(t[number]) != 0 else []
            found = sum(any(overlap(one, other) for other in real) for one in told)
            hits[number], alarms[number] = found, len(told) - found
            misses[number] = sum(not any(overlap(one, other) for other in told) for one in real)
        counts.append((hits, alarms, misses))
    return counts


def events_in(seconds: np.ndarray) -> list[np.ndarray]:
    """A vector of ten seconds per run of ones."""
    found, at = [], 0
    while at < CLIP_S:
        if seconds[at] != 1:
            at += 1
            continue
        start = at
        while at < CLIP_S and seconds[at] == 1:
            at += 1
        event = np.zeros(CLIP_S)
        event[start:at] = 1
        found.append(event)
    return found


def overlap(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two events share at least half of what either covers."""
    both = one * other
    return bool(np.sum(both) >= 0.5 * np.sum(one + other - both))
