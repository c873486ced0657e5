"""What happens when in new videos: decode, the features that a run was trained on, its parser, a timeline."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from extract import api
from extract.chunk import Progress
from extract.engine.base import Event
from extract.errors import ClipError, NoAudio, PlanError
from extract.job import Choices
from extract.running import Machine
from extract.store import Store
from extract.store.rows import Remark
from manifests.clip import write_manifest
from manifests.seconds import to_text
from pipelines.parsing import metrics
from pipelines.parsing.judge import trained
from pipelines.parsing.networks import device_of
from pipelines.parsing.video.answers import ParsedVideo, Parser, parse
from pipelines.parsing.video.keys import Wanted, wanted
from pipelines.parsing.video.windows import Video, Window, cut, look_at


@dataclass(frozen=True, slots=True)
class Told:
    """What became of some videos; `gate` says how probabilities became events, empty for AVE."""

    videos: tuple[ParsedVideo, ...]
    failed: tuple[tuple[Path, ClipError], ...]
    gate: str


def predict(
    folder: Path,
    videos: Sequence[Path],
    *,
    start_ns: int = 0,
    stop_ns: int | None = None,
    weights: str = "",
    recipe: str = "",
    device: str = "auto",
    gate: str = "",
    threads: int | None = None,
    on_window: Callable[[int, int], None] = lambda done, windows: None,
) -> Told:
    """Parse videos that are in no store.

    Features are computed as those of the run were, into a store in the system's folder for temporary files (of an hour with
    ``resnet152`` in the recipe ``llp`` some 250 MB), which is deleted at the end. Memory does not grow with a video's length but
    for some bytes per frame. Videos longer than the run's clips are cut into windows (``cut`` of windows.py);
    each is parsed on its own, gate included, and events that meet at an edge are joined.

    Parameters
    ----------
    folder
        of the run
    videos
        files with sound and pictures
    start_ns, stop_ns
        the stretch of each that is parsed; None: to its end
    weights, recipe
        see :func:`pipelines.parsing.video.keys.wanted`
    device
        ``auto``, ``cpu`` or ``cuda``, of backbones and parser
    gate
        another one than the run's (AVVP); empty: that
    threads
        of one operator on a CPU while features are computed; None: all cores
    on_window
        told how many windows have features, of how many

    Returns
    -------
    Told
        videos that could not be decoded are among `failed`, with the reason

    Raises
    ------
    PlanError
        no run, its features cannot be computed here, or options that do not go together
    ExtractError
        the weights are not to be had, the machine lacks something
    """
    config, model, told = trained(folder)
    if gate and config.task != "avvp":
        raise PlanError(f"--gate is for avvp; {folder} is a run of {config.task}")
    if stop_ns is not None and stop_ns <= start_ns:
        raise PlanError(f"--stop {to_text(stop_ns)} must be after --start {to_text(start_ns)}")
    config = replace(config, gate=gate or config.gate)  # type: ignore[arg-type]
    device = device_of(device)
    needed = wanted(told, weights=weights, recipe=recipe)
    parser = Parser(config, model.to(device), tuple(told["classes"]), told["seconds"], needed, device)
    failed: dict[Path, ClipError] = {}
    chosen: dict[Path, tuple[Video, list[Window]]] = {}
    for number, path in enumerate(videos):
        try:
            video = look_at(path, start_ns, stop_ns)
            chosen[path] = video, list(cut(video, f"{number:04}", parser.seconds, stretched=parser.stretched))
        except ClipError as error:
            failed[path] = error
    found: list[ParsedVideo] = []
    with tempfile.TemporaryDirectory(prefix="extract-predict-") as temporary:
        if chosen:
            clips = [window.clip for _, windows in chosen.values() for window in windows]
            write_manifest(Path(temporary) / "windows.csv", clips)
            store = _extract(Path(temporary), parser, threads, len(clips), on_window)
            remarks = {(each.clip_id, each.key): each for each in store.failed()}
            for path, (video, windows) in chosen.items():
                try:
                    _check(windows, parser, remarks)
                    found.append(parse(video, windows, parser, store))
                except ClipError as error:
                    failed[path] = error
    said = metrics.describe_gate(config.gate) if config.task == "avvp" else ""
    return Told(tuple(found), tuple((path, failed[path]) for path in videos if path in failed), said)


def _extract(
    folder: Path, parser: Parser, threads: int | None, windows: int, on_window: Callable[[int, int], None]
) -> Store:
    """A store of all windows; features that were made with equal choices share one decode."""
    shared: dict[Choices, list[Wanted]] = {}
    for each in parser.wanted:
        shared.setdefault(replace(each.choices, backbones=()), []).append(each)
    machine = Machine(devices=("cuda:0" if parser.device == "cuda" else parser.device,), torch_threads=threads)
    done = 0

    def follow(event: Event) -> None:
        nonlocal done
        if isinstance(event, Progress):
            done += 1
            on_window(min(done // len(shared), windows), windows)

    for choices, group in shared.items():
        names = tuple(each.feature.backbone.name for each in group)
        api.run(folder / "windows.csv", replace(choices, backbones=names), machine, folder / "store", on_event=follow)
    return Store(folder / "store")


def _check(windows: Sequence[Window], parser: Parser, remarks: Mapping[tuple[str, str], Remark]) -> None:
    """Raise what the extraction says of the first window without all features."""
    kinds = {kind.reason: kind for kind in ClipError.__subclasses__()}
    for window in windows:
        for each in parser.wanted:
            remark = remarks.get((window.clip.clip_id, each.feature.key))
            if remark is None:
                continue
            message = remark.message
            if window.first:
                message += f"; that is behind {to_text(window.clip.start_ns)} s, which --stop can leave out"
            if remark.reason == NoAudio.reason:
                message += "; the run's features leave out clips without sound"
            raise kinds[remark.reason](message)
