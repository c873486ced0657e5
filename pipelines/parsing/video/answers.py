"""What a parser says of the windows of a video, joined into one timeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backbones.spec import Frames
from extract.errors import PlanError, StoreError
from extract.store import Store
from extract.store.training.aligned import AlignedRows
from manifests.seconds import to_text
from pipelines.parsing.config import Config
from pipelines.parsing.data import Split
from pipelines.parsing.evaluate import parsed, predict
from pipelines.parsing.page import timeline
from pipelines.parsing.page.rows import Row, ave_rows, avvp_rows, runs
from pipelines.parsing.video.keys import Wanted
from pipelines.parsing.video.windows import Video, Window


@dataclass(frozen=True, slots=True, eq=False)
class Parser:
    """A run, ready for new features.

    Parameters
    ----------
    config, model, classes
        of the run; the network lies on `device`
    seconds
        of its clips
    wanted
        its features
    """

    config: Config
    model: nn.Module
    classes: tuple[str, ...]
    seconds: int
    wanted: tuple[Wanted, ...]
    device: str

    @property
    def stretched(self) -> bool:
        """Whether pictures are spread over all rows where a clip is shorter."""
        features = [each.feature for each in self.wanted]
        return any(f.grid.short == "stretch" and any(isinstance(v, Frames) for v in f.views) for f in features)


@dataclass(frozen=True, slots=True)
class Found:
    """An event, ``[onset_s, offset_s)`` in seconds of the parsed stretch.

    Parameters
    ----------
    modality
        ``audio`` (heard), ``visual`` (seen), or ``both`` (AVE)
    probability
        of the label in the event's seconds, their mean, 0..1
    """

    onset_s: int
    offset_s: int
    modality: str
    label: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class ParsedVideo:
    """What a parser says of S seconds of a video.

    Parameters
    ----------
    path, start_ns
        the file, and where in it the seconds begin
    seconds
        S
    classes
        C names, of AVE with the background
    probability
        AVVP: (S, 2, C), 0..1, heard and seen; AVE: (S, C), summing to 1
    rows
        of its timeline
    events
        by onset
    notes
        sentences for the user
    """

    path: Path
    start_ns: int
    seconds: int
    classes: tuple[str, ...]
    probability: NDArray[np.float32]
    rows: tuple[Row, ...]
    events: tuple[Found, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The file's name, and where its seconds begin unless that is its start."""
        return f"{self.path.name} from {to_text(self.start_ns)} s" if self.start_ns else self.path.name

    @property
    def text(self) -> str:
        """Its timeline for a terminal."""
        return timeline.text(self.title, self.seconds, self.rows)


def parse(video: Video, windows: Sequence[Window], parser: Parser, store: Store) -> ParsedVideo:
    """Parse a video whose windows have rows of all features in a store, window by window.

    Raises
    ------
    PlanError
        a window has other seconds of features than the run's clips
    StoreError
        a window lacks a feature
    """
    keys = [each.feature.key for each in parser.wanted]
    rows = AlignedRows(store, keys, [window.clip.clip_id for window in windows], pool="mean")
    if missing := rows.missing():
        raise StoreError(f"{video.path}: {missing[0].clip_id} lacks {missing[0].key}: {missing[0].why}")
    pieces: list[list[NDArray[Any]]] = []
    for i, window in enumerate(windows):
        features, valid = _read(rows, i, window, parser)
        answers = _answer(window.clip.clip_id, features, parser)
        pieces.append([each[window.skip : window.skip + window.count] for each in (*answers, valid)])
    probability, said, valid = (np.concatenate(column) for column in zip(*pieces, strict=True))
    timeline_rows, events = _events(parser, probability, said)
    return ParsedVideo(
        video.path,
        video.start_ns,
        video.seconds,
        parser.classes,
        probability,
        timeline_rows,
        events,
        tuple(_notes(video, windows[-1], parser, valid)),
    )


