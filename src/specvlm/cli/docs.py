"""The page docs/cli.md, made of the help texts: `python -m specvlm.cli.docs > docs/cli.md`."""

from __future__ import annotations

import inspect
import sys
import textwrap
from itertools import chain, groupby
from typing import Any

from typer.main import get_command

WIDTH = 100
INTRODUCTION = """\
# Command line

<!-- Written by `python -m specvlm.cli.docs > docs/cli.md`; a test fails when it is stale. -->

Text goes to standard output: the answer as it comes, and nothing else. Progress (on a terminal only), warnings and
`--stats` go to standard error. With `--json` the last line of standard output is one JSON document, and what people
read goes to standard error.

Exit codes, each of which means one thing: 0; 1 if `compare`, `demo`, `bench`, `eval` or `sweep` found an answer that
differs where it must not; 2 if something about the input is wrong, or the machine has no room for it, told in one line;
70 for what should not happen, told in one line too; 130 after Ctrl-C; 141 if the reader of standard output went away.
`specvlm --debug COMMAND ...`, or `SPECVLM_DEBUG=1` in the environment, also shows where in the code an error came from.
"""


COLUMN = 32


def page() -> str:
    """The whole page. It asks of a command only what click has always offered: typer's version is no matter."""
    from specvlm.cli import app

    group: Any = get_command(app)
    shown: dict[str, str] = {}
    return "\n".join([INTRODUCTION, *(_section(name, command, shown) for name, command in group.commands.items())])


def _section(name: str, command: Any, shown: dict[str, str]) -> str:
    """A command with its options; `shown` has the blocks of options that the page has already, and where."""
    usage = [
        "specvlm",
        name,
        "[OPTIONS]",
        *(_name(parameter) for parameter in command.params if _is_argument(parameter)),
    ]
    lines = [f"## specvlm {name}", "", inspect.cleandoc(command.help), "", "```text", " ".join(usage)]
    for panel, parameters in groupby(command.params, key=_panel):
        block = "\n".join(chain.from_iterable(map(_entry, parameters)))
        first = shown.setdefault(block, name)
        lines += ["", f"{panel}:", block] if first == name else ["", f"{panel}: as for specvlm {first}"]
    return "\n".join([*lines, "```", ""])


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _panel(parameter: Any) -> str:
    return parameter.rich_help_panel or f"{parameter.param_type_name}s".capitalize()


def _name(parameter: Any) -> str:
    if _is_argument(parameter):
        return parameter.metavar + "..." * (parameter.nargs == -1)
    return " / ".join([*parameter.opts, *parameter.secondary_opts]) + " VALUE" * (not parameter.is_flag)


def _entry(parameter: Any) -> list[str]:
    """Name and help side by side, the help folded."""
    notes = ["may be given several times"] * parameter.multiple
    if parameter.default not in (None, False, ()):
        notes.append(f"default: {parameter.default}")
    text = parameter.help + "".join(f" [{note}]" for note in notes)
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"  {_name(parameter)}  ".ljust(COLUMN), subsequent_indent=" " * COLUMN
    )


if __name__ == "__main__":
    sys.stdout.write(page())
