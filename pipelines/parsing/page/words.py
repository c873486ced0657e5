"""Scores as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.parsing.page.tables import Number, table

_LEAKS = {"a_fp_vo": "A_FP_VO", "v_fp_ao": "V_FP_AO", "a_leak_v": "A_Leak_V", "v_leak_a": "V_Leak_A"}
_SUBSETS = {"non_identical": "non-identical labels", "non_common": "no common label"}


def shown(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of a run, and under it what the numbers rest on.

    Parameters
    ----------
    scores
        by split, as ``scores.json`` holds them
    """
    rows: dict[str, Mapping[str, Number]] = {}
    lines = []
    for split, told in scores.items():
        over = f"{told['clips']:,} of {told['of']:,} clips"
        rows[f"{split} ({over})"] = told
        rows |= {
            f"  {split}, {_SUBSETS[name]} ({told[name]['clips']})": told[name] for name in _SUBSETS if name in told
        }
    if not rows:
        return "nothing was scored: the store has no labels with times for val or test"
    lines.append(table(rows).rstrip())
    for split, told in scores.items():
        if "interference" in told:
            leaks = told["interference"]
            parts = [
                f"{word} {leaks[name]:.1f} (N {leaks[f'{name}_clips']})"
                if leaks[f"{name}_clips"]
                else f"{word} - (N 0)"
                for name, word in _LEAKS.items()
            ]
            lines.append(f"{split} interference, lower is better: {', '.join(parts)}")
    last = list(scores.values())[-1]
    for name in ("gate", "labels", "selection"):
        if name in last:
            epoch = f" (epoch {last['epoch']} of {last['epochs']})" if name == "selection" and "epoch" in last else ""
            lines.append(f"{name}: {last[name]}{epoch}")
    return "\n".join(lines)


def over_seeds(told: Mapping[str, Any]) -> str:
    """The table of several seeds: mean ± standard deviation.

    Parameters
    ----------
    told
        as ``seeds.json`` holds it
    """
    rows: dict[str, Mapping[str, Number]] = {}
    for split, numbers in told.items():
        if isinstance(numbers, Mapping):
            rows[split] = {name: (each["mean"], each["std"]) for name, each in numbers.items()}
    return f"{table(rows).rstrip()}\nmean ± std over {len(told['seeds'])} seeds: {', '.join(map(str, told['seeds']))}"