def _read(
    rows: AlignedRows, i: int, window: Window, parser: Parser
) -> tuple[dict[str, torch.Tensor], NDArray[np.bool_]]:
    """Features of a window by slot, (1, T, dims...), and (T, slots): where they are the video's own."""
    at = np.array([i])
    outs = [np.zeros(shape, np.float32) for shape in rows.shapes(at)]
    masks = rows.read(at, outs)
    takes, is_whole = parser.seconds, window.skip + window.count == parser.seconds
    valid = np.zeros((takes, len(masks)), np.bool_)
    features = {}
    for k, (each, out, mask) in enumerate(zip(parser.wanted, outs, masks, strict=True)):
        assert rows.seconds is not None
        span = int(rows.seconds[k].spans(rows.rows[k, at].astype(np.int64))[0])
        if span > takes or (span < takes and is_whole):
            raise PlanError(
                f"{each.slot}: clips of the run have {takes} seconds of {each.feature.key}, and {takes} seconds of a video have "
                f"{span}: such features cannot be laid end to end; train on those of a recipe such as per-second or llp"
            )
        whole = np.zeros((1, takes, *out.shape[2:]), np.float32)
        whole[:, :span] = out[:, :span]
        features[each.slot] = torch.from_numpy(whole)
        valid[:span, k] = mask[0, :span]
    return features, valid


def _answer(name: str, features: Mapping[str, torch.Tensor], parser: Parser) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities (T, ...) of one window, and what they mean: AVVP (T, 2, C) 0/1, AVE (T,) classes."""
    config = parser.config
    split = Split("new", (name,), 1, (), features, torch.zeros(1, len(parser.classes))).to(parser.device)
    found = predict(parser.model, split, precision=config.precision)
    if found.probabilities is not None:
        parse = parsed(found, config)
        return found.probabilities.frame[0], np.stack([parse.audio[0], parse.visual[0]], axis=1)
    assert found.score is not None
    score = torch.from_numpy(found.score[0])
    sums_to_1 = config.model == "dmrn" or (config.model == "avel" and config.supervision == "full")
    return (score if sums_to_1 else score.softmax(dim=1)).numpy(), found.score[0].argmax(axis=1)


def _events(
    parser: Parser, probability: NDArray[np.float32], said: NDArray[Any]
) -> tuple[tuple[Row, ...], tuple[Found, ...]]:
    classes = parser.classes
    if parser.config.task == "avvp":
        rows = avvp_rows(classes, (said[:, 0], said[:, 1]))
        sources = {"audio": (rows[0], probability[:, 0]), "visual": (rows[1], probability[:, 1])}
    else:
        rows = ave_rows(classes, said)
        sources = {"both": (rows[0], probability)}
    found = [
        Found(int(a), int(b), modality, label, float(of[int(a) : int(b), classes.index(label)].mean()))
        for modality, (row, of) in sources.items()
        for a, b, label in row.events
    ]
    return rows, tuple(sorted(found, key=lambda each: (each.onset_s, each.modality, each.offset_s, each.label)))


def _notes(video: Video, last: Window, parser: Parser, valid: NDArray[np.bool_]) -> Iterator[str]:
    made = [each.feature.backbone.name for each in parser.wanted if each.feature.weights_id.startswith("random:")]
    if made:
        yield f"{', '.join(made)}: the weights are RANDOM, as in the run; what is found has no meaning"
    end_ns = video.start_ns + video.length_ns
    if video.stop_ns is not None and end_ns < video.stop_ns:
        yield f"the video ends at {to_text(end_ns)} s, before --stop {to_text(video.stop_ns)}"
    if last.skip:
        yield f"the last window begins at {last.first - last.skip} s, so that none is shorter than {parser.seconds} s"
    elif last.count < parser.seconds:
        behind = (
            "its pictures are spread over all of them, so what is seen is told too late, or not at all"
            if parser.stretched
            else "those behind its end count as zeros"
        )
        yield f"the last window holds {last.count} of the {parser.seconds} seconds that the parser takes; {behind}"
    slots = [each.slot for each in parser.wanted]
    for start, stop, slot in runs(~valid, slots):
        lacks = "sound" if slot == "audio" else f"pictures ({slot})"
        yield f"no {lacks} from {start:g} to {stop:g} s: the parser was given zeros there, and its answer to them means little"
