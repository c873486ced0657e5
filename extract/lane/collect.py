"""From a clip's events to the rows of its features, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.spec import Frames
from extract.chunk import Todo
from extract.decode.events import Block, Broken, Event, Opened
from extract.errors import Bug, ClipError, ExtractError, NoAudio, Overflow, TooShort
from extract.lane.ahead import bug
from extract.lane.models import Model
from extract.plan import Feature, Plan, Tap
from extract.store.part import check_rows
from extract.store.rows import KeyInfo, Remark, Rows


@dataclass(slots=True)
class Result:
    """What became of one clip: rows, and remarks on what is missing or filled."""

    clip_id: str
    rows: list[Rows] = field(default_factory=list)
    failed: list[Remark] = field(default_factory=list)
    masked: list[Remark] = field(default_factory=list)


class _Column:
    """The rows of one feature of one clip as they come in; batches run as soon as they are full."""

    def __init__(self, model: Model, taps: tuple[int, ...], windows_ns: NDArray[np.int64]) -> None:
        rows = len(windows_ns)
        self.model, self.taps, self.windows_ns = model, taps, windows_ns
        self.data = np.zeros((rows, *model.feature.backbone.dims), dtype=np.float32)
        self.valid = np.ones(rows, dtype=np.uint8)
        self.source_ns: list[NDArray[np.int64]] = []
        self._arrived: list[list[NDArray[Any] | None]] = [[] for _ in taps]  # None: the row shows nothing
        self._row = 0
        self._batch: list[tuple[int, list[NDArray[Any]]]] = []

    def add(self, block: Block) -> None:
        """Take some rows of one of the feature's views."""
        for view, tap in enumerate(self.taps):
            if tap != block.tap:
                continue
            if block.first_row != self._row + len(self._arrived[view]):
                raise AssertionError(f"rows of tap {tap} came out of order: {block.first_row}")
            blank = np.all(block.source_ns < 0, axis=1)
            self._arrived[view] += [None if none else row for none, row in zip(blank, block.data, strict=True)]
            self.valid[block.first_row : block.first_row + len(block.data)] &= block.valid
            if view == 0:
                self.source_ns += list(block.source_ns)
        while all(self._arrived):
            row = [arrived.pop(0) for arrived in self._arrived]
            shown = [view for view in row if view is not None]
            if len(shown) == len(row):  # rows that show nothing stay zero and never reach the network
                self._batch.append((self._row, shown))
            self._row += 1
            if len(self._batch) == self.model.batch:
                self._run()

    def finish(self, clip_id: str, info: KeyInfo) -> Rows:
        """The complete rows.

        Raises
        ------
        AssertionError
            the decoder owes more
        ValueError
            no part may hold them, such as values that are not finite
        """
        if self._row != len(self.valid):
            raise AssertionError(f"{self._row} of {len(self.valid)} rows came")
        if self._batch:
            self._run()
        source_ns = np.stack(self.source_ns)
        data = _stored(self.data, info) if info.storage != "float32" else self.data
        rows = Rows(clip_id, self.model.feature.key, data, self.windows_ns, self.valid, source_ns)
        check_rows(rows, info)
        return rows

    def _run(self) -> None:
        rows = [row for row, _ in self._batch]
        views = [np.stack(view) for view in zip(*(shown for _, shown in self._batch), strict=True)]
        self._batch.clear()
        self.data[rows] = self.model(views)


def _stored(data: NDArray[np.float32], info: KeyInfo) -> NDArray[np.float16]:
    largest = float(np.abs(data).max(initial=0.0))
    if np.isfinite(largest) and largest > float(np.finfo(np.float16).max):
        raise Overflow(f"a value of {largest:g} does not fit float16, which ends at 65504; use --storage float32")
    return data.astype(np.float16)


