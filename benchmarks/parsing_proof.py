"""What the parsers learn on synthetic LLP and AVE, where the truth is known: seeds, means and confidence intervals.

    python benchmarks/parsing_proof.py                       # everything; resumes: finished runs are not made again
    python benchmarks/parsing_proof.py --only han,han_mtsm --seeds 3 --epochs 12

Intervals are 95 % of Student's t over seeds; differences are paired by seed. One synthetic set, so seeds vary weights, order and
dropout, not the clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.parsing import metrics
from pipelines.parsing.commands.options import make_config
from pipelines.parsing.config import Config
from pipelines.parsing.loaded import load
from pipelines.parsing.metrics import Parse
from pipelines.parsing.run import run
from pipelines.parsing.synthetic.make import make_synthetic

AVVP: dict[str, dict[str, Any]] = {
    "han": {},
    "han_mtsm": {"loss": "mtsm"},
    "han_mtsm_detach_z": {"loss": "mtsm", "settings": ("mtsm.l2_detach=z",)},
    "han_cross": {"augment": "cross_instance"},
    "han_mtsm_cross": {"loss": "mtsm", "augment": "cross_instance"},
    "han_64": {"batch": 64, "lr": 5e-4},  # what jomold is to be compared with: its batches and rate
    "jomold": {"model": "jomold", "batch": 64, "lr": 5e-4, "gate": "global"},
}
AVE: dict[str, dict[str, Any]] = {
    "avel_weak": {"model": "avel"},
    "avel_weak_cross": {"model": "avel", "augment": "cross_instance"},
    "avel_full": {"model": "avel", "supervision": "full"},
    "dmrn_full": {"model": "dmrn", "supervision": "full"},  # begins with the weights of avel_full, as published
    "psp_weak": {"model": "psp"},
    "psp_weak_cross": {"model": "psp", "augment": "cross_instance"},
    "psp_full": {"model": "psp", "supervision": "full"},
}
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
SHOWN = ("segment_type", "segment_event", "event_type", "event_event", "a_fp_vo", "v_fp_ao", "a_leak_v", "v_leak_a")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/parsing_proof"))
    parser.add_argument("--clips", type=int, default=1600)
    parser.add_argument("--ave-clips", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--ave-epochs", type=int, default=30)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--only", default="")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = [name for name in args.only.split(",") if name] or [*AVVP, *AVE]
    found: dict[str, list[dict[str, float]]] = {}
    for task, conditions in (("avvp", AVVP), ("ave", AVE)):
        names = [name for name in conditions if name in chosen]
        if not names:
            continue
        store = args.folder / task
        size = args.clips if task == "avvp" else args.ave_clips
        make_synthetic(store, task, clips=size, rows_per_second=1) if task == "avvp" else make_synthetic(
            store, task, clips=size
        )
        base = {"task": task, "audio": "", "visual": "", "clip": "r2plus1d_18" if task == "avvp" else ""}
        trivial(store, base)
        for name in names:
            for seed in range(args.seeds):
                found.setdefault(name, []).append(one(args, store, base, name, seed))
            print(line(name, found[name], found.get("han") if task == "avvp" else None), flush=True)
    out = args.folder / "proof.json"
    before = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(before | found, indent=1))
    print(f"numbers in {out}")


def where(args: argparse.Namespace, base: dict[str, Any], name: str, seed: int) -> tuple[Config, Path]:
    """The configuration of a run and its folder."""
    more = (AVVP | AVE)[name]
    epochs = args.epochs if base["task"] == "avvp" else args.ave_epochs
    # one schedule for all, so that only the method differs: the published rate of the plain HAN, a drop after two thirds
    settings = (*more.get("settings", ()), f"milestones={2 * epochs // 3}")
    same = {"lr": 3e-4, "batch": 16} if base["task"] == "avvp" else {"lr": 1e-3, "batch": 64}
    if name == "jomold":
        settings += (f"denoising.estimator_epochs={epochs}", "denoising.estimator_batch=64")
    begun = {"init": str(where(args, base, "avel_full", seed)[1])} if name == "dmrn_full" else {}
    asked = {**base, **same, **more, **begun, "seed": seed, "epochs": epochs, "precision": args.precision}
    config = make_config(**asked | {"settings": settings})
    return config, args.folder / "runs" / f"{name}-{config.digest()}"


def one(args: argparse.Namespace, store: Path, base: dict[str, Any], name: str, seed: int) -> dict[str, float]:
    """Test scores and interference of one run."""
    config, folder = where(args, base, name, seed)
    if config.init:
        one(args, store, base, "avel_full", seed)
    path = folder / "scores.json"
    if not path.exists():
        run(config, store, folder)
        (folder / "resume.safetensors").unlink()
    test = json.loads(path.read_text())["test"]
    leaks = test.get("interference", {})
    return {key: value for key, value in {**test, **leaks}.items() if isinstance(value, float)}


def trivial(store: Path, base: dict[str, Any]) -> None:
    """What needs no learning."""
    config = make_config(**base)
    split = load(config, store, ["test"]).splits["test"]
    if split.truth is None:
        assert split.event is not None
        truth = split.event.numpy()
        background = len(split.weak[0]) - 1
        print(
            f"trivial: background everywhere: accuracy {metrics.accuracy(np.full_like(truth, background), truth):.2f}"
        )
        return
    nothing = np.zeros_like(split.truth.audio)
    speech = nothing.copy()
    speech[:, :, 0] = 1
    for what, parse in (("nothing", Parse(nothing, nothing)), ("Speech heard everywhere", Parse(speech, nothing))):
        scores = metrics.score(parse, split.truth)
        print(f"trivial: {what}: Type {scores.segment.type:.2f} | {scores.event.type:.2f}, "
              f"Event {scores.segment.event:.2f} | {scores.event.event:.2f}")  # fmt: skip


def line(name: str, runs: list[dict[str, float]], base: list[dict[str, float]] | None) -> str:
    """Mean ± half of the interval, and the paired difference to the plain network where it is not the same."""
    names = SHOWN if "segment_type" in runs[0] else ("accuracy",)
    parts = []
    for key in names:
        values = np.array([run[key] for run in runs])
        text = f"{key} {values.mean():.2f} ± {half(values):.2f}"
        if base and base is not runs and len(base) == len(runs):
            gap = values - np.array([run[key] for run in base])
            text += f" ({gap.mean():+.2f} ± {half(gap):.2f})"
        parts.append(text)
    return f"{name:<18} " + "; ".join(parts)


def half(values: np.ndarray) -> float:
    """Half of the 95 % interval of a mean."""
    n = len(values)
    return float("nan") if n < 2 else T95.get(n, 2.0) * float(values.std(ddof=1)) / n**0.5


if __name__ == "__main__":
    main()
