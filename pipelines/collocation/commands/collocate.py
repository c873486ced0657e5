"""``extract collocate``: which audio backbone goes best with which visual one."""

from __future__ import annotations

import importlib
import json
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.errors import PlanError
from pipelines.parsing.commands.options import device, learning, make_config, read_settings

if TYPE_CHECKING:
    from pipelines.parsing.config import Config

METHODS = ("traverse", "decoupled", "halving", "transfer")
_OPTIONS = ("model", "supervision", "loss", "augment", "classes", "epochs", "lr", "batch", "precision", "gate")
"""Settings for which `extract parse train` has an option."""


class _Late(click.Group):
    """Its one subcommand is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["report"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "report":
            return None
        command = importlib.import_module("pipelines.collocation.commands.report").report
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Late, invoke_without_command=True)
@click.option("--store", type=click.Path(path_type=Path), help="The features.")
@click.option("--task", type=click.Choice(["avvp", "ave"]), default="avvp", show_default=True)
@click.option("--audio", default="", metavar="A,B", help="Keys or backbones, comma-separated.")
@click.option("--visual", default="", metavar="C,D", help="Keys or backbones, comma-separated.")
@click.option("--clip", default="", metavar="E,F", help="A third slot (avvp): one for all, or several to choose from.")
@click.option(
    "--method",
    default="halving",
    show_default=True,
    metavar="M,N",
    help=f"{', '.join(METHODS)}; several are done one after the other and compared.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings of each collocation."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first.")
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=V1,V2",
    help="Settings that decoupled tries for an incumbent; may be repeated. Default: lr=1e-4,3e-4,1e-3.",
)
@click.option(
    "--folds", type=click.IntRange(min=1), default=1, show_default=True,
    help="Decoupled: 1 trains and scores on the same clips of val, as the paper; 2 or more score those left out.",
)  # fmt: skip
@click.option("--start", default="", metavar="A+C", help="Where decoupled starts; default: the first collocation.")
@click.option(
    "--train-classes",
    default="",
    metavar="20,15,10",
    help="Traverse again with the first so many classes in training clips (the paper's Fig. 6).",
)
@click.option("--by", default="", metavar="ESTIMATOR", help="What transfer ranks by; default: logme_clips.")
@click.option("--confidence", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True, help="Of intervals.")
@click.option(
    "--budget",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of a traversal's epochs that halving may train; default: 1/12.",
)
@click.option("--lanes", type=click.IntRange(min=1), help="Trainings side by side; default: 1, or one per GPU.")
@click.option(
    "--at-once", type=click.IntRange(min=1), help="Parsers a lane trains as one stack; default: 5, on CUDA 32."
)
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where lanes are."
)
@learning
@device
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the search; given again, it goes on.")
@click.pass_context
def collocate(ctx: click.Context, /, **options: Any) -> None:
    """Which audio backbone goes best with which visual one: rank all pairs, and say how sure that is and what it cost.

    \b
    extract collocate --store features/llp --audio vggish,openl3_audio_mel256_env_512 \\
        --visual resnet152,vgg19_bn,senet154,polynet --clip r2plus1d_18 -o runs/colloc
    extract collocate report runs/colloc                         # draws again, trains nothing

    \b
    traverse   trains every pair in full: the truth, and slow
    halving    trains all a little, and only the best longer, until chance does not explain the winner
    decoupled  the paper's: settings of one pair on train, all pairs on val (Algorithm 1)
    transfer   trains nothing: LogME, H-score, CKA and cos psi of the features; a guess

    Ctrl-C stops after an epoch; the same command goes on.
    """  # noqa: D301 - click's paragraph mark
    if ctx.invoked_subcommand is not None:
        return
    for name in ("store", "out"):
        if options[name] is None:
            raise PlanError(f"--{name} is missing; `extract collocate --help` shows a whole command")
    _search(**options)


def _search(
    store: Path,
    out: Path,
    task: str,
    audio: str,
    visual: str,
    clip: str,
    method: str,
    seeds: int,
    seed: int,
    grid: tuple[str, ...],
    folds: int,
    start: str,
    train_classes: str,
    by: str,
    confidence: float,
    budget: float | None,
    lanes: int | None,
    at_once: int | None,
    engine: str,
    device: str,
    **settings: Any,
) -> None:
    from pipelines.collocation.asked import BUDGET, GRID, Asked
    from pipelines.collocation.report.page import write_report
    from pipelines.collocation.report.words import shown
    from pipelines.collocation.search import search
    from pipelines.collocation.training.trainer import Stopped

    names = {"audio": _names(audio, "--audio"), "visual": _names(visual, "--visual"), "clip": _names(clip, "--clip")}
    for slot in ("audio", "visual"):
        if not names[slot]:
            raise PlanError(
                f"--{slot} is missing; name at least one backbone of the store, such as --{slot} vggish,..."
            )
    config = make_config(task, "", "", "", **settings)
    tried = {name: tuple(text.split(",")) for name, text in read_settings(grid, "--grid").items()}
    asked = Asked(
        store, out, names, config,
        methods=_names(method, "--method"),
        seeds=tuple(range(seed, seed + seeds)),
        grid=tried or GRID,
        folds=folds,
        start=start,
        train_classes=_counts(train_classes),
        by=by,
        confidence=confidence,
        budget=budget or BUDGET,
    )  # fmt: skip
    stops: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: stops.append(number) if not stops else sys.exit(130))
    try:
        found = search(
            asked,
            _means(device, lanes, at_once, engine, lambda: bool(stops)),
            on_row=_say,
            on_result=lambda result: click.echo(f"{result['method']}: {result['verdict']}"),
        )
    except Stopped:
        click.echo("stopped; the same command goes on")
        return
    finally:
        signal.signal(signal.SIGINT, before)
    click.echo(shown(out))
    click.echo(_next(found, asked))
    click.echo(f"page {write_report(out)}")


def _means(device: str, lanes: int | None, at_once: int | None, engine: str, stopping: Any) -> Any:
    import torch

    from pipelines.collocation.training.trainer import Means
    from pipelines.parsing.networks import device_of

    found = device_of(device) if engine == "local" else ("cpu" if device == "auto" else device)
    cuda = found.startswith("cuda")
    every = (
        [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        if found == "cuda" and engine == "local"
        else [found]
    )
    return Means(lanes or len(every), tuple(every), engine, None, at_once or (32 if cuda else 5), stopping)


def _names(text: str, option: str) -> tuple[str, ...]:
    """Comma-separated names, each once."""
    found = tuple(name for name in text.split(",") if name)
    if len(set(found)) < len(found):
        raise PlanError(f"{option} {text!r} names something twice; name each once")
    return found


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(",") if each)
    except ValueError:
        raise PlanError(f"--train-classes {text!r} must be numbers of classes, such as 20,15,10") from None


def _say(row: Mapping[str, Any]) -> None:
    """One line per row on a terminal's standard error."""
    if sys.stderr.isatty():
        score = next((f"  {name} {row[name]:.2f}" for name in row if name.startswith("val_") and name != "val_s"), "")
        click.echo(
            f"{row['collocation']} seed {row['seed']} epoch {row['epoch']:>3}  loss {row['loss']:.4f}{score}", err=True
        )


