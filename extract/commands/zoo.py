"""Backbones in words: a line of ``extract backbones list``, the page of ``extract backbones show``."""

from __future__ import annotations

import fnmatch
import textwrap
from collections.abc import Sequence

from backbones import download, sources
from backbones.spec import Backbone, Frames, LogMel, Sound, View, Weights
from backbones.weights import UNVERIFIED, cached
from extract.errors import PlanError

HEAD = ("name", "modality", "dims", "params", "GMAC", "licence", "input", "weights")
WIDTH = 110
_FILTERS = {
    "bilinear": "bilinear, antialiased (PIL)",
    "bicubic": "bicubic, antialiased (PIL)",
    "cv2_linear": "bilinear without antialiasing, rounded to bytes (OpenCV's INTER_LINEAR)",
    "linear": "bilinear without antialiasing or rounding",
}
_RESAMPLERS = {
    "soxr_hq": "soxr HQ",
    "moviepy": "as moviepy 1.0.3 writes it: 44.1 kHz, the nearest samples, 16 bits",
    "resampy_rows": "resampy 0.2 kaiser_best, every window alone",
    "indexed": "the clip's whole sound, stretched to this length by taking the nearest samples",
}


def chosen(backbones: Sequence[Backbone], patterns: Sequence[str], modality: str | None) -> list[Backbone]:
    """Those whose name fits any of the patterns (a part of it, or a glob), of that modality.

    Raises
    ------
    PlanError
        none does
    """
    found = [
        backbone
        for backbone in backbones
        if (not patterns or any(_fits(backbone.name, pattern.lower()) for pattern in patterns))
        and modality in (None, backbone.modality)
    ]
    if not found:
        kind = f"{modality} " if modality else ""
        raise PlanError(f"no {kind}backbone fits {' or '.join(patterns) or 'that'}; `extract backbones list` shows all")
    return found


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) if any(c in pattern for c in "*?[") else pattern in name


def row(backbone: Backbone) -> tuple[str, ...]:
    """The cells of one line, in the order of `HEAD`."""
    return (
        backbone.name,
        backbone.modality,
        dims(backbone),
        f"{backbone.params / 1e6:.1f} M",
        f"{backbone.gmacs:.2f}",
        " + ".join(sources.licences(backbone)) or "-",
        " + ".join(_fed(view) for view in backbone.views),
        _state(backbone) + (f", needs extract-av[{backbone.extra}]" if backbone.extra else ""),
    )


def _state(backbone: Backbone) -> str:
    if not backbone.weights:
        return "random"
    if any(not any(map(sources.published, entry)) for entry in backbone.weights):
        return "your own"
    return "here" if cached(backbone) else "fetch"


def dims(backbone: Backbone) -> str:
    """Shape of a row: ``7x7x512``."""
    return "x".join(str(size) for size in backbone.dims)


def _fed(view: View) -> str:
    if isinstance(view, Frames):
        height, width = view.height_width
        return f"{view.count} x {height}x{width} RGB"
    shape = "" if view.spectrogram is None else f", {'x'.join(str(size) for size in view.input_shape)} spectrogram"
    return f"{view.samples / view.rate_hz:g} s at {view.rate_hz / 1000:g} kHz{shape}"


def page(backbone: Backbone, recipes: Sequence[str]) -> list[str]:
    """Everything declared about a backbone; `recipes` are those that run it by themselves."""
    hop_s = backbone.window_s if backbone.hop_s is None else backbone.hop_s
    said = [
        ("paper", backbone.paper or "none given"),
        ("size", f"{backbone.params:,} parameters, {backbone.gmacs:g} GMAC per row, {backbone.batch} rows per forward"),
        ("window", f"{backbone.window_s:g} s; a row every {hop_s:g} s as its own release makes them"),
        *(("input", line) for view in backbone.views for line in view_words(view)),
        ("recipes", ", ".join(recipes) or "none by itself; any takes it with --backbones"),
    ]
    if backbone.extra:
        said.append(("install", f"pip install 'extract-av[{backbone.extra}]'"))
    title = f"{backbone.name}: {backbone.modality}, row {dims(backbone)}, {backbone.note or 'no note'}"
    lines = _wrapped(title, "")
    before = ""
    for label, text in said:
        head = f"  {label if label != before else '':8}"
        lines += _wrapped(text, head)
        before = label
    return [*lines, *_weights(backbone)]


