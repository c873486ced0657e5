"""The demo set: small labelled clips made on the spot, in which sound and picture do not always agree.

Every clip tells a short story (`story`) of one class that is seen and heard together and one or two that may be heard
only (off screen), seen only (silent), or heard at another time than seen. Classes are named after twelve of the 25 of
LLP, so that everything which reads LLP reads the demo; they look and sound like toys.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.demo_looks import LOOKS, Patch
from extract.demo_sounds import SOUNDS
from extract.errors import ManifestError
from manifests.clip import Clip, read_manifest, write_manifest
from manifests.dense import Event, dense_path, write_dense
from manifests.llp import LABELS

CLASSES = tuple(LOOKS)
WIDTH, HEIGHT, FPS, RATE_HZ = 320, 240, 30, 44_100
SEEDS = 36
MAX_CLIPS = 1_000_000
# 5 : 1 : 2, and no run of few clips that lacks a split
_SPLITS = ("train", "test", "train", "val", "train", "test", "train", "train")
_RELATIONS = ("off_screen", "silent", "shifted", "together")
_LEVEL, _HISS, _FADE_S = 0.3, 0.0005, 0.01
_PLACES = ((0.33, 0.33), (0.67, 0.33), (0.5, 0.73))  # all within the centre crop of every view
_PATCH = 104
_BASE36 = "_123456789abcdefghijklmnopqrstuvwxyz"

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Story:
    """What happens in one clip.

    Parameters
    ----------
    clip_id
        ``<11 characters>_0_<seconds>``, as in LLP; the characters hold seed and number
    seconds
        length of the clip
    split
        ``train``, ``val`` or ``test``
    heard, seen
        class -> spans in whole seconds, half-open, increasing, apart; classes that are never heard (seen) are left out
    """

    clip_id: str
    seconds: int
    split: str
    heard: dict[str, tuple[Span, ...]]
    seen: dict[str, tuple[Span, ...]]

    @property
    def labels(self) -> tuple[str, ...]:
        """Everything heard or seen, in the official order: the weak label."""
        return tuple(label for label in LABELS if label in self.heard or label in self.seen)

    @property
    def disagrees(self) -> bool:
        """Whether some class is heard when it is not seen, or the reverse."""
        return self.heard != self.seen

    def events(self) -> list[Event]:
        """Events of both modalities, by time."""
        found = [
            Event(self.clip_id, modality, onset, offset, label)  # type: ignore[arg-type]
            for modality, spans in (("audio", self.heard), ("visual", self.seen))
            for label in spans
            for onset, offset in spans[label]
        ]
        return sorted(found, key=lambda e: (e.modality, e.onset_s, e.offset_s, e.label))


@dataclass(frozen=True, slots=True)
class Made:
    """What `make_demo` wrote."""

    manifest: Path
    dense: Path
    folder: Path
    splits: dict[str, int]
    events: int
    disagreeing: int
    size_bytes: int


def story(number: int, seconds: int = 10, seed: int = 0) -> Story:
    """What happens in clip `number`; the same for the same arguments, whatever else is made.

    Parameters
    ----------
    number
        0..999999
    seconds
        >= 2
    seed
        0..35

    Raises
    ------
    ManifestError
        a value outside those ranges
    """
    for name, value, low, high in (
        ("number", number, 0, MAX_CLIPS - 1),
        ("seconds", seconds, 2, 3600),
        ("seed", seed, 0, SEEDS - 1),
    ):
        if not low <= value <= high:
            raise ManifestError(f"demo clips: {name} must be {low}..{high}, got {value}")
    rng = np.random.default_rng([seed, number])
    deck = np.random.default_rng([seed, MAX_CLIPS + number // len(CLASSES)]).permutation(len(CLASSES))
    # half a deck apart: eight clips show all twelve classes
    lead, second = (CLASSES[deck[(number + skip) % len(CLASSES)]] for skip in (0, len(CLASSES) // 2))
    third = rng.choice([label for label in CLASSES if label not in (lead, second)])
    cast = [(lead, "together"), (second, _RELATIONS[number % 4]), (str(third), _RELATIONS[rng.integers(4)])]
    heard: dict[str, tuple[Span, ...]] = {}
    seen: dict[str, tuple[Span, ...]] = {}
    for label, relation in cast[: rng.integers(2, 4)]:
        spans = _spans(rng, seconds)
        if relation != "off_screen":
            seen[label] = spans
        if relation == "shifted":
            spans = _shifted(rng, spans, seconds)
        if relation != "silent":
            heard[label] = spans
    clip_id = f"demo{_BASE36[seed]}{number:06d}_0_{seconds}"
    return Story(clip_id, seconds, _SPLITS[number % len(_SPLITS)], heard, seen)


def _spans(rng: np.random.Generator, seconds: int) -> tuple[Span, ...]:
    """One span, or in a longer clip sometimes two with a pause between, that leave part of the clip empty."""
    longest = max(1, int(0.6 * seconds))
    length = int(rng.integers(min(2, longest), longest + 1))
    start = int(rng.integers(0, seconds - length + 1))
    if length >= 4 and rng.random() < 0.4:
        pause = start + int(rng.integers(1, length - 1))
        return ((start, pause), (pause + 1, start + length))
    return ((start, start + length),)


def _shifted(rng: np.random.Generator, spans: tuple[Span, ...], seconds: int) -> tuple[Span, ...]:
    """The spans one to three seconds earlier or later; there is room for one, as they leave part of the clip empty."""
    room = [d for d in (-3, -2, -1, 1, 2, 3) if spans[0][0] + d >= 0 and spans[-1][1] + d <= seconds]
    by = room[rng.integers(len(room))]
    return tuple((onset + by, offset + by) for onset, offset in spans)


def _active(spans: tuple[Span, ...], t_s: float) -> bool:
    return any(onset <= t_s < offset for onset, offset in spans)


def picture_of(told: Story) -> Callable[[int, float], NDArray[np.uint8]]:
    """The story's pictures: ``(k, t_s) -> (240, 320, 3) uint8``, each object in its place on a backdrop that drifts."""
    rng = np.random.default_rng(list(told.clip_id.encode()))
    low, high = rng.uniform(60, 110, 3), rng.uniform(110, 170, 3)
    backdrop = (low + np.linspace(0, 1, 256)[:, None] * (high - low) + 0.5).astype(np.uint8)
    x = np.linspace(0, 2 * np.pi, WIDTH, endpoint=False, dtype=np.float32)
    y = np.linspace(0, 255, HEIGHT, dtype=np.float32)[:, None]
    phase, waves = rng.uniform(0, 2 * np.pi), int(rng.integers(1, 4))
    places = dict(zip(told.labels, rng.permutation(_PLACES), strict=False))
    patch = Patch(_PATCH)

    def picture(k: int, t_s: float) -> NDArray[np.uint8]:
        del k
        shade = np.clip(y + 38 * np.sin(waves * x + np.float32(phase + 0.4 * t_s)), 0, 255).astype(np.uint8)
        out: NDArray[np.uint8] = backdrop[shade]
        for label, spans in told.seen.items():
            if not _active(spans, t_s):
                continue
            patch.clear()
            LOOKS[label](patch, t_s)
            left, top = (
                int(part * side) - _PATCH // 2 for part, side in zip(places[label], (WIDTH, HEIGHT), strict=True)
            )
            region = out[top : top + _PATCH, left : left + _PATCH]
            region[:] = region * (1 - patch.alpha) + patch.rgb + 0.5
        return out

    return picture


