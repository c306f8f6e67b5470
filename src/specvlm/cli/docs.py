"""The page docs/cli.md, made of the help texts: `python -m specvlm.cli.docs > docs/cli.md`."""

from __future__ import annotations

import inspect
import sys
import textwrap
from itertools import chain
from typing import Any

from typer.main import get_command

from specvlm.cli.help import HELP_ALL, groups

WIDTH = 100
INTRODUCTION = """\
# Command line

<!-- Written by `python -m specvlm.cli.docs > docs/cli.md`; a test fails when it is stale. -->

Text goes to standard output: the answer as it comes, and nothing else. Progress, warnings and `--stats` go to standard
error; where that is no terminal, `eval`, `sweep`, `bench` and `plan` alone tell how far they are, in a line every half
minute. With `--json` the last line of standard output is one JSON document, and what people read goes to the other one.

Exit codes, each of which means one thing: 0; 1 if `compare`, `demo`, `bench`, `eval` or `sweep` found an answer that
differs where it must not; 2 if something about the input is wrong, or the machine has no room for it, told in one line;
70 for what should not happen, told in one line too; 130 after Ctrl-C; 141 if the reader of standard output went away.

With `--help` a command shows the options that people ask for first, with `--help-all` all that are on this page.
`specvlm --install-completion` makes the shell complete commands, options and their values at a press of the tab key.
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
    said, _, examples = inspect.cleandoc(command.help).partition("\n\n\b\nExamples:\n")
    shell = ["```bash", textwrap.dedent(examples), "```", ""]
    lines = [f"## specvlm {name}", "", said, "", *shell, "```text", " ".join(usage)]
    for panel, parameters in groups(each for each in command.params if each.name != HELP_ALL.name).items():
        block = "\n".join(chain.from_iterable(map(_entry, parameters)))
        first = shown.setdefault(block, name)
        lines += ["", f"{panel}:", block] if first == name else ["", f"{panel}: as for specvlm {first}"]
    return "\n".join([*lines, "```", ""])


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _name(parameter: Any) -> str:
    if _is_argument(parameter):
        return parameter.metavar + "..." * (parameter.nargs == -1)
    return " / ".join([*parameter.opts, *parameter.secondary_opts]) + (
        "" if parameter.is_flag else f" {parameter.metavar or '|'.join(_choices(parameter)) or 'VALUE'}"
    )


def _choices(parameter: Any) -> tuple[str, ...]:
    """The words that an option takes, if it takes no others."""
    kind = getattr(parameter, "type_descriptor", None) or parameter.type  # typer's own, or click's in older ones
    return tuple(getattr(kind, "choices", None) or ())


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
