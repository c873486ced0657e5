"""Run folders as ``extract parse train`` leaves them, with generated numbers; made once per session by page tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manifests import ave, llp
from manifests.dense import Event, write_dense
from pipelines.parsing import metrics

T = 10
EVIL = "</svg></title><script>alert('x\"&')</script><img src=https://evil.example/x onerror=alert(1)>"


def clip_id(i: int) -> str:
    return f"{'-_' if i % 7 == 0 else 'vi'}d{i:08d}_{i}_{i + T}"


def make_events(
    rng: np.random.Generator, ids: Sequence[str], classes: Sequence[str], modalities: Sequence[str]
) -> list[Event]:
    found = []
    for each in ids:
        names = rng.choice(classes, rng.integers(1, 4), replace=False).tolist()
        for name in names:
            for modality in modalities:
                if len(modalities) == 1 or rng.random() < 0.75:
                    start = int(rng.integers(0, T - 1))
                    found.append(Event(each, modality, start, int(rng.integers(start + 1, T + 1)), name))  # type: ignore[arg-type]
            if len(modalities) == 1:
                break
    return found


def make_avvp(
    folder: Path, *, clips: int = 60, of: int = 0, classes: Sequence[str] = llp.LABELS, ids: Sequence[str] = (), seed: int = 0,
    **config: Any,
) -> Path:  # fmt: skip
    """A run of HAN with every file, and a store whose labels with times lie beside it."""
    rng = np.random.default_rng(seed)
    ids = ids or [clip_id(i) for i in range(clips)]
    events = make_events(rng, ids, classes, ("audio", "visual"))
    truth = metrics.truth_of(events, ids, classes, T)
    noise = rng.uniform(0.02, 0.75, (len(ids), 1, 1))
    frames = [np.clip(x * 0.8 + 0.1 + rng.normal(0, noise, x.shape), 0, 1) for x in (truth.audio, truth.visual)]
    frame = np.stack(frames, axis=2).astype(np.float16)
    there = np.maximum(truth.audio, truth.visual).max(axis=1)
    clip = np.clip(there * 0.9 + rng.normal(0, 0.1, there.shape) * there, 0, 1).astype(np.float16)
    folder.mkdir(parents=True)
    store = folder.parent / f"{folder.name}-store"
    store.mkdir()
    write_dense(store / "manifest.dense.csv", events)
    np.savez(folder / "predictions_test.npz", ids=np.array(ids), frame=frame, video=clip, audio=clip, visual=clip)
    predicted = metrics.binarise(metrics.Probabilities(frame, clip, clip, clip))
    scores: dict[str, Any] = metrics.score(predicted, truth).as_dict()
    facts = {
        "clips": len(ids), "of": of or len(ids), "labels": "not an official set (0123456789ab: 9 events of 9 clips)",
        "gate": "global", "selection": "best epoch on the validation split", "epoch": 13, "epochs": 20,
    }  # fmt: skip
    inside = {
        "interference": {"a_fp_vo": 70.1, "a_fp_vo_clips": 55, "v_leak_a": 12.5, "v_leak_a_clips": 9, "of": len(ids)},
        "non_identical": {"clips": 30, **scores},
    }
    val = {name: value - 1 for name, value in scores.items()}
    write_json(folder / "scores.json", {"val": {**val, **facts}, "test": {**scores, **facts, **inside}})
    write_rows(folder / "classes.csv", [each._asdict() for each in metrics.per_class(predicted, truth, classes)])
    write_rows(folder / "log.csv", log_rows(rng, 20))
    options = {"task": "avvp", "model": "han", "gate": "global", "select": "val", "loss": "mil", "mtsm": {"t_exp": 3.0}}
    told = {
        "task": "avvp", "model": "han", "supervision": "weak", "seed": seed, "classes": list(classes), "store": str(store),
        "keys": {"audio": "vggish@0123456789ab", "visual": "resnet152@ba9876543210"},
        "infos": {
            "audio": {"identity": '{"backbone":"vggish"}', "view": '{"rate_hz":16000}', "weights": "sha256:00", "dims": [128]},
            "visual": {"identity": '{"backbone":"resnet152"}', "view": "{}", "weights": "random:0", "dims": [2048]},
        },
        "seconds": T, "clips": {"train": [100, 100], "test": [len(ids), of or len(ids)]}, "labels": facts["labels"],
        "selection": facts["selection"], "config": options, "versions": {"python": "3.12", "torch": "2.11"}, **config,
    }  # fmt: skip
    write_json(folder / "config.json", told)
    return folder


def make_ave(folder: Path, *, clips: int = 12) -> Path:
    """A run of weakly supervised PSP."""
    rng = np.random.default_rng(1)
    classes = [*ave.LABELS, "Background"]
    ids = [clip_id(i) for i in range(clips)]
    events = make_events(rng, ids, ave.LABELS, ("both",))
    truth = metrics.truth_of(events, ids, ave.LABELS, T).audio
    score = np.concatenate([truth, 1 - truth.max(axis=2, keepdims=True)], axis=2) + rng.normal(0, 0.45, (clips, T, 29))
    folder.mkdir(parents=True)
    store = folder.parent / f"{folder.name}-store"
    store.mkdir()
    write_dense(store / "manifest.dense.csv", events)
    np.savez(folder / "predictions_test.npz", ids=np.array(ids), score=score.astype(np.float16))
    number = np.where(truth.any(axis=2), truth.argmax(axis=2), 28)
    value = metrics.accuracy(score.astype(np.float16).argmax(axis=2), number)
    facts = {
        "clips": clips,
        "of": clips,
        "selection": "TEST-SELECTED: best epoch on the test split",
        "labels": "official (AVE)",
    }
    write_json(folder / "scores.json", {"test": {"accuracy": value, **facts}})
    write_rows(
        folder / "classes.csv", [{"class": name, "seconds": 10, "recall": 50.0, "precision": ""} for name in classes]
    )
    rows = [{"epoch": i, "kind": "plain", "lr": 1e-3, "loss": 1 / (i + 1), "test_accuracy": 50 + i} for i in range(9)]
    write_rows(folder / "log.csv", rows)
    options = {"model": "psp", "select": "test", "supervision": "weak"}
    told = {
        "task": "ave",
        "model": "psp",
        "supervision": "weak",
        "seed": 0,
        "classes": classes,
        "store": str(store),
        "config": options,
    }
    write_json(folder / "config.json", told)
    return folder


def make_seeds(folder: Path) -> Path:
    """Three seeds of HAN."""
    folder.mkdir()
    for seed in range(3):
        make_avvp(folder / f"seed-{seed}", clips=5, seed=seed)
    scores = [json.loads((folder / f"seed-{seed}" / "scores.json").read_text()) for seed in range(3)]
    told: dict[str, Any] = {"seeds": [0, 1, 2]}
    for split in ("val", "test"):
        for name in metrics_of(scores[0][split]):
            values = [each[split][name] for each in scores]
            told.setdefault(split, {})[name] = {
                "mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "values": values
            }  # fmt: skip
    write_json(folder / "seeds.json", told)
    return folder


def metrics_of(told: dict[str, Any]) -> list[str]:
    return [name for name, value in told.items() if isinstance(value, float)]


def log_rows(rng: np.random.Generator, epochs: int) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(epochs):
        kind = ("plain", "plain", "modality", "temporal")[epoch % 4]
        parts = {
            "plain": ("audio", "visual", "video"),
            "modality": ("audio", "visual"),
            "temporal": ("first", "second"),
        }[kind]
        losses = {
            f"loss_{part}": float(0.2 + np.exp(-epoch / 6) * (1 + i / 3) + rng.normal(0, 0.02))
            for i, part in enumerate(parts)
        }
        level = 60 * (1 - np.exp(-(epoch + 2) / 5))
        watched = {}
        for i, start in enumerate(("segment", "event")):
            a, v, av = (level - 6 * i - 5 * j + rng.normal(0, 1) for j in range(3))
            parts_of = {"audio": a, "visual": v, "audio_visual": av, "type": (a + v + av) / 3, "event": level - 5 * i}
            watched |= {f"val_{start}_{name}": float(value) for name, value in parts_of.items()}
        rows.append({
            "epoch": epoch, "kind": kind, "lr": 3e-4 * 0.1 ** (epoch // 10), "loss": sum(losses.values()), **losses,
            "train_s": 1.25, **watched, "val_s": 0.1,
        })  # fmt: skip
    return rows


def write_json(path: Path, told: dict[str, Any]) -> None:
    path.write_text(json.dumps(told))


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)


__all__ = ["EVIL", "make_ave", "make_avvp", "make_seeds"]
