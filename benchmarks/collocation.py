"""How much faster than trying every pair by hand: python benchmarks/collocation.py

2 audio x 5 visual networks (stand-ins of the paper's, with their real numbers per second), 3 seeds, on synthetic LLP. The
baseline is `extract parse train` for each pair and seed, one after the other. Each method then searches the same pairs in a
folder of its own, reading of the store included. CPU time is told as well, which another process at work hardly touches; it
means something with one lane only. Whatever was measured is kept in times.json; delete the folder to measure anew.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from backbones import registry
from extract.store import Store
from pipelines.collocation.search import METHODS, Asked, search
from pipelines.collocation.statistics import agreement
from pipelines.collocation.trainer import Means
from pipelines.parsing.commands.options import make_config
from pipelines.parsing.run import run
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.stand_ins import StandIn

# strength, and share of classes confused as the other modality confuses them
AUDIO = {"vggish": (4.0, 1.0), "openl3_audio_mel256_env_512": (3.2, 1.0)}
VISUAL = {
    "resnet152": (3.6, 0.5),
    "vgg19_bn": (4.0, 0.0),
    "senet154": (4.2, 0.75),
    "polynet": (4.4, 1.0),
    "openl3_image_mel256_env_512": (3.0, 0.25),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/collocation_bench"))
    parser.add_argument(
        "--clips", type=int, default=2000, help="in LLP's proportions: 84 % train, 5.5 % val, 10 % test"
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--methods", default=",".join(("baseline", *METHODS)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    store = args.folder / f"store-{args.clips}"
    make_synthetic(
        store,
        clips=args.clips,
        audio=[stand_in(name, "audio", *each) for name, each in AUDIO.items()],
        visual=[stand_in(name, "visual", *each) for name, each in VISUAL.items()],
        clip="",
    )
    path = args.folder / "times.json"
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for method in args.methods.split(","):
        if method not in told:
            told[method] = baseline(args, store, told, path) if method == "baseline" else by_search(args, store, method)
            path.write_text(json.dumps(told, indent=1))
        report(told, method)


def stand_in(name: str, modality: Any, strength: float, shared: float) -> StandIn:
    """With the numbers per second of the network it stands for."""
    return StandIn(name, modality, registry.get(name).dims, strength, shared, 1.0)


def config_of(args: argparse.Namespace, **more: Any) -> Any:
    """The published settings of HAN; its rate drops at the same shares of the epochs."""
    steps = "+".join(str(round(args.epochs * share)) for share in (0.25, 0.5, 0.75))
    given = {"epochs": args.epochs, "precision": args.precision, "settings": (f"milestones={steps}",)}
    return make_config("avvp", more.get("audio", ""), more.get("visual", ""), "", more.get("seed", 0), **given)


def baseline(args: argparse.Namespace, store: Path, told: dict[str, Any], path: Path) -> dict[str, Any]:
    """Every pair and seed by itself; each is kept as soon as it is there."""
    some = told.setdefault("runs", {})
    Store(store)
    for seed in range(args.seeds):
        for audio in AUDIO:
            for visual in VISUAL:
                name = f"{audio}+{visual} {seed}"
                if name in some:
                    continue
                folder = args.folder / "runs" / name.replace(" ", "-")
                start, cpu = time.monotonic(), time.process_time()
                ran = run(config_of(args, audio=audio, visual=visual, seed=seed), store, folder)
                took = {"s": time.monotonic() - start, "cpu_s": time.process_time() - cpu}
                some[name] = {**took, **{split: ran.scores[split]["segment_type"] for split in ("val", "test")}}
                (folder / "resume.safetensors").unlink()
                path.write_text(json.dumps(told, indent=1))
                print(name, some[name], flush=True)
    scores: dict[str, float] = {}
    for name, each in some.items():
        pair = name.partition(" ")[0]
        # val of the chosen epoch is what traversal ranks by
        scores[pair] = scores.get(pair, 0.0) + each["val"] / args.seeds
    return {
        "wall_s": sum(each["s"] for each in some.values()),
        "scores": scores,
        "winner": max(scores, key=scores.__getitem__),
    }


def by_search(args: argparse.Namespace, store: Path, method: str) -> dict[str, Any]:
    """One method in a fresh folder."""
    asked = Asked(
        store, args.folder / "search" / method, {"audio": tuple(AUDIO), "visual": tuple(VISUAL)}, config_of(args),
        methods=(method,), seeds=tuple(range(args.seeds)), diagnostics=False,
    )  # fmt: skip
    start, cpu = time.monotonic(), time.process_time()
    found = search(asked, Means(lanes=args.lanes))[method]
    took = {"wall_s": time.monotonic() - start, "cpu_s": time.process_time() - cpu}
    scores = {row["name"]: row["score"] for row in found["ranking"]}
    kept = ("winner", "verdict", "settled", "trained_epochs", "work_s")
    return {**took, "method_s": found["wall_s"], "scores": scores, **{name: found[name] for name in kept}}


def report(told: dict[str, Any], method: str) -> None:
    """A line per method."""
    each = told[method]
    line = f"{method:<10} {each['wall_s']:9.1f} s  winner {each['winner']}"
    for against in ("baseline", "traverse"):
        if against in told and against != method:
            found = agreement(each["scores"], told[against]["scores"])
            ratio = told[against]["wall_s"] / each["wall_s"]
            same = "same winner" if each["winner"] == told[against]["winner"] else "another winner"
            cpu = told[against]["cpu_s"] / each["cpu_s"]
            line += f"  | {against}: {ratio:.2f} times faster ({cpu:.2f} in CPU time), tau {found.tau:.2f}, {same}"
    print(line, flush=True)
    if "verdict" in each:
        print(f"{'':<10} {each['verdict']} ({each['trained_epochs']} epochs)", flush=True)


if __name__ == "__main__":
    main()
