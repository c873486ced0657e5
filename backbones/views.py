"""Views: exactly what a network was trained to eat. Equal views are made once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)


Interpolation = Literal["bilinear", "bicubic", "cv2_linear", "linear"]


@dataclass(frozen=True, slots=True)
class Frames:
    """RGB frames of one window, the way a network was trained to see them.

    Parameters
    ----------
    count
        frames per window, >= 1
    resize
        an int: length in pixels of the short side, aspect kept (torchvision's rule: the long side is truncated);
        a pair ``(height, width)``: squash to exactly that;
        ``"openl3"``: what openl3's ``get_image_embedding`` does with a picture, which depends on its size: exactly 224 x 224 is
        scaled to [-1, 1]; a short side above 256 becomes 256 and the centre is cut out, in [0, 1]; a short side of 224 to 256
        is only cut, and divided by the picture's maximum; anything smaller is an error
    crop
        side in pixels of the centre crop after the resize; None keeps the resized frame
    mean, std
        per channel (RGB), on values in [0, 1]
    interpolation
        ``bilinear``, ``bicubic``: PIL's filters, antialiased, rounded to uint8 after each axis;
        ``cv2_linear``: OpenCV's INTER_LINEAR on bytes: the two nearest pixels per axis however much smaller the result is,
        rounded once;
        ``linear``: the same two pixels in float32 without any rounding (torch's ``interpolate`` with align_corners and antialias
        off, skimage's order 1)
    jpeg
        ``"mjpeg_200k"``: every sampled frame passes FFmpeg's mjpeg encoder at 200 kb/s first, as the official LLP
        frames did; None: frames as decoded
    aspect
        for an int `resize`: ``display`` honours the sample aspect ratio, ``storage`` ignores it, as the official scripts do
    """

    count: int
    resize: int | tuple[int, int] | Literal["openl3"]
    crop: int | None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    jpeg: Literal["mjpeg_200k"] | None = None
    aspect: Literal["display", "storage"] = "display"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"Frames.count must be >= 1, got {self.count}")
        if self.resize == "openl3":
            if (self.crop, self.interpolation) != (224, "linear"):
                raise ValueError(
                    "the rule openl3 cuts out 224 pixels and interpolates linearly: crop=224, interpolation='linear'"
                )
            return
        smallest = self.resize if isinstance(self.resize, int) else min(self.resize)
        if self.crop is not None and self.crop > smallest:
            raise ValueError(f"Frames.crop ({self.crop}) must not exceed the resized short side ({smallest})")

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width in pixels of what the network sees."""
        if self.crop is not None:
            return self.crop, self.crop
        if not isinstance(self.resize, tuple):
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
        cleared (VGGish); ``bins``: edges at whole FFT bins, ``floor((n_fft + 1) * f / rate)`` (python_speech_features)
    power
        exponent of the magnitude before the filter bank: 1 magnitude, 2 power
    mel_sqrt
        take the square root of the filtered power (kapre 0.1.4)
    window
        ``hann`` (periodic) or ``rectangular``
    preemphasis
        the window's samples become ``x[n] - preemphasis * x[n - 1]`` (the first one stays) before they are cut into frames
    scale
        factor on the samples, for front ends that were trained on whole numbers
    pcm16
        samples are cut to [-1, 1] and to the 65,535 values of ``trunc(32767 x) / 32767`` first, as laion_clap does
    repeat_to
        a shorter window is repeated as often as it fits whole into so many samples, and zeros fill the rest (laion_clap's
        ``repeatpad``)
    log
        ``ln``: ln(x + offset); ``ln_max``: ln(max(x, offset));
        ``db``: 10 log10(max(x, offset)) minus the window's maximum, cut at -`db_range`;
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
    triangles: Literal["hz", "mel", "bins"] = "hz"
    power: Literal[1, 2] = 2
    mel_sqrt: bool = False
    log: Literal["ln", "ln_max", "db", "db_abs"] = "ln"
    offset: float = 1e-10
    db_range: float = 80.0
    pad: tuple[int, int] = (0, 0)
    pad_mode: Literal["zeros", "reflect"] = "zeros"
    frames: int | None = None
    window: Literal["hann", "rectangular"] = "hann"
    preemphasis: float = 0.0
    scale: float = 1.0
    pcm16: bool = False
    repeat_to: int = 0

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
        samples = max(samples, self.repeat_to)
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
        to 0.99 and truncated to 16 bits (the official LLP audio);
        ``resampy_rows``: every row's window is resampled alone, with resampy 0.2's ``kaiser_best``, as if nothing were around it
        (the official AVE audio);
        ``indexed``: the clip's whole sound at `rate_hz`, then stretched or squeezed to exactly `samples` by taking the nearest
        sample for each (VALOR's CLAP features); one row per clip
    """

    rate_hz: int
    samples: int
    spectrogram: LogMel | None = None
    resample: Literal["soxr_hq", "moviepy", "resampy_rows", "indexed"] = "soxr_hq"

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


# fields that came after stores had been written: described only where they are used, so that those stores keep their keys
_LATER = {"window": "hann", "preemphasis": 0.0, "scale": 1.0, "pcm16": False, "repeat_to": 0}


def describe_view(view: View) -> dict[str, Any]:
    """The view as JSON-able data with its kind, the part of a feature's identity that says what was fed."""
    described = {"kind": type(view).__name__, **asdict(view)}
    spectrogram = described.get("spectrogram")
    if spectrogram is not None:
        described["spectrogram"] = {k: v for k, v in spectrogram.items() if k not in _LATER or v != _LATER[k]}
    return described