def sound_of(told: Story) -> Callable[[NDArray[np.float64]], NDArray[np.float32]]:
    """The story's sound: ``(n,) seconds -> (n, 2)`` in [-1, 1], over a hiss of -66 dB; each class has its own side."""
    rng = np.random.default_rng(list(told.clip_id.encode())[::-1])
    loop = rng.standard_normal(RATE_HZ).clip(-3, 3) * _HISS
    side = {label: rng.uniform(0.3, 0.7) for label in told.heard}

    def sound(t_s: NDArray[np.float64]) -> NDArray[np.float32]:
        out = np.repeat(loop[np.rint(t_s * RATE_HZ).astype(np.int64) % len(loop)][:, None], 2, axis=1)
        for label, spans in told.heard.items():
            edge = np.max([np.minimum(t_s - onset, offset - t_s) for onset, offset in spans], axis=0)
            if edge.max() <= 0:
                continue
            wave = _LEVEL * SOUNDS[label](t_s) * np.clip(edge / _FADE_S, 0, 1)
            out += wave[:, None] * np.sqrt([1 - side[label], side[label]])
        return out.astype(np.float32)

    return sound


def make_demo(
    folder: Path | str = "demo",
    manifest: Path | str = "manifests/demo.csv",
    *,
    clips: int = 8,
    seconds: int = 10,
    seed: int = 0,
    progress: bool = False,
) -> Made:
    """Write the clips, their manifest and their per-second labels; the same arguments give the same bytes.

    Parameters
    ----------
    folder
        of the clips, ``<first 11 characters of the id>.mp4``: H.264 320x240 at 30 fps, AAC 44.1 kHz stereo
    manifest
        CSV; the events go to ``<stem>.dense.csv`` beside it. A manifest of an earlier demo is replaced
    clips, seconds, seed
        1..1000000, 2..3600, 0..35; a clip's content depends on its number, `seconds` and `seed` only, and its id holds all
        three, so that no store can take one for the other
    progress
        show a bar on standard error

    Raises
    ------
    ManifestError
        a value is out of range, `manifest` lists other clips than demo clips, or a file cannot be written
    """
    from tqdm import tqdm

    from extract.testing import make_video

    folder, manifest = Path(folder), Path(manifest)
    if not 1 <= clips <= MAX_CLIPS:
        raise ManifestError(f"demo: clips must be 1..{MAX_CLIPS}, got {clips}")
    stories = [story(number, seconds, seed) for number in range(clips)]
    if manifest.exists() and not all(clip.clip_id.startswith("demo") for clip in read_manifest(manifest)):
        raise ManifestError(f"{manifest} lists clips that are not of the demo; give another name with --manifest")
    size_bytes = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for told in tqdm(stories, desc="demo clips", unit="clip", disable=not progress):
            path = folder / f"{told.clip_id[:11]}.mp4"
            part = folder / f".{path.name}.part"
            make_video(
                part, container="mp4", width=WIDTH, height=HEIGHT, fps=FPS, duration_s=seconds, gop=60,
                picture=picture_of(told), rate_hz=RATE_HZ, channels=2, sound=sound_of(told), faststart=True,
            )  # fmt: skip
            size_bytes += part.stat().st_size
            part.replace(path)
    except OSError as error:
        raise ManifestError(f"cannot write the demo clips to {folder}: {error}") from error
    events = [event for told in stories for event in told.events()]
    base = manifest.parent.resolve()
    # last, and the manifest after its labels: whoever finds a manifest finds all of it
    write_dense(dense_path(manifest), events)
    write_manifest(
        manifest,
        [
            Clip(
                told.clip_id,
                Path(os.path.relpath(folder.resolve() / f"{told.clip_id[:11]}.mp4", base)).as_posix(),
                labels=told.labels,
                split=told.split,
            )
            for told in stories
        ],
    )
    return Made(
        manifest=manifest,
        dense=dense_path(manifest),
        folder=folder,
        splits=dict(Counter(told.split for told in stories)),
        events=len(events),
        disagreeing=sum(told.disagrees for told in stories),
        size_bytes=size_bytes,
    )
