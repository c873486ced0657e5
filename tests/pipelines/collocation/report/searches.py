"""Folders of collocation searches as ``extract collocate`` leaves them, with generated numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

AUDIO = ("vggish", "openl3_audio_mel256_env_512")
VISUAL = ("resnet152", "vgg19_bn", "senet154", "polynet", "openl3_image_mel256_env_512")
EVIL = "</svg></title><script>alert('x\"&')</script><img src=https://evil.example/x onerror=alert(1)>"
ESTIMATORS = ("cos_psi_audio", "cos_psi_visual", "cos_psi_concatenated", "logme_clips", "h_score_clips", "cka_seconds")
SPEED = {"traverse": 1.0, "halving": 8.0, "decoupled": 3.1, "transfer": 240.0}


def names_of(slots: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    return list(product(slots["audio"], slots["visual"], slots.get("clip") or ("",)))


def truth_of(slots: Mapping[str, Sequence[str]], seed: int = 0) -> dict[str, float]:
    """Percent by collocation: a backbone's own strength, and how it fits."""
    rng = np.random.default_rng(seed)
    alone = {each: rng.normal(0, 1.2) for names in slots.values() for each in names}
    return {
        "+".join(filter(None, each)): float(51 + sum(alone.get(part, 0) for part in each) + rng.normal(0, 0.8))
        for each in names_of(slots)
    }