def _wrapped(text: str, head: str) -> list[str]:
    """Lines of at most `WIDTH`, but no name or address is broken."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False
    )


def view_words(view: View) -> list[str]:
    """What a network is fed, one step per line."""
    return _frames_words(view) if isinstance(view, Frames) else _sound_words(view)


def _frames_words(view: Frames) -> list[str]:
    height, width = view.height_width
    if view.resize == "openl3":
        resize = (
            "as openl3's get_image_embedding does by the picture's size: 224 x 224 scaled to [-1, 1]; a short side above 256 "
            "shrunk to 256, the centre kept, in [0, 1]; 224 to 256 only cut, divided by its maximum; smaller is an error"
        )
    elif isinstance(view.resize, int):
        shape = " in the file's own pixels (aspect ratio ignored)" if view.aspect == "storage" else ""
        resize = f"resized to a short side of {view.resize} pixels{shape}"
    else:
        resize = "squashed to {} x {} pixels".format(*view.resize)
    crop = f", then the centre {view.crop} x {view.crop}" if view.crop and view.resize != "openl3" else ""
    return [
        f"{view.count} RGB frame{'s' * (view.count > 1)} per row, {height} x {width} as the network sees them",
        *(["every frame passes FFmpeg's mjpeg at 200 kb/s first"] if view.jpeg else []),
        f"{resize}{crop}; {_FILTERS[view.interpolation]}",
        f"values in [0, 1], minus mean {_three(view.mean)}, over std {_three(view.std)}",
    ]


def _sound_words(view: Sound) -> list[str]:
    lines = [
        f"{view.samples / view.rate_hz:g} s of mono sound at {view.rate_hz} Hz ({view.samples} samples) per row, in [-1, 1]",
        f"resampled by {_RESAMPLERS[view.resample]}" if view.resample != "indexed" else _RESAMPLERS[view.resample],
    ]
    return [*lines, *(_mel_words(view.spectrogram, view) if view.spectrogram else ["fed as a waveform"])]


def _mel_words(mel: LogMel, view: Sound) -> list[str]:
    before = [
        *(["cut to 16 bits"] if mel.pcm16 else []),
        *([f"repeated and filled with zeros to {mel.repeat_to} samples"] if mel.repeat_to else []),
        *([f"times {mel.scale:g}"] if mel.scale != 1 else []),
        *([f"pre-emphasis {mel.preemphasis:g}"] if mel.preemphasis else []),
        *([f"padded by {mel.pad[0]} and {mel.pad[1]} samples ({mel.pad_mode})"] if any(mel.pad) else []),
    ]
    kind = ("magnitude", "power")[mel.power - 1]
    bank = (
        f"{mel.n_mels} mel bands ({mel.mel_scale} scale, triangles in {mel.triangles}"
        f"{', area-normalised' if mel.mel_norm else ''}) from {mel.f_min_hz:g} to {mel.f_max_hz:g} Hz of the {kind}"
        f"{', square root' if mel.mel_sqrt else ''}"
        if mel.n_mels
        else f"linear spectrogram of the {kind}"
    )
    log = {
        "ln": f"ln(x + {mel.offset:g})",
        "ln_max": f"ln(max(x, {mel.offset:g}))",
        "db": f"dB below the window's maximum, cut at -{mel.db_range:g}, floor {mel.offset:g}",
        "db_abs": f"10 log10(max(x, {mel.offset:g}))",
    }[mel.log]
    frames, bands = view.input_shape
    return [
        *([", ".join(before)] if before else []),
        f"{mel.window} window of {mel.win_length} samples every {mel.hop_length}, FFT of {mel.n_fft}",
        f"{bank}; {log}",
        f"{frames} spectrogram frames x {bands} values",
    ]


def _three(values: tuple[float, float, float]) -> str:
    return "({})".format(", ".join(str(value) for value in values))


def _weights(backbone: Backbone) -> list[str]:
    if not backbone.weights:
        return ["  weights none were published; runs with --weights random:SEED only"]
    lines = []
    for entry in backbone.weights:
        for place, weights in enumerate(entry):
            lines.append(f"  {'or' if place else 'weights':8}{weights.filename} ({_terms(weights)})")
            if forbids := sources.restriction(weights):
                lines.append(f"{'':10}LICENCE: {forbids}")
            for title, address in (("", weights.uri), *(("mirror ", mirror) for mirror in weights.mirrors)):
                lines += [f"{'':10}{title}{address}"] if address else []
            if weights.note:
                lines += _wrapped(weights.note, " " * 10)
    if _state(backbone) != "your own":
        lines.append(f"  cache   {download.cache_folder()}: {'complete' if cached(backbone) else 'not complete'}")
    return lines


def _terms(weights: Weights) -> str:
    if not sources.published(weights):
        return "never published: your own training; --weights DIR"
    digest = download.words(weights) if weights.digest else f"no published digest: {UNVERIFIED}"
    return f"{digest}; {weights.licence}"
