"""Methods of the collocation search against a planted truth: a store per trial, in which the best pair is known.

    python benchmarks/collocation_planted.py --trials 20              # resumes: finished trials are not run again
    python benchmarks/collocation_planted.py --trials 2 --epochs 12 --methods traverse,halving --folder /tmp/quick

A trial is a seed: other clips, other features, other names for the parts. Intervals of shares are 95 % of Clopper and Pearson;
of means, ± is the standard deviation over trials.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from pipelines.collocation.asked import METHODS, Asked
from pipelines.collocation.certainty.statistics import agreement
from pipelines.collocation.planted import SCENE, Planted, plant, single_scores
from pipelines.collocation.search import search
from pipelines.collocation.training.trainer import Means
from pipelines.parsing.config import Config
from pipelines.parsing.synthetic.scenes import Scene

SETTINGS = (
    "width", "epochs", "lr", "milestones", "batch", "precision", "seeds", "train", "val", "test", "together",
    "traverse_at_once", "at_once", "folds", "lanes", "device", "threads",
)  # fmt: skip
"""All that results depend on, and times."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/collocation_planted"))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first trial")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--milestones", default="", help="comma-separated epochs, each with a tenth of the rate")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each pair")
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--val", type=int, default=300)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--together", type=float, default=0.8, help="of events, heard and seen at once; less is harder")
    parser.add_argument("--traverse-at-once", type=int, default=1, help="1: pair by pair, as it was published")
    parser.add_argument("--at-once", type=int, default=5, help="parsers in a stack, in the other methods")
    parser.add_argument("--folds", type=int, default=1, help="of val, in the decoupled method; 1: as published")
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="leave stores and searches where they are")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.methods = args.methods.split(",")
    claim(args)
    trials = []
    for seed in range(args.first, args.first + args.trials):
        trials.append(trial(args, seed))
        print(line(trials[-1]), flush=True)
    print("\n" + "\n".join(summary(trials, args.methods)))


def claim(args: argparse.Namespace) -> None:
    """One folder, one set of settings: trials of others would not be comparable."""
    told = {name: getattr(args, name) for name in SETTINGS}
    path = args.folder / "settings.json"
    if path.exists() and (there := json.loads(path.read_text())) != told:
        other = ", ".join(f"{name} {there.get(name)}" for name in SETTINGS if there.get(name) != told[name])
        raise SystemExit(f"{args.folder} holds trials with {other}; give another --folder")
    args.folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1))