def _next(found: Mapping[str, Mapping[str, Any]], asked: Any) -> str:
    """The command that trains the winner."""
    result = next(found[name] for name in METHODS if name in found)
    best = result["ranking"][0]
    keys = json.loads((asked.out / "collocate.json").read_text("utf-8"))["keys"]
    words = ["extract", "parse", "train", "--store", str(asked.store), "--task", asked.config.task]
    for slot, given in asked.names.items():
        # a backbone's name that was not given may stand for several keys of the store
        words += [f"--{slot}", best[slot] if best[slot] in given else keys[best[slot]]] if best[slot] else []
    for name, text in _settings(asked.config, result).items():
        words += [f"--{name}", text] if name in _OPTIONS else ["--set", f"{name}={text}"]
    return f"next: {shlex.join([*words, '-o', 'runs/' + best['name']])}"


def _settings(config: Config, result: Mapping[str, Any]) -> dict[str, str]:
    """What the winner is to be trained with, as far as it is not published of the model."""
    from pipelines.parsing.presets import changed, changes

    own = changed(config, result["path"][-1]["settings"] if "path" in result else {})
    chosen = {name: getattr(own, name) for name in ("model", "supervision", "augment")}
    published = make_config(own.task, own.audio, own.visual, own.clip, own.seed, **chosen)
    default = make_config(own.task, own.audio, own.visual, own.clip, own.seed)
    named = {name: value for name, value in chosen.items() if value != getattr(default, name)}
    return named | changes(own, published)
