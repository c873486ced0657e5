"""How much one modality's answer is the other's, and the clips where the two should differ. numpy only.

Source: Zhu et al., "Mixed in time and modality: curse or blessing?" (section 4.3, eq. 8-11, tables 3 and 4). The paper
counts 623 clips with non-identical and 161 with non-common labels. The official CSVs give 663 (664 since 2024-04-16) and
169, and the paper's own scores of the non-common clips are only possible for 169. Where 623 and 161 come from is not
known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from manifests.dense import Event
from pipelines.parsing.scoring.counts import Bools, Parse, checked
from pipelines.parsing.scoring.truth import label_sets


class Ratio(NamedTuple):
    """A mean over clips in percent, and how many clips it is over; nan over 0 clips."""

    percent: float
    clips: int


@dataclass(frozen=True, slots=True)
class Interference:
    """How much of what one modality got wrong, or alone should have, is in the other's answer as well; lower is better.

    Parameters
    ----------
    a_fp_vo
        A_FP_VO, eq. 8: of what was wrongly heard, what was also found seen
    v_fp_ao
        V_FP_AO, eq. 9: of what was wrongly seen, what was also found heard
    a_leak_v
        A_Leak_V, eq. 10: of what was rightly heard and cannot be seen, what was found seen
    v_leak_a
        V_Leak_A, eq. 11: of what was rightly seen and cannot be heard, what was found heard
    of
        how many clips were looked at
    """

    a_fp_vo: Ratio
    v_fp_ao: Ratio
    a_leak_v: Ratio
    v_leak_a: Ratio
    of: int

    def as_dict(self) -> dict[str, float | int]:
        """Flat: ``a_fp_vo`` in percent, ``a_fp_vo_clips`` and so on, and ``of``."""
        flat: dict[str, float | int] = {}
        for name, value in asdict(self).items():
            if name != "of":
                flat[name], flat[f"{name}_clips"] = value
        return flat | {"of": self.of}


class Subsets(NamedTuple):
    """Where what is heard and what is seen differ, (N,) bool each.

    Parameters
    ----------
    non_identical
        clips whose labels heard are not their labels seen
    non_common
        clips that share no label between the two; also where one of them, or both, have none
    """

    non_identical: Bools
    non_common: Bools


def interference(predicted: Parse, truth: Parse) -> Interference:
    """Eq. 8-11 over N clips.

    Parameters
    ----------
    predicted
        after the gate: the scores that a paper prints beside these are of the same 0 and 1
    truth
        of the same clips

    Returns
    -------
    Interference
        each a mean of the clips' ratios, not a ratio of sums. A clip whose ratio is 0/0 is left out, and the number of
        those that count is told; the paper says nothing of such clips

    Raises
    ------
    ExtractError
        as of `metrics.score`
    """
    audio, visual, true_audio, true_visual = checked(predicted, truth)
    return Interference(
        _mean_ratio(audio & ~true_audio, visual),
        _mean_ratio(visual & ~true_visual, audio),
        _mean_ratio(true_audio & ~true_visual & audio, visual),
        _mean_ratio(true_visual & ~true_audio & visual, audio),
        len(audio),
    )


def subsets(events: Iterable[Event], clip_ids: Sequence[str]) -> Subsets:
    """Clips with non-identical and with non-common labels, by the label sets of `truth.label_sets`.

    Parameters
    ----------
    events
        all of LLP's val and test clips, or of one of the two splits: so an official version is known, whose rows without
        a second count too
    clip_ids
        N ids
    """
    sets = label_sets(events, clip_ids)
    return Subsets(
        np.array([heard != seen for heard, seen in sets], np.bool_),
        np.array([heard.isdisjoint(seen) for heard, seen in sets], np.bool_),
    )


def _mean_ratio(whole: Bools, part: Bools) -> Ratio:
    of_whole = whole.sum(axis=(1, 2))
    counted = of_whole > 0
    if not counted.any():
        return Ratio(float("nan"), 0)
    ratios = (whole & part).sum(axis=(1, 2))[counted] / of_whole[counted]
    return Ratio(100 * float(ratios.mean()), int(counted.sum()))