def trial(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What a trial found; methods that it has not had yet are run."""
    path = args.folder / f"trial-{seed:04d}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    lacking = [method for method in args.methods if method not in found.get("methods", {})]
    if not lacking:
        return found
    work = args.folder / f"work-{seed:04d}"
    sizes = {"train": args.train, "val": args.val, "test": args.test}
    planted = plant(work / "store", seed, sizes=sizes, scene=scene(args.together))
    if not found:
        truth = {name: getattr(planted, name) for name in ("audio", "visual", "best", "best_singles")}
        truth |= {"strengths": dict(planted.strengths), "fits": dict(planted.fits)}
        found = {"seed": seed, "truth": truth, "singles": single_scores(planted), "methods": {}}
    for method in lacking:
        found["methods"][method] = told(one(method, planted, work / "search", args))
        write(path, found)
    if not args.keep:
        shutil.rmtree(work)
    return found


def scene(together: float) -> Scene:
    """The usual one, or one in which the others are as frequent among themselves as in it."""
    rest = (1 - together) / (1 - SCENE.together)
    others = {name: rest * getattr(SCENE, name) for name in ("shifted", "off_screen", "silent")}
    return SCENE if together == SCENE.together else replace(SCENE, together=together, **others)


def one(method: str, planted: Planted, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The result of a method."""
    config = Config(
        "avvp", "han", audio="", visual="", epochs=args.epochs, batch=args.batch, lr=args.lr, width=args.width,
        milestones=tuple(int(each) for each in args.milestones.split(",") if each), precision=args.precision,
    )  # fmt: skip
    names = {"audio": planted.audio, "visual": planted.visual}
    seeds = tuple(range(args.seeds))
    folds = args.folds if method == "decoupled" else 1
    asked = Asked(planted.store, folder, names, config, methods=(method,), seeds=seeds, folds=folds, diagnostics=False)
    at_once = args.traverse_at_once if method == "traverse" else args.at_once
    return search(asked, Means(lanes=args.lanes, devices=(args.device,), at_once=at_once))[method]


def told(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a result."""
    names = ("winner", "settled", "wall_s", "work_s", "trained_epochs", "estimates", "rounds", "path")
    ranking = [{name: row[name] for name in ("name", "score", "values", "test", "out")} for row in result["ranking"]]
    return {**{name: result[name] for name in names if name in result}, "ranking": ranking}


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Whole or not at all: a killed run leaves no half trial."""
    new = path.with_suffix(".tmp")
    new.write_text(json.dumps(found, indent=1))
    new.replace(path)


# ---- what is printed -------------------------------------------------------------------------------------------------


def line(found: Mapping[str, Any]) -> str:
    """One trial."""
    best = found["truth"]["best"]
    parts = [
        f"{name} {'found' if each['winner'] == best else 'took ' + each['winner']} in {each['wall_s']:.1f} s"
        for name, each in found["methods"].items()
    ]
    return f"trial {found['seed']}: planted {best}; " + "; ".join(parts)


def summary(trials: Sequence[Mapping[str, Any]], chosen: Sequence[str]) -> list[str]:
    """All trials."""
    lines = [*singles(trials)]
    if "traverse" in chosen:
        lines += ["", *margins(trials)]
    lines.append("")
    for method in chosen:
        lines += of_method(trials, method)
    if "transfer" in chosen:
        lines += ["", *estimators(trials)]
    return lines


def singles(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether the probe agrees on the strongest alone, and that the best pair is another one."""
    seen = []
    for found in trials:
        scores, truth = found["singles"], found["truth"]
        seen.append("+".join(max(truth[slot], key=scores.__getitem__) for slot in ("audio", "visual")))
    right = [pair == found["truth"]["best_singles"] for pair, found in zip(seen, trials, strict=True)]
    trap = [pair == found["truth"]["best"] for pair, found in zip(seen, trials, strict=True)]
    return [
        f"pair of the best singles by the probe is the one planted: {share(right)}",
        f"pair of the best singles by the probe is the best pair:   {share(trap)}",
    ]


def margins(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """How much each part is worth, by traversal."""
    by_part: dict[tuple[float, float, float], list[tuple[float, float]]] = {}
    behind, spread = [], []
    for found in trials:
        truth = found["truth"]
        scores = {row["name"]: row for row in found["methods"]["traverse"]["ranking"]}
        tests = {name: row["test"]["segment_type"]["mean"] for name, row in scores.items()}
        for name, row in scores.items():
            heard, seen = (truth["strengths"][each] for each in name.split("+"))
            by_part.setdefault((heard, seen, truth["fits"][name]), []).append((row["score"], tests[name]))
            spread.append(np.var(row["test"]["segment_type"]["values"], ddof=1))
        others = [(scores[name]["score"], tests[name]) for name in scores if name != truth["best"]]
        behind.append(np.array([scores[truth["best"]]["score"], tests[truth["best"]]]) - np.max(others, axis=0))
    lines = ["audio  visual  fit   Type of segments: val (best epoch)   test"]
    for (heard, seen, fit), values in sorted(by_part.items(), reverse=True):
        val, test = (mean(column) for column in zip(*values, strict=True))
        lines.append(f"{heard:<6g} {seen:<7g} {fit:<5.2f} {val:<36} {test}")
    for name, column in zip(("val", "test"), np.transpose(behind), strict=True):
        lines.append(f"best less the second best, {name}: {mean(column)}, least {min(column):.2f}")
    lines.append(f"standard deviation over the seeds of a pair, test: {np.sqrt(np.mean(spread)):.2f}")
    return lines


def of_method(trials: Sequence[Mapping[str, Any]], method: str) -> list[str]:
    """How often it is right, how well it ranks, what it costs."""
    mine = [found["methods"][method] for found in trials]
    hits = [each["winner"] == found["truth"]["best"] for each, found in zip(mine, trials, strict=True)]
    lines = [f"{method}: finds the planted pair {share(hits)}"]
    cost = f"  {mean([each['trained_epochs'] for each in mine])} epochs, {mean([each['wall_s'] for each in mine])} s"
    if method != "traverse" and all("traverse" in found["methods"] for found in trials):
        full = [found["methods"]["traverse"] for found in trials]
        same = [each["winner"] == other["winner"] for each, other in zip(mine, full, strict=True)]
        taus = [agreement(ranks(each), scores(other)).tau for each, other in zip(mine, full, strict=True)]
        times = [other["wall_s"] / each["wall_s"] for each, other in zip(mine, full, strict=True)]
        lines.append(f"  winner of traverse {share(same)}; Kendall's tau to it {mean(taus)}")
        cost += f", traverse takes {np.median(times):.1f} times as long ({min(times):.1f} to {max(times):.1f})"
    lines.append(cost)
    if any(each["settled"] is not None for each in mine):
        sure = [hit for hit, each in zip(hits, mine, strict=True) if each["settled"]]
        lines.append(
            f"  says that it is settled in {len(sure)} of {len(mine)}" + (f", right {share(sure)}" if sure else "")
        )
    return lines


def estimators(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of transfer: the pair with the highest value, alone at the top."""
    lines = []
    for name in next(iter(trials[0]["methods"]["transfer"]["estimates"].values())):
        values = [
            {pair: each[name] for pair, each in found["methods"]["transfer"]["estimates"].items()} for found in trials
        ]
        best = [{pair: float(pair == found["truth"]["best"]) for pair in found["truth"]["fits"]} for found in trials]
        hits = [agreement(each, one).same_winner for each, one in zip(values, best, strict=True)]
        text = f"{name:<24} highest for the planted pair {share(hits)}"
        if all("traverse" in found["methods"] for found in trials):
            full = [scores(found["methods"]["traverse"]) for found in trials]
            text += f"; tau to traverse {mean([agreement(*each).tau for each in zip(values, full, strict=True)])}"
        lines.append(text)
    return lines


def ranks(result: Mapping[str, Any]) -> dict[str, float]:
    """Higher is better: scores of methods that stop early are not of the same epoch."""
    return {row["name"]: -float(place) for place, row in enumerate(result["ranking"])}


def scores(result: Mapping[str, Any]) -> dict[str, float]:
    return {row["name"]: row["score"] for row in result["ranking"]}


def share(hits: Sequence[bool]) -> str:
    """So many of so many, with an interval."""
    interval = binomtest(sum(hits), len(hits)).proportion_ci(0.95)
    return f"{sum(hits)} of {len(hits)} ({100 * interval.low:.0f} to {100 * interval.high:.0f} %)"


def mean(values: Sequence[float]) -> str:
    """With the standard deviation, where there are two or more."""
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


if __name__ == "__main__":
    main()
