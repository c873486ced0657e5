"""Known answers: what networks with their official weights give for inputs that can be written down here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """One known answer.

    Parameters
    ----------
    feed
        ``silence``: all-zero samples; ``sine``: SINE_1KHZ in every spectrogram frame
    source
        who says so
    row
        the whole row; None where only its statistics are known
    mean, std
        over the row's values; None: not known
    tolerance
        absolute for `row`, relative for `mean` and `std`
    """

    feed: str
    source: str
    tolerance: float
    row: tuple[float, ...] | None = None
    mean: float | None = None
    std: float | None = None


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


# VGGish log-mel of a full-scale 1 kHz sine at 16 kHz: its period divides the hop, so all frames are alike
SINE_1KHZ = _numbers("""
    -4.48312 -4.27084 -4.17058 -4.23782 -4.47488 -4.14557 -3.94362 -4.03887 -4.18465 -3.63351 -3.47831 -3.73550
    -3.15676 -2.50752 -2.99163 -1.65173 -0.92909 -0.14772 2.69300 4.81112 4.77504 2.26222 -0.58961 -1.00505
    -2.36047 -2.39663 -3.22797 -3.27344 -3.71410 -3.84451 -4.00150 -4.17906 -4.20978 -4.32030 -4.37900 -4.40534
    -4.44024 -4.47795 -4.50054 -4.51552 -4.52840 -4.54207 -4.55296 -4.56044 -4.56642 -4.57242 -4.57701 -4.58090
    -4.58458 -4.58723 -4.58985 -4.59114 -4.59308 -4.59491 -4.59573 -4.59722 -4.59772 -4.59894 -4.59923 -4.59986
    -4.60036 -4.60060 -4.60049 -4.60114
""")

_SILENCE = _numbers("""
    0 0 0 0.29574651 0 0 0 0 0 0
    0 0 0.58667719 0.15900975 0 0 0.2330966 0.32228291 0.22957826 0
    0 0 0 0 0.22625427 0 0 0.25978321 0.43351251 0
    0 0 0.14564757 0.078322671 0.2441331 0 0 0 0 0
    0.37677681 0 0.051656507 0 0.59268832 0 0.40937531 0.39000928 0.4690643 0.27611086
    0 0 0 0 0.15076086 0.064041972 0 0 0.077559233 0
    0.15266702 0.38160336 0 0 0 0 0 0.30591655 0 0
    0 0.13954881 0.17915225 0.13650203 0.2157032 0.032903574 0 0.55133486 0 0.18337563
    0 0.41820148 0.41283688 0 0.17789808 0.32017246 0.082421452 0.10550201 0 0.22238111
    0 0.090336412 0 0.41052315 0.24444738 0.25398585 0 0.1153162 0 0.099519163
    0.11933322 0.54787099 0 0.26976642 0 0 0.13706581 0 0.01061964 0
    0 0.68314767 0.074298553 0 0 0.052964628 0 0.024923092 0 0
    0 0 0 0 0.20571736 0 0.22877742 0.17769393
""")

_SMOKE_TEST = "tensorflow/models, research/audioset/vggish/vggish_smoke_test.py, with its own tolerance"
ANSWERS = {
    "vggish_silence": Answer(
        feed="silence",
        source="a silent second of AVE's released features (audio_feature_noisy.h5)",
        tolerance=1e-4,
        row=_SILENCE,
    ),
    "vggish_sine": Answer(feed="sine", source=_SMOKE_TEST, tolerance=0.1, std=0.343),
    "vggish_sine_pca8": Answer(feed="sine", source=_SMOKE_TEST, tolerance=0.1, mean=126.0, std=89.3),
}
