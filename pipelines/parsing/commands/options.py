"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.errors import PlanError

if TYPE_CHECKING:
    from pipelines.parsing.config import Config

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
DEFAULT_MODEL = {"avvp": "han", "ave": "avel"}
DEFAULT_KEYS = {"avvp": ("vggish", "resnet152"), "ave": ("vggish", "vgg19_ave")}

device = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cpu or cuda; auto takes CUDA where it is.",
)


def _all(options: list[Any]) -> Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


features = _all(
    [
        click.option("--store", type=click.Path(path_type=Path), required=True, help="The features."),
        click.option("--task", type=click.Choice(["avvp", "ave"]), default="avvp", show_default=True),
        click.option("--audio", default="", help="Key or backbone; default: vggish."),
        click.option("--visual", default="", help="Key or backbone; default: resnet152, for ave vgg19_ave."),
        click.option("--clip", default="", help="Key or backbone of a clip-level stream (avvp), such as r2plus1d_18."),
    ]
)
learning = _all(
    [
        click.option("--model", default="", help="avvp: han, jomold; ave: avel, dmrn, psp. Default: the first."),
        click.option("--supervision", type=click.Choice(["weak", "full"]), help="Labels of clips, or of seconds (ave)."),
        click.option("--loss", type=click.Choice(["mil", "mtsm"]), help="mtsm adds the max-margin losses to HAN's."),
        click.option("--augment", type=click.Choice(["cross_instance"]), help="Splice and swap clips without a common label."),
        click.option("--classes", type=click.Choice(["official", "manifest"]), help="LLP's or AVE's, or the manifest's labels."),
        click.option("--init", help="A run or checkpoint whose weights to begin with, as far as they fit; dmrn: one of avel."),
        click.option("--select", type=click.Choice(["val", "test", "last"]), help="Whose scores choose the epoch; default: val."),
        click.option("--epochs", type=click.IntRange(min=1), help="Default: as published; so are milestones (drops of lr)."),
        click.option("--lr", type=float, help="Default: as published for the model."),
        click.option("--batch", type=click.IntRange(min=1), help="Default: as published for the model."),
        click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="Arithmetic; default: float32."),
        click.option("--patience", type=click.IntRange(min=0), help="Stop after so many epochs without a better one; 0: never."),
        click.option("--gate", help="How clip-level probabilities gate those of seconds: global, per_modality, none."),
        click.option(
            "--set", "settings", multiple=True, metavar="NAME=VALUE",
            help="Any other setting, such as heads=2, encoder_compat=chained, milestones=80+120, mtsm.t_exp=2; may be repeated.",
        ),
    ]
)  # fmt: skip


def make_config(task: str, audio: str, visual: str, clip: str, seed: int = 0, **given: Any) -> Config:
    """The published settings of a model with what was given on the command line in their place."""
    from pipelines.parsing.config import Config
    from pipelines.parsing.presets import changed, published

    model = given.pop("model", "") or DEFAULT_MODEL[task]
    settings = read_settings(given.pop("settings", ()))
    chosen = {name: value for name, value in given.items() if value is not None}
    supervision = chosen.pop("supervision", "full" if model == "dmrn" else "weak")
    own_audio, own_visual = DEFAULT_KEYS[task]
    values: dict[str, Any] = {
        "task": task,
        "model": model,
        "supervision": supervision,
        "audio": audio or own_audio,
        "visual": visual or own_visual,
        "clip": clip,
        "seed": seed,
        **published(model, supervision, chosen.get("augment", "")),
        **chosen,
    }
    return changed(Config(**values), settings)


def read_settings(texts: tuple[str, ...], option: str = "--set") -> dict[str, str]:
    """``NAME=VALUE`` texts as a dict.

    Raises
    ------
    PlanError
        one is of another form, or names a setting again
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise PlanError(f"{option} {text!r} must be NAME=VALUE, such as heads=2")
        if name in found:
            raise PlanError(f"{option} gives {name} twice; give it once")
        found[name] = value
    return found