def collect(
    todo: Todo,
    taps: tuple[Tap, ...],
    events: Iterable[Event],
    plan: Plan,
    models: Mapping[str, Model],
    infos: Mapping[str, KeyInfo],
) -> Result:
    """Run the models over a clip as it is decoded.

    Failures are kept to the feature they concern: a mute clip keeps its pictures.

    Parameters
    ----------
    todo
        the clip and its missing keys
    taps
        what the decoder delivers, in its numbering
    events
        of the decode; raises ClipError where the whole clip fails
    plan, models, infos
        features and policies; loaded networks, and what the store keeps of each, by key

    Raises
    ------
    ExtractError
        what no other clip would survive either (a device without memory)
    """
    result = Result(todo.clip.clip_id)
    columns: dict[str, _Column] = {}
    try:
        for event in events:
            if isinstance(event, Opened):
                result = Result(todo.clip.clip_id)
                columns = _open(todo, taps, event, plan, models, result)
            elif isinstance(event, Block):
                for key, column in list(columns.items()):
                    if event.tap in column.taps:
                        _guarded(key, columns, result, partial(column.add, event))
            elif isinstance(event, Broken):
                for key in [key for key, column in columns.items() if event.tap in column.taps]:
                    del columns[key]
                    result.failed.append(_remark(result.clip_id, key, "decode", event.error))
    except ClipError as error:
        stage = "open" if not columns and not result.failed else "decode"
        told = {remark.key for remark in result.failed}
        failed = [_remark(result.clip_id, key, stage, error) for key in todo.keys if key not in told]
        return Result(result.clip_id, failed=[*result.failed, *failed])
    for key, column in list(columns.items()):
        rows = _guarded(key, columns, result, partial(column.finish, result.clip_id, infos[key]))
        if rows is not None:
            result.rows.append(rows)
            _remark_filled(rows, result)
    told = {rows.key for rows in result.rows} | {remark.key for remark in (*result.failed, *result.masked)}
    silence = Bug("the decoder ended and said nothing of this feature")
    result.failed += [_remark(result.clip_id, key, "decode", silence) for key in todo.keys if key not in told]
    return result


def _open(
    todo: Todo, taps: tuple[Tap, ...], opened: Opened, plan: Plan, models: Mapping[str, Model], result: Result
) -> dict[str, _Column]:
    """A column for every feature that can be had of the clip; the policy for those that cannot."""
    columns: dict[str, _Column] = {}
    for key in todo.keys:
        feature = plan.feature(key)
        positions = tuple(taps.index(Tap(view, feature.grid)) for view in feature.views)
        error = next((opened.errors[position] for position in positions if position in opened.errors), None)
        if error is None:
            columns[key] = _Column(models[key], positions, opened.windows_ns[positions[0]])
        elif isinstance(error, NoAudio) and plan.missing_audio != "error":
            result.masked.append(_remark(result.clip_id, key, "audio", error))
            if plan.missing_audio == "mask":
                result.rows.append(_silent_rows(result.clip_id, feature, opened.windows_ns[positions[0]]))
        else:
            result.failed.append(_remark(result.clip_id, key, "decode", error))
    return columns


def _silent_rows(clip_id: str, feature: Feature, windows_ns: NDArray[np.int64]) -> Rows:
    rows = len(windows_ns)
    sources = feature.views[0].count if isinstance(feature.views[0], Frames) else 1
    return Rows(
        clip_id,
        feature.key,
        np.zeros((rows, *feature.backbone.dims), feature.storage),
        windows_ns,
        np.zeros(rows, dtype=np.uint8),
        np.full((rows, sources), -1, dtype=np.int64),
    )


def _remark_filled(rows: Rows, result: Result) -> None:
    filled = int((rows.valid == 0).sum())
    if filled:
        text = f"{filled} of {len(rows.valid)} rows lie where the clip shows or sounds nothing; the grid's policy filled them"
        result.masked.append(Remark(rows.clip_id, rows.key, "decode", TooShort.reason, text))


def _guarded(key: str, columns: dict[str, _Column], result: Result, step: Callable[[], Rows | None]) -> Rows | None:
    """Do one step of one feature; what goes wrong in it costs this feature of this clip, no more."""
    try:
        return step()
    except ClipError as error:
        columns.pop(key, None)
        result.failed.append(_remark(result.clip_id, key, "model", error))
        return None
    except ExtractError:
        raise
    except Exception as error:  # noqa: BLE001 - recorded as a Bug with its type and place
        columns.pop(key, None)
        result.failed.append(_remark(result.clip_id, key, "model", bug(error)))
        return None


def _remark(clip_id: str, key: str, stage: str, error: ClipError) -> Remark:
    return Remark(clip_id, key, stage, error.reason, str(error))