def make_ranking(
    slots: Mapping[str, Sequence[str]],
    scores: Mapping[str, float],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    metric: str = "segment_type",
    tested: bool = True,
    seconds: float = 33.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    noise = {name: rng.normal(0, 0.3, len(seeds)) for name in scores}
    values = {name: (score + noise[name]).tolist() for name, score in scores.items()}
    best = [max(values, key=lambda name: values[name][i]) for i in range(len(seeds))]
    rows = []
    for each in names_of(slots):
        name = "+".join(filter(None, each))
        test = [value - 1.3 for value in values[name]]
        numbers = {"mean": float(np.mean(test)), "std": float(np.std(test)), "values": test}
        rows.append(
            {
                "name": name, "audio": each[0], "visual": each[1], "clip": each[2],
                "score": float(np.mean(values[name])), "std": float(np.std(values[name])), "values": values[name],
                "test": {metric: numbers, "event_type": numbers} if tested else {},
                "wins": best.count(name), "epochs": 40 * len(seeds), "seconds": seconds, "out": "",
            }
        )  # fmt: skip
    rows.sort(key=lambda row: -row["score"])
    return [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]


def make_result(method: str, ranking: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    wall_s = 1000.0 / SPEED[method]
    names = [row["name"] for row in ranking] + ["", ""]
    told: dict[str, Any] = {
        "method": method, "task": "avvp", "metric": "segment_type", "seeds": [0, 1, 2], "epochs": 40, "train_classes": 25,
        "ranking": ranking, "winner": names[0], "runner_up": names[1], "settled": True,
        "verdict": f"{names[0]} is better than {names[1]} by 1.9 (0.7 to 3.1, 95 %).",
        "difference": {"mean": 1.9, "low": 0.7, "high": 3.1, "confidence": 0.95},
        "wall_s": wall_s, "work_s": wall_s * 1.1, "trained_epochs": 1200, "finished": True, "notes": [],
    }  # fmt: skip
    return told | changes


def write(folder: Path, name: str, told: Mapping[str, Any]) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "result.json").write_text(json.dumps(told))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_search(
    folder: Path,
    *,
    slots: Mapping[str, Sequence[str]] | None = None,
    methods: Sequence[str] = ("traverse", "halving", "decoupled", "transfer"),
    fewer: Sequence[int] = (20, 15, 10),
    weights: str = "sha256:0123",
    recall: bool = True,
    **changes: Any,
) -> Path:
    """A search with every file; `changes` are entries of ``collocate.json``."""
    slots = slots or {"audio": AUDIO, "visual": VISUAL}
    folder.mkdir(parents=True, exist_ok=True)
    shorts = [each for names in slots.values() for each in names]
    told: dict[str, Any] = {
        "task": "avvp", "store": "features/llp", "metric": "segment_type",
        "slots": {slot: list(names) for slot, names in slots.items()},
        "keys": {short: f"{short}@0123456789ab" for short in shorts},
        "infos": {short: {"weights": weights, "dims": [128]} for short in shorts},
        "config": {"model": "han", "epochs": 40, "lr": 3e-4, "mtsm": {"t_exp": 3}}, "seeds": [0, 1, 2],
        "clips": {"train": [9000, 10000], "val": [649, 649], "test": [1100, 1200]},
        "flagged": {}, "notes": [], "labels": "official, since 2024-04-16", "device": "cpu", "precision": "float32",
        "lanes": 2, "versions": {"python": "3.12", "torch": "2.11"},
    }  # fmt: skip
    (folder / "collocate.json").write_text(json.dumps(told | changes))
    truth = truth_of(slots)
    for i, method in enumerate(methods):
        write(folder, method, _method(method, slots, truth, i))
        if method != "transfer":
            names = names_of(slots)[:3]
            write_rows(
                folder / method / "epochs.csv",
                [
                    {"collocation": "+".join(filter(None, name)), "audio": name[0], "visual": name[1], "clip": name[2],
                     "seed": 0, "epoch": epoch, "on": "train", "settings": "", "loss": 1.0, "val_segment_type": 50.0,
                     "train_s": 0.5, "val_s": 0.25}
                    for name in names for epoch in range(4)
                ],
            )  # fmt: skip
    for classes in fewer if "traverse" in methods else ():
        scores = {name: 40 + (score - 40) * classes / 25 for name, score in truth.items()}
        write(
            folder, f"traverse-{classes}", make_result("traverse", make_ranking(slots, scores), train_classes=classes)
        )
    if recall:
        write_rows(folder / "recall.csv", make_recall(slots))
    return folder


def _method(method: str, slots: Mapping[str, Sequence[str]], truth: Mapping[str, float], i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    if method == "transfer":
        estimates = {
            name: {each: 0.3 + score / 100 + float(rng.normal(0, 0.004)) for each in ESTIMATORS}
            for name, score in truth.items()
        }
        ranking = make_ranking(
            slots, {name: each["logme_clips"] for name, each in estimates.items()}, tested=False, seeds=[0], seconds=0.1
        )
        for row in ranking:
            row |= {"score": estimates[row["name"]]["logme_clips"], "values": [], "wins": 0, "epochs": 0, "std": None}
        ranking.sort(key=lambda row: -row["score"])
        ranking = [row | {"rank": rank} for rank, row in enumerate(ranking, 1)]
        return make_result(
            method, ranking, by="logme_clips", estimates=estimates, trained_epochs=0, settled=None, difference=None
        )
    scores = {name: score + (0 if method == "traverse" else float(rng.normal(0, 0.5))) for name, score in truth.items()}
    ranking = make_ranking(slots, scores, tested=method == "traverse", seconds=33.0 / SPEED[method], seed=i)
    names = [row["name"] for row in ranking]
    if method == "halving":
        for row in ranking[5:]:
            row["out"] = f"round 1: 2.4 below {names[0]} (1.1 to 3.7, 95 %)"
        out = {row["name"]: row["out"].removeprefix("round 1: ") for row in ranking[5:]}
        rounds = [
            {"epochs": 4, "seeds": [0], "in": names, "leader": names[0], "out": out},
            {"epochs": 12, "seeds": [0, 1], "in": names[:5], "leader": names[0], "out": {}},
        ]
        return make_result(method, ranking, rounds=rounds)
    if method == "decoupled":
        first, last = names[0], names[-1]
        tried = {"lr=1e-4": 46.1, "lr=3e-4": 47.0}
        path = [
            {"incumbent": last, "settings": {"lr": "3e-4"}, "tried": tried, "score": 47.0, "best": first, "best_score": 52.2},
            {"incumbent": first, "settings": {"lr": "1e-3"}, "tried": {}, "score": 53.0, "best": first, "best_score": 53.0},
        ]  # fmt: skip
        return make_result(method, ranking, path=path)
    return make_result(method, ranking)


def make_recall(slots: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """As ``recall.csv``: the winner's streams across, raw features and streams within."""
    rows: list[dict[str, Any]] = []
    one, other, *_ = names_of(slots)[0]
    both = {"audio": one, "visual": other}
    for reading, scope in product(("shares a label", "equal labels"), ("all", "other clips")):
        told = {"reading": reading, "scope": scope}
        ways = ("audio to visual", "visual to audio", "mean")
        rows += [
            {
                "kind": "across",
                "direction": way,
                **both,
                "features": "streams",
                **told,
                "recall": 22.4,
                "segments": 18490,
            }
            for way in ways
        ]
        rows += [
            {"kind": "within", "direction": f"{slot} to {slot}", "audio": "", "visual": "", slot: name, "features": "raw",
             **told, "recall": 95.125, "segments": 18490}
            for slot in ("audio", "visual") for name in slots[slot][:6]
        ]  # fmt: skip
    return rows
