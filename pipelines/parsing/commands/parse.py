"""``extract parse``: the group; a subcommand's file is imported when it is used."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "train": "Train a parser on a store, and score it.",
    "evaluate": "Score a trained parser, or a published checkpoint, on a store.",
    "predict": "What happens when in a video that is in no store.",
    "sweep": "Train with every combination of some settings.",
    "report": "Draw the page of a run again.",
    "synthetic": "Make a store of generated features with labels.",
}


class _Late(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"pipelines.parsing.commands.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Late)
def parse() -> None:
    """Parsers that the features feed: which events of a clip are heard, which are seen, and when.

    \b
    extract parse synthetic -o features/synthetic        # or a real store
    extract parse train --store features/synthetic --audio vggish --visual resnet152 -o runs/han
    """  # noqa: D301 - click's paragraph mark
