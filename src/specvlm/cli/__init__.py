"""The command line. A command only parses, calls the library and prints; each has a file of its own."""

from __future__ import annotations

import os
from typing import Annotated, Any, final

import typer

import specvlm
from specvlm.cli.commands.bench import bench
from specvlm.cli.commands.chat import chat
from specvlm.cli.commands.compare import compare
from specvlm.cli.commands.convert import convert
from specvlm.cli.commands.demo import demo
from specvlm.cli.commands.evaluate import evaluate
from specvlm.cli.commands.explain import explain
from specvlm.cli.commands.generate import generate
from specvlm.cli.commands.plan import plan
from specvlm.cli.commands.pruners import pruners
from specvlm.cli.commands.report import report
from specvlm.cli.commands.serve import serve
from specvlm.cli.commands.sweep import sweep
from specvlm.cli.ending import ending, stand_in_for_closed_streams
from specvlm.cli.help import Command, Commands
from specvlm.cli.repeating import remember


@final
class _Commands(Commands):
    """Whatever a command ends with is one line and an exit code that means one thing."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **how: Any) -> Any:
        remember(args)
        with ending():  # which prints the help
            return super().make_context(info_name, args, parent, **how)

    def invoke(self, ctx: Any) -> Any:
        with ending(debug=ctx.params["debug"]):
            return super().invoke(ctx)


app = typer.Typer(
    name="specvlm",
    cls=_Commands,
    help=specvlm.__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (generate, chat, compare, demo, explain, plan, pruners, bench):
    app.command(cls=Command)(command)
app.command("eval", cls=Command)(evaluate)  # which Python has a function of that name for
for command in (sweep, report, convert, serve):
    app.command(cls=Command)(command)


def _show_version(wanted: bool) -> bool:
    if wanted:
        print(f"specvlm {specvlm.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _specvlm(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="SPECVLM_DEBUG", help="Show where in the code an error came from, too."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The command `specvlm`; `specvlm.cli.ending` says what its exit codes mean."""
    stand_in_for_closed_streams()
    os.environ.setdefault("TORCH_LOGS", "-all")  # errors alone: torch, imported later, warns of what others do with it
    app(prog_name="specvlm")
