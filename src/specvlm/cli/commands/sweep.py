"""specvlm sweep: what pruning costs and brings, over ratios, pruners, trees and frames."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, final

import typer

from specvlm.cli.commands.evaluate import evaluate
from specvlm.cli.options import Answer, Bundle, Json, Models, spread
from specvlm.cli.progress import progress
from specvlm.cli.screen import console, silence, waiting, warn, write_record
from specvlm.errors import OptionError, brief

if TYPE_CHECKING:
    from specvlm.evals.run_folder import Run

PRUNERS = "verifier_guided,frames,uniform,random"
RATIOS = "0.5,0.75,0.9,0.95"

Value = TypeVar("Value")


@final
class Data(Bundle):
    """Which samples are asked: the options of `specvlm eval` for that."""

    parameters = tuple(
        parameter
        for name, parameter in inspect.signature(evaluate).parameters.items()
        if name in ("task", "data", "videos", "subset", "split", "prompt", "num_samples", "order_seed", "retry_broken")
    )


@spread
def sweep(
    out: Annotated[str, typer.Option(help="The folder of the run. Where it was begun before, it goes on.")],
    pruners: Annotated[
        str | None, typer.Option(help=f"Pruners, with commas between them (default: --pruner, or else {PRUNERS}).")
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(help=f"Pruning ratios; 0 is always there (default: --pruning-ratio, or else {RATIOS})."),
    ] = None,
    trees: Annotated[
        str | None,
        typer.Option(help="Draft trees: `dynamic`, `paper`, `chain`, or `auto` (default: --tree, or else dynamic)."),
    ] = None,
    frames: Annotated[str | None, typer.Option(help="Numbers of frames (default: --num-frames).")] = None,
    json: Json = False,
    *,
    data: Data,
    models: Models,
    answer: Answer,
) -> None:
    """Answer a benchmark at every pruning ratio with every pruner, tree and number of frames, and draw the outcome.

    Writes what `specvlm eval` writes, and pictures. Kill it whenever you like and start it again: nothing is lost, and
    nothing is done twice. Stock generate answers once for each number of frames. The exit code is 1 if an answer
    differs from stock generate's in float32 or float64.

    \b
    Examples:
      specvlm sweep --out grid --num-samples 2 --pruners frames --ratios 0.5,0.9
    """
    with waiting("Looking at the data"):
        from specvlm.answering.options import Options
        from specvlm.comparing.arms import planned
        from specvlm.evals.experiment import Experiment
        from specvlm.evals.sweeping.engine import local
        from specvlm.evals.sweeping.grid import Grid
        from specvlm.evals.sweeping.metrics import sweep_metrics
        from specvlm.evals.sweeping.sweep import carry_out

        silence()
        options, usual = answer.options(), Options()
        own_pruner = None if options.pruner == usual.pruner else str(options.pruner)
        own_ratio = None if options.pruning_ratio is None else str(options.pruning_ratio)
        own_tree = "auto" if options.plan == "auto" else str(options.tree or "dynamic")
        grid = Grid(
            pruners=tuple(_list(_first(pruners, own_pruner, PRUNERS))),
            ratios=_numbers("ratios", _first(ratios, own_ratio, RATIOS), float),
            trees=tuple(_list(_first(trees, own_tree))),
            frames=(options.num_frames,) if frames is None else _numbers("frames", frames, int),
        )
        settings = grid.settings(options)
        models.require(arm for setting in settings for arm in setting.arms)
        experiment = Experiment(
            task=data["task"],
            task_options={
                "data": data["data"] or "",
                "videos": data["videos"] or "",
                "subsets": tuple(data["subset"] or ()),
                "split": data["split"] or "",
                "prompt": data["prompt"],
            },
            num_samples=data["num_samples"],
            order_seed=data["order_seed"],
            models=models.how(),
            settings=settings,
        )
    with progress("sweep") as bar:
        asked = (planned(setting.arms, setting.options) for setting in settings)
        first = next(filter(None, asked), None)
        engine = local(lambda: bar.paused(lambda: models.load(first)))
        run = carry_out(
            experiment,
            out,
            engine,
            retry_broken=data["retry_broken"],
            on_begin=bar.begin,
            on_record=bar.tell,
            on_note=warn,
        )
    metrics = sweep_metrics(run)
    if json:
        write_record({"out": str(run.path), "metrics": metrics})
    _show(run, metrics, stderr=json)
    _judge(run, metrics)


def _list(text: str) -> list[str]:
    """What stands between commas; those inside of parentheses or brackets divide nothing."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _first(*given: str | None) -> str:
    """The first that was given, be it empty."""
    return next(text for text in given if text is not None)


def _numbers(name: str, text: str, kind: Callable[[str], Value]) -> tuple[Value, ...]:
    try:
        return tuple(kind(part) for part in _list(text))
    except ValueError:
        raise OptionError(f"{name} must be numbers with commas between them, not {brief(repr(text))}") from None


def _show(run: Run, metrics: dict[str, Any], *, stderr: bool) -> None:
    from specvlm.cli.columns import fitted
    from specvlm.cli.tables import below
    from specvlm.evals.run_folder import REPORT
    from specvlm.evals.sweeping.report import NAMING, NOTES, rows
    from specvlm.evals.sweeping.sweep import PLOTS

    found = rows(metrics)
    out = console(stderr=stderr)
    if found:
        head = list(found[0][1])
        tables = fitted(
            head,
            [list(row.values()) for _, row in found],
            out.width,
            named=sum(column in NAMING for column in head),
            bold=[number for number, (best, _) in enumerate(found) if best],
        )
        out.print(below(tables, NOTES))
    for broken in metrics["broken"]:
        warn(f"{broken['sample']}, {broken['setting']}: {broken['error']}")
    out.print(f"Report: {run.path / REPORT}\nPictures: {run.path / PLOTS}", soft_wrap=True)


def _judge(run: Run, metrics: dict[str, Any]) -> None:
    """Tell of points that differ; where that is a bug, and where nothing was answered, end with another exit code."""
    different = [found for of in metrics["lossless"].values() for found in of["different"]]
    for found in different:
        warn(f"{found['sample']}: differs at {'; '.join(found['arms'])}")
    if different and {record["dtype"] for record in run.records if not record["error"]} & {"float32", "float64"}:
        raise typer.Exit(1)
    if not any(point["num_answers"] for point in metrics["points"]):
        raise OptionError(f"none of the {metrics['num_samples']} samples could be answered; {run.path} says why")
