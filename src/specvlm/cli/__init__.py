"""The command line. A command only parses, calls the library and prints; each has a file of its own."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import specvlm
from specvlm.cli.bench import bench
from specvlm.cli.compare import compare
from specvlm.cli.convert import convert
from specvlm.cli.demo import demo
from specvlm.cli.evaluate import evaluate
from specvlm.cli.explain import explain
from specvlm.cli.generate import generate
from specvlm.cli.plan import plan
from specvlm.cli.pruners import pruners
from specvlm.cli.report import report
from specvlm.cli.sweep import sweep
from specvlm.errors import SpecVLMError


class _Commands(TyperGroup):
    """Turns what is wrong with the input into one line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SpecVLMError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            raise typer.Exit(2) from None


app = typer.Typer(
    name="specvlm",
    cls=_Commands,
    help=specvlm.__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (generate, compare, demo, explain, plan, pruners, bench):
    app.command()(command)
app.command("eval")(evaluate)  # which Python has a function of that name for
for command in (sweep, report, convert):
    app.command()(command)


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
) -> None:
    pass


def main() -> None:
    """The command `specvlm`. Ctrl-C ends it with 130; a reader that went away (`| head`) ends it quietly."""
    app(prog_name="specvlm")
