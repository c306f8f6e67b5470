"""Pruners by name: the text form that options, reports and the command line share."""

from __future__ import annotations

import ast
from dataclasses import fields

from specvlm.errors import OptionError, brief
from specvlm.pruning.base import PRUNERS, Pruner


def make_pruner(spec: Pruner | str) -> Pruner:
    """The pruner that `spec` names, such as `"frames"` or `"window(where='back')"`; a Pruner names itself.

    Values are Python literals, and nothing is evaluated. Raises OptionError, which lists what exists, for an
    unknown name or option, and for a value that the method refuses.
    """
    if isinstance(spec, Pruner):
        return spec
    name, options = _parse(spec)
    if name not in PRUNERS:
        raise OptionError(f"unknown pruner {brief(repr(name))}: there are {', '.join(sorted(PRUNERS))}")
    known = [field.name for field in fields(PRUNERS[name])]  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            listed = ", ".join(known) or "none"
            raise OptionError(f"pruner {name!r} has no option {brief(repr(option))}: its options are {listed}")
    return PRUNERS[name](**options)


def _parse(spec: str) -> tuple[str, dict[str, object]]:
    malformed = OptionError(f"a pruner is written name or name(option=value, ...), not {brief(repr(spec))}")
    try:
        tree = ast.parse(str(spec).strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise malformed from error
    if isinstance(tree, ast.Name):
        return tree.id, {}
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
        raise malformed
    options: dict[str, object] = {}
    for keyword in tree.keywords:
        if keyword.arg is None or keyword.arg in options:  # **mapping, or an option given twice
            raise malformed
        try:
            options[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, RecursionError) as error:
            raise malformed from error
    return tree.func.id, options
