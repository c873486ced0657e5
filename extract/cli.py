"""The command ``extract``. Each subcommand lives in its own file of extract/commands and is imported when it is used."""

from __future__ import annotations

import importlib
import keyword
import logging
import os
import sys
from typing import NoReturn

import click

from extract.errors import ExtractError

COMMANDS = {
    "manifest": "Make a manifest: llp, ave, audioset, folder.",
    "plan": "Show what a run would compute; nothing is.",
    "run": "Decode once, run every backbone, seal the rows; run again to resume.",
    "status": "How a store stands: coverage, failures by reason.",
    "retry": "Compute again what failed for a reason.",
    "verify": "Read a store and report everything that is wrong with it.",
    "export": "Write a store as files that official and popular code reads.",
    "import": "Bring features released by others into a store.",
    "compare": "Do the features of two stores match: cosine, differences, worst clips.",
    "report": "One page that shows a store at a glance.",
    "store": "Pack, merge, split, convert, view a store; remove from it.",
    "parse": "Train and use parsers on a store: which events, when, heard or seen.",
    "collocate": "Which audio backbone goes best with which visual one.",
    "backbones": "The zoo: list, show, fetch, check.",
    "recipes": "What a dataset needs, by name.",
    "demo": "Make a small labelled set of clips here; no download.",
    "bench": "Speed of each stage against the floor, on this machine.",
}
_ABOVE = {
    "parse": "pipelines.parsing.commands.parse",
    "collocate": "pipelines.collocation.commands.collocate",
}
"""Commands of packages that lie above this one."""


class _Late(click.Group):
    """A group that knows its subcommands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command = getattr(importlib.import_module(_ABOVE.get(cmd_name, f"extract.commands.{name}")), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from extract.errors import nearest

            ctx.fail(str(nearest(args[0], list(COMMANDS), "command")))
        return super().resolve_command(ctx, args)


@click.group(cls=_Late, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="extract-av", prog_name="extract")
@click.option("-v", "--verbose", is_flag=True, help="Log what the engines do, to stderr.")
def extract(verbose: bool) -> None:
    """Decode video clips once, run many pretrained audio and visual networks, keep every row.

    \b
    extract demo && extract run manifests/demo.csv --weights random:0
    extract manifest llp --annotations AVVP_dataset_full.csv --videos DIR -o manifests/llp.csv
    extract run manifests/llp.csv
    """  # noqa: D301 - click's paragraph mark
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def main() -> NoReturn:
    """Entry point: errors of ours become one message on stderr and their exit code."""
    try:
        code = extract.main(prog_name="extract", standalone_mode=False)
    except ExtractError as error:
        _stop(str(error), error.exit_code)
    except click.exceptions.Abort:
        _stop("interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code or 0)


def _stop(message: str, code: int) -> NoReturn:
    click.echo(f"extract: {message}", err=True)
    sys.exit(code)
