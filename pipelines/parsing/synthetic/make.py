"""A store of made-up features with labels, to try parsers on where no video is to be had.

What happens is drawn first (scenes.py), then what backbones might give for it (stand_ins.py), with known strengths and
confusions. Nothing is decoded and no network runs; keys, weights and paths say so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from extract.errors import PlanError
from extract.grid import NS
from extract.plan import canonical_json
from extract.store.operations.making import finish, made, making, put_manifest
from extract.store.part import merge_chunk, seal_piece
from extract.store.rows import KeyInfo, Rows
from manifests import ave
from manifests.clip import Clip
from manifests.dense import Event
from pipelines.parsing.synthetic.scenes import Drawn, Scene, draw_ave, draw_avvp, events_of
from pipelines.parsing.synthetic.stand_ins import SOURCE, StandIn, features, stand_in
from pipelines.parsing.task import Task, task_of

CHUNK = 64
"""Clips in memory at once, and in a part."""
VERSION = 1
"""Of the formulas, and part of the ids and keys: equal ids mean equal events, equal keys equal numbers."""
PROPORTIONS = {
    "avvp": {"train": 10_000, "val": 649, "test": 1_200},
    "ave": {"train": 3_339, "val": 402, "test": 402},
}
USUAL_SCENE = {"avvp": Scene(), "ave": Scene(whole=0.65)}
"""In val and test of LLP 41 % of heard and 62 % of seen events last the whole clip, in AVE 66 % of all events."""
USUAL_STRENGTH = {"avvp": 4.0, "ave": 6.0}
"""With which networks learn from 2,000 clips, but not everything."""
_DEFAULTS = {"avvp": ("vggish", "resnet152", "r2plus1d_18"), "ave": ("vggish", "vgg19_ave", "")}
_MOST = 1_000_000
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Made:
    """A store that was made.

    Parameters
    ----------
    store
        its folder
    keys
        by slot (``audio``, ``visual``, ``clip``), in the order asked for
    splits
        clips by split
    events
        labels with times, of val and test (AVVP) or all clips (AVE)
    """

    store: Path
    keys: dict[str, tuple[str, ...]]
    splits: dict[str, int]
    events: int


def make_synthetic(
    folder: Path,
    task: str = "avvp",
    *,
    clips: int = 2000,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    audio: Sequence[str | StandIn] | None = None,
    visual: Sequence[str | StandIn] | None = None,
    clip: str | StandIn | None = None,
    scene: Scene | None = None,
    strength: float | None = None,
    rows_per_second: int = 8,
    on_clip: Callable[[int, int], None] = lambda done, clips: None,
) -> Made:
    """Make a store of clips that were never filmed, in the form of LLP or AVE.

    The same arguments give the same parts and lists, byte for byte on one machine; after an interruption they finish the store,
    and a finished one stays as it is. Ids depend on task, clips, sizes, seed and scene; a key on these and on its own stand-in,
    so that another backbone in another call is of the same clips.

    Parameters
    ----------
    folder
        of the store; it must not hold anything else
    task
        ``avvp``: LLP's 25 classes, labels of all clips and labels with times of val and test; ``ave``: 28 classes,
        one event per clip, heard and seen. Without `sizes`, splits have the proportions of LLP and AVE
    clips
        how many, 3 to 1,000,000
    sizes
        clips of train, val and test, at least one each, in place of `clips`; None: `clips` in the proportions of the task
    seed
        of everything that is random, from 0 on
    audio, visual
        backbones: stand-ins, or names of the zoo, which get one. None: ``vggish`` and ``resnet152``, of AVE ``vggish`` and
        ``vgg19_ave``
    clip
        one more visual backbone, for the third slot of AVVP; empty: none. None: ``r2plus1d_18``, of AVE none
    scene
        how clips come about; None: that of `USUAL_SCENE`
    strength
        of the backbones given by name, see :class:`StandIn`; None: that of `USUAL_STRENGTH`
    rows_per_second
        of the image networks given by name, AVVP only: 8 as in the official features, 1 is eight times smaller
    on_clip
        told how many clips are done, of how many

    Raises
    ------
    UnknownName
        no such task or backbone
    PlanError
        a value is out of its range, or a backbone is asked for twice
    StoreError
        the folder holds something else
    StoreBusy, StoreUnwritable
        somebody is making it, it cannot be written

    Notes
    -----
    A clip takes 0.68 MB for AVVP (0.11 MB with one row per second) and 1.01 MB for AVE, as float32: 2,000 clips of AVE take
    2 GB. Memory is that of the features of 64 clips.
    """
    found = task_of(task)
    scene = USUAL_SCENE[task] if scene is None else scene
    clips = clips if sizes is None else _total(sizes)
    if not 3 <= clips <= _MOST:
        raise PlanError(f"{clips} clips; it must be 3 (one per split) to {_MOST:,}")
    if seed < 0:
        raise PlanError(f"the seed is {seed}; it must not be negative")
    rows = rows_per_second if task == "avvp" else 1
    slots = _slots(task, audio, visual, clip, USUAL_STRENGTH[task] if strength is None else strength, rows)
    told = {"version": VERSION, "task": task, "clips": clips, "seed": seed, **asdict(scene)}
    if sizes is not None:
        told["sizes"] = {split: sizes[split] for split in PROPORTIONS[task]}
    columns = {slot: [(of, of.info(told, scene.seconds)) for of in each] for slot, each in slots.items()}
    keys = [info.key for each in columns.values() for _, info in each]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise PlanError(f"asked for twice: {', '.join(twice)}")
    by_slot = {slot: [info.key for _, info in each] for slot, each in columns.items()}
    asked = json.loads(canonical_json({"synthetic": told, "keys": by_slot}))
    result = made(folder, asked)
    if result is None:
        with making(folder, asked):
            result = _make(folder, found, told, scene, [pair for each in columns.values() for pair in each], on_clip)
            finish(folder, asked, result)
    return Made(folder, {slot: tuple(each) for slot, each in by_slot.items()}, result["splits"], result["events"])


def split_sizes(task: str, clips: int) -> dict[str, int]:
    """Clips by split, in the proportions of LLP or AVE; none is empty."""
    proportions = PROPORTIONS[task]
    total = sum(proportions.values())
    sizes = {split: max(1, round(clips * proportions[split] / total)) for split in ("val", "test")}
    return {"train": clips - sum(sizes.values()), **sizes}


def _total(sizes: Mapping[str, int]) -> int:
    splits = list(PROPORTIONS["avvp"])
    if sorted(sizes) != sorted(splits) or min(sizes.values()) < 1:
        raise PlanError(f"sizes are {dict(sizes)}; they must be the clips of {', '.join(splits)}, at least 1 each")
    return sum(sizes.values())


def _sizes(told: Mapping[str, Any]) -> dict[str, int]:
    """Clips by split, in the order of the clips."""
    found: dict[str, int] = told["sizes"] if "sizes" in told else split_sizes(told["task"], told["clips"])
    return found


def _make(
    folder: Path,
    task: Task,
    told: dict[str, Any],
    scene: Scene,
    columns: Sequence[tuple[StandIn, KeyInfo]],
    on_clip: Callable[[int, int], None],
) -> dict[str, Any]:
    clips, seed = told["clips"], told["seed"]
    classes = task.classes[:-1] if task.name == "ave" else task.classes
    drawn = draw_ave(clips, seed, scene, len(classes)) if task.name == "ave" else draw_avvp(clips, seed, scene)
    listed = _clips(task, told, scene, drawn, classes)
    events = _events(task, listed, drawn, classes)
    put_manifest(folder, listed, events)
    provenance = {SOURCE: {"version": VERSION, "numpy": np.__version__}}
    infos = [info for _, info in columns]
    for start in range(0, clips, CHUNK):
        order = [each.clip_id for each in listed[start : start + CHUNK]]
        name = hashlib.sha256(canonical_json([SOURCE, order, sorted(info.key for info in infos)]).encode()).hexdigest()[
            :16
        ]
        if not (folder / "parts" / f"{name}.h5").exists():
            part = drawn.part(start, start + CHUNK)
            rows = [
                each for of, info in columns for each in _rows(part, order, of, info, scene, len(classes), seed, start)
            ]
            seal_piece(folder / "parts", name, order, infos, rows, (), (), provenance)
            merge_chunk(folder / "parts", name, order)
        on_clip(start + len(order), clips)
    return {"splits": _sizes(told), "events": len(events)}


def _rows(
    part: Drawn, order: Sequence[str], of: StandIn, info: KeyInfo, scene: Scene, classes: int, seed: int, start: int
) -> list[Rows]:
    count, hop_ns = scene.seconds * of.rows_per_second, NS // of.rows_per_second
    begin = np.arange(count, dtype=np.int64) * hop_ns
    window_ns, valid = np.stack([begin, begin + hop_ns], axis=1), np.ones(count, np.uint8)
    source_ns = np.full((count, 1), -1, np.int64)
    data = features(part, of, scene, classes, seed, start)
    return [Rows(name, info.key, each, window_ns, valid, source_ns) for name, each in zip(order, data, strict=True)]


def _slots(
    task: str,
    audio: Sequence[str | StandIn] | None,
    visual: Sequence[str | StandIn] | None,
    clip: str | StandIn | None,
    strength: float,
    rows_per_second: int,
) -> dict[str, list[StandIn]]:
    heard, seen, moving = _DEFAULTS[task]
    if task == "ave" and clip:
        raise PlanError("the parsers of ave have no third slot: leave clip empty")
    asked: dict[str, Sequence[str | StandIn]] = {
        "audio": (heard,) if audio is None else audio,
        "visual": (seen,) if visual is None else visual,
        "clip": tuple(each for each in (moving if clip is None else clip,) if each),
    }
    found: dict[str, list[StandIn]] = {}
    for slot, each in asked.items():
        if isinstance(each, str) or (slot != "clip" and not each):
            raise PlanError(f"{slot} is {each!r}; it must be a list of at least one backbone")
        modality: Literal["audio", "visual"] = "audio" if slot == "audio" else "visual"
        found[slot] = [
            stand_in(one, modality, strength=strength, rows_per_second=rows_per_second) if isinstance(one, str) else one
            for one in each
        ]
        if wrong := [of.name for of in found[slot] if of.modality != modality]:
            raise PlanError(f"{slot}: {', '.join(wrong)} must have modality {modality!r}")
    return {slot: each for slot, each in found.items() if each}


def _clips(task: Task, told: dict[str, Any], scene: Scene, drawn: Drawn, classes: Sequence[str]) -> list[Clip]:
    world = int(hashlib.sha256(canonical_json(told).encode()).hexdigest(), 16)
    splits = [split for split, size in _sizes(told).items() for _ in range(size)]
    found = []
    for number, split in enumerate(splits):
        video = f"SYN{_text(world, 4)}{_text(number, 4)}"
        labels = tuple(classes[label] for label in drawn.classes_of(number))
        clip_id = ave.clip_id(video, labels[0]) if task.name == "ave" else f"{video}_0_{scene.seconds}"
        found.append(Clip(clip_id, f"{SOURCE}/{video}.mp4", 0, scene.seconds * NS, labels, split))
    return found


def _events(task: Task, clips: Sequence[Clip], drawn: Drawn, classes: Sequence[str]) -> list[Event]:
    both = task.name == "ave"
    return [
        event
        for number, clip in enumerate(clips)
        if both or clip.split != "train"
        for event in events_of(drawn, number, clip.clip_id, classes, both=both)
    ]


def _text(number: int, letters: int) -> str:
    """The last digits of a number, to base 36."""
    found = ""
    for _ in range(letters):
        number, digit = divmod(number, len(_DIGITS))
        found = _DIGITS[digit] + found
    return found
