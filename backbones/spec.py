"""What can be computed, as plain data: views (what a network eats), weights (where it comes from), backbones.

Nothing here imports torch, so that listing the zoo costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True, slots=True)
class Frames:
    """RGB frames of one window, the way a network was trained to see them.

    Parameters
    ----------
    count
        frames per window, >= 1
    resize
        an int: length in pixels of the short side, aspect kept (torchvision's rule: the long side is truncated);
        a pair ``(height, width)``: squash to exactly that
    crop
        side in pixels of the centre crop after the resize; None keeps the resized frame
    mean, std
        per channel (RGB), on values in [0, 1]
    interpolation
        the filter, as PIL computes it: antialiased, with a rounding to uint8 after each axis
    jpeg
        ``"mjpeg_200k"``: every sampled frame passes FFmpeg's mjpeg encoder at 200 kb/s first, as the official LLP
        frames did; None: frames as decoded
    aspect
        for an int `resize`: ``display`` honours the sample aspect ratio, ``storage`` ignores it, as the official scripts do
    """

    count: int
    resize: int | tuple[int, int]
    crop: int | None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    jpeg: Literal["mjpeg_200k"] | None = None
    aspect: Literal["display", "storage"] = "display"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"Frames.count must be >= 1, got {self.count}")
        smallest = self.resize if isinstance(self.resize, int) else min(self.resize)
        if self.crop is not None and self.crop > smallest:
            raise ValueError(f"Frames.crop ({self.crop}) must not exceed the resized short side ({smallest})")

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width in pixels of what the network sees."""
        if self.crop is not None:
            return self.crop, self.crop
        if isinstance(self.resize, int):
            raise ValueError("a view resized by its short side without a crop has no fixed size")
        return self.resize

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one window as the network sees it: ``(count, 3, height, width)``."""
        return self.count, 3, *self.height_width


@dataclass(frozen=True, slots=True)
class LogMel:
    """A (log-)mel spectrogram, computed on the device from the samples of one window.

    Parameters
    ----------
    n_fft, win_length, hop_length
        in samples; each frame of `win_length` samples is zero-padded at its end to `n_fft`
    n_mels, f_min_hz, f_max_hz
        the filter bank's bands and range; ``n_mels=0`` means no filter bank (a linear spectrogram)
    mel_scale, mel_norm
        ``htk`` or ``slaney``; ``slaney`` area normalisation or None
    triangles
        ``hz``: filters are linear in frequency (librosa, torchaudio, kapre); ``mel``: linear in mel with the zero-frequency bin
        cleared (VGGish)
    power
        exponent of the magnitude before the filter bank: 1 magnitude, 2 power
    mel_sqrt
        take the square root of the filtered power (kapre 0.1.4)
    log
        ``ln``: ln(x + offset); ``db``: 10 log10(max(x, offset)) minus the window's maximum, cut at -`db_range`;
        ``db_abs``: 10 log10(max(x, offset)) as it is
    offset
        see `log`
    pad
        samples put before and after the window
    pad_mode
        what they are: ``zeros``, or the window mirrored at its ends (``reflect``, as in torch.stft)
    frames
        spectrogram frames kept per window, the first ones; None keeps all
    """

    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    f_min_hz: float
    f_max_hz: float
    mel_scale: Literal["htk", "slaney"] = "htk"
    mel_norm: Literal["slaney"] | None = None
    triangles: Literal["hz", "mel"] = "hz"
    power: Literal[1, 2] = 2
    mel_sqrt: bool = False
    log: Literal["ln", "db", "db_abs"] = "ln"
    offset: float = 1e-10
    db_range: float = 80.0
    pad: tuple[int, int] = (0, 0)
    pad_mode: Literal["zeros", "reflect"] = "zeros"
    frames: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.win_length <= self.n_fft:
            raise ValueError(f"LogMel.win_length must be in [1, n_fft={self.n_fft}], got {self.win_length}")
        if self.hop_length < 1:
            raise ValueError(f"LogMel.hop_length must be >= 1, got {self.hop_length}")
        if not 0.0 <= self.f_min_hz < self.f_max_hz:
            raise ValueError(f"LogMel needs 0 <= f_min_hz < f_max_hz, got {self.f_min_hz} and {self.f_max_hz}")

    @property
    def bands(self) -> int:
        """Values per spectrogram frame."""
        return self.n_mels or self.n_fft // 2 + 1

    def frames_of(self, samples: int) -> int:
        """Spectrogram frames that fit into so many samples, before `frames` keeps the first of them."""
        return max(0, (samples + sum(self.pad) - self.win_length) // self.hop_length + 1)


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of one window, mono, in [-1, 1].

    Parameters
    ----------
    rate_hz
        sample rate the network was trained on
    samples
        samples per window, counted from the window's start
    spectrogram
        what the network eats, computed on the device; None: the waveform itself
    resample
        ``soxr_hq``: band-limited (soxr HQ, librosa's default), samples placed by their timestamps;
        ``moviepy``: what moviepy 1.0.3 writes: 44.1 kHz stereo s16, nearest-index decimation without a low-pass, clipped
        to 0.99 and truncated to 16 bits (the official LLP audio)
    """

    rate_hz: int
    samples: int
    spectrogram: LogMel | None = None
    resample: Literal["soxr_hq", "moviepy"] = "soxr_hq"

    def __post_init__(self) -> None:
        if self.samples < 1 or self.rate_hz < 1:
            raise ValueError(f"Sound.samples and rate_hz must be >= 1, got {self.samples} and {self.rate_hz}")
        if self.spectrogram is None:
            return
        fit, kept = self.spectrogram.frames_of(self.samples), self.spectrogram.frames
        if fit < (kept or 1):
            raise ValueError(f"{kept or 1} spectrogram frames do not fit into {self.samples} samples: only {fit} do")
        if self.spectrogram.f_max_hz > self.rate_hz / 2:
            raise ValueError(f"LogMel.f_max_hz ({self.spectrogram.f_max_hz}) exceeds half the rate ({self.rate_hz} Hz)")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one window as the network sees it: ``(frames, bands)``, or ``(samples,)`` without a spectrogram."""
        if self.spectrogram is None:
            return (self.samples,)
        return self.spectrogram.frames or self.spectrogram.frames_of(self.samples), self.spectrogram.bands


View = Frames | Sound


@dataclass(frozen=True, slots=True)
class Weights:
    """One published weight file.

    Parameters
    ----------
    uri
        where it is published
    sha256
        its digest in lower-case hex: all 64 digits, or the prefix its publisher put in the file name;
        None where none was ever published
    filename
        official file name; defaults to the last part of `uri`
    licence
        of the trained weights
    mirrors
        other places that serve the same bytes
    note
        what a user must know, such as a restriction of the licence
    """

    uri: str
    sha256: str | None
    licence: str
    filename: str = ""
    mirrors: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if not self.filename:
            object.__setattr__(self, "filename", self.uri.rsplit("/", 1)[-1])


State = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network that turns views of a window into one feature row.

    Parameters
    ----------
    name
        unique, lower case: what the user types and the store's keys begin with
    view
        what it eats; a tuple for a network that eats several views of the same window
    dims
        shape of one feature row
    build
        makes the ``torch.nn.Module``, without weights, in eval shape: its forward takes the prepared view(s),
        ``(n, t, 3, h, w)`` float for Frames and ``(n, frames, bands)`` or ``(n, samples)`` for Sound,
        and gives ``(n, *dims)``. torch is imported inside, not at the top of the file
    weights
        alternatives first: each entry is a tuple of publications of the *same* trained weights in different files;
        all entries are needed (most networks need one)
    adapt
        turns what the files hold (one state per entry of `weights`) into the module's state dict; None: as it is
    window_s
        seconds of one window the network was trained on, the default of a plan made by name
    batch
        rows per forward: fixed, so that a row's bits never depend on its neighbours
    params, gmacs
        parameters of the feature network, multiply-adds of one row in units of 1e9
    known
        name of a known-answer vector for the official weights (see backbones.testing), or None
    paper, note
        where it comes from; what a user must know
    """

    name: str
    view: View | tuple[View, ...]
    dims: tuple[int, ...]
    build: Callable[[], torch.nn.Module]
    weights: tuple[tuple[Weights, ...], ...]
    adapt: Callable[[tuple[State, ...]], State] | None = None
    window_s: float = 1.0
    batch: int = 8
    params: int = 0
    gmacs: float = 0.0
    known: str | None = None
    paper: str = ""
    note: str = ""

    def __reduce__(self) -> tuple[Callable[[str], Backbone], tuple[str]]:
        """Travel to worker processes by name; what a plug-in registers must be registered there too."""
        from backbones import registry

        if registry.get(self.name) != self:
            raise ValueError(f"backbone {self.name!r} differs from the registered one and cannot travel by name")
        return registry.get, (self.name,)

    @property
    def views(self) -> tuple[View, ...]:
        """The views as a tuple, also where there is only one."""
        return self.view if isinstance(self.view, tuple) else (self.view,)

    @property
    def modality(self) -> str:
        """``visual``, ``audio`` or ``audio-visual``."""
        kinds = {"visual" if isinstance(view, Frames) else "audio" for view in self.views}
        return "audio-visual" if len(kinds) == 2 else kinds.pop()


def describe_view(view: View) -> dict[str, Any]:
    """The view as JSON-able data with its kind, the part of a feature's identity that says what was fed."""
    return {"kind": type(view).__name__, **asdict(view)}
