"""Help that fits a screen: first sentences, and the groups of options that people ask for first; `--help-all` has all.

An option's group is its `rich_help_panel`. A command's docstring ends with its examples: a paragraph that begins with
`\\b`, as click marks what is not to be folded.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Annotated, Any, final

import typer
from typer.core import TyperCommand, TyperGroup

LINES = 57
"""Most lines of `--help`: with a prompt above and below, as many as a screen of 60 has."""

COLUMN = 24
"""Most columns of an option's name; a longer one has a line of its own, and is never cut."""

USUAL = ("Arguments", "Options", "Models", "Answer", "Drafting", "Frames")
"""The groups that are shown first, as far as a command has them; others follow in the order of its options."""

SENTENCE_ENDS = re.compile(r"(?<=[^.]\.) +(?=[A-Z`])")

ALL = "--help-all"


HELP_ALL = inspect.Parameter(
    "help_all",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option(ALL, help="Show all options.")],
)
"""What a command of many options has beside its own."""


@final
class Command(TyperCommand):
    """A command whose help fits a screen."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Ask for all help before anything is refused, as `--help` does."""
        if ALL in args and self._has_more and not ctx.resilient_parsing:
            ctx.meta[ALL] = True
            print(self.get_help(ctx))
            raise typer.Exit
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """What it does, and examples."""
        paragraphs = inspect.cleandoc(self.help or "").split("\n\n")
        if self._is_short(ctx):
            paragraphs = [paragraphs[0], *(text for text in paragraphs[1:] if text.startswith("\b"))]
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n\n".join(paragraphs))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The groups as long as they fit, and the names of those that don't."""
        short, left_out = self._is_short(ctx), []
        for name, parameters in groups(self.get_params(ctx)).items():
            rows = [row for each in parameters if (row := each.get_help_record(ctx))]
            part = ctx.make_formatter()
            with part.section(name):
                part.write_dl([(what, first_sentence(text)) for what, text in rows] if short else rows, COLUMN)
            if short and 1 + _lines(formatter, part, _rest([*left_out, name], ctx)) > LINES:
                left_out.append(name)
            else:
                formatter.write("\n" + part.getvalue())
        if left_out:
            formatter.write(_rest(left_out, ctx).getvalue())

    def _is_short(self, ctx: Any) -> bool:
        return self._has_more and not ctx.meta.get(ALL)

    @property
    def _has_more(self) -> bool:
        return any(each.name == HELP_ALL.name for each in self.params)


class Commands(TyperGroup):
    """Commands, each with the whole first paragraph of what it says of itself."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As click does it, but that nothing is cut."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split()))
                    for name, command in self.commands.items()
                ]
            )


def groups(parameters: Iterable[Any]) -> dict[str, list[Any]]:
    """Parameters by the heading that they are shown under."""
    found: dict[str, list[Any]] = {name: [] for name in USUAL}
    for each in parameters:
        is_argument = each.param_type_name == "argument"
        name = "Arguments" if is_argument else getattr(each, "rich_help_panel", None) or "Options"
        found.setdefault(name, []).append(each)
    return {name: several for name, several in found.items() if several}


def first_sentence(text: str) -> str:
    """A text up to its first full stop, and what typer says in brackets behind it."""
    said, bracket, noted = text.partition("  [")
    return SENTENCE_ENDS.split(said)[0] + bracket + noted


def _rest(names: list[str], ctx: Any) -> Any:
    """What is said of groups that aren't shown."""
    formatter = ctx.make_formatter()
    formatter.write("\n")
    formatter.write_text(f"More with {ALL}: {', '.join(names)}.")
    return formatter


def _lines(*formatters: Any) -> int:
    return sum(formatter.getvalue().count("\n") for formatter in formatters)
