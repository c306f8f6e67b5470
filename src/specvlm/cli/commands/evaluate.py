"""specvlm eval: a benchmark, or your own videos, answered in several arms, as a run that can be killed and resumed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from specvlm.cli.options import Answer, Features, Json, Models, spread
from specvlm.cli.progress import progress
from specvlm.cli.screen import console, silence, waiting, warn, write_record
from specvlm.comparing.words import words
from specvlm.errors import OptionError

if TYPE_CHECKING:
    from specvlm.evals.run_folder import Run

TaskName = Literal["pocket", "video_detail_caption", "mvbench", "mlvu", "longvideobench", "videomme", "folder"]

RARE = "More about data"
"""Where help shows what few ask for."""


@spread
def evaluate(
    out: Annotated[str, typer.Option(help="The folder of the run. Where it was begun before, it goes on.")],
    task: Annotated[
        TaskName,
        typer.Option(
            metavar="NAME", help=f"A benchmark, or your own videos, as `folder`: {', '.join(get_args(TaskName))}."
        ),
    ] = "pocket",
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder with the data as published, or its id on the Hub (default: where it is published; `pocket` "
            "is filmed into the run's folder)."
        ),
    ] = None,
    videos: Annotated[
        str | None, typer.Option(help="The folder with the unpacked videos (default: that of the data).")
    ] = None,
    subset: Annotated[
        list[str] | None,
        typer.Option(help="A subset of the benchmark, such as `action_sequence` of `mvbench`.", rich_help_panel=RARE),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which split (default: the one with answers).", rich_help_panel=RARE)
    ] = None,
    prompt: Annotated[
        Literal["authors", "paper"],
        typer.Option(
            help="`authors`: as each benchmark asks; `paper`: describe every video, as SpecVLM's paper does.",
            rich_help_panel=RARE,
        ),
    ] = "authors",
    num_samples: Annotated[
        int | None, typer.Option(min=1, help="Only so many, of those whose videos are there (`pocket`: 40).")
    ] = None,
    order_seed: Annotated[
        int | None,
        typer.Option(
            help="Take samples in a random order of this seed (default: that of the data).", rich_help_panel=RARE
        ),
    ] = None,
    arms: Annotated[
        str, typer.Option(help="Which ways to answer, of those of `specvlm compare`.")
    ] = "ar,sd,specvlm,auto",
    retry_broken: Annotated[
        bool, typer.Option("--retry-broken", help="Try again what could not be answered before.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="`local`: here, one sample after the other; `ray`: on the actors of Ray Data."),
    ] = "local",
    ray_address: Annotated[
        str,
        typer.Option(
            help="A Ray cluster such as `10.0.0.1:6379`; `auto`: the one that runs here; `local`: one for this run.",
            rich_help_panel="Ray",
        ),
    ] = "local",
    num_actors: Annotated[
        int, typer.Option(min=1, help="How many pairs of models answer on Ray.", rich_help_panel="Ray")
    ] = 1,
    num_gpus: Annotated[
        float, typer.Option(min=0.0, help="GPUs of each actor; a part such as 0.5 will do.", rich_help_panel="Ray")
    ] = 0.0,
    json: Json = False,
    *,
    models: Models,
    features: Features,
    answer: Answer,
) -> None:
    """Answer a benchmark in several arms and write config.json, results.jsonl, metrics.json and report.html.

    Kill it whenever you like and start it again: nothing is lost, and nothing is done twice. Answers are greedy unless
    asked otherwise. The exit code is 1 if an answer differs from stock generate's in float32 or float64.

    \b
    Examples:
      specvlm eval --out run --num-samples 4
      specvlm eval --out run --num-samples 8      # goes on with the next four
    """
    with waiting("Looking at the data"):
        from specvlm.comparing.arms import planned
        from specvlm.evals.experiment import Experiment
        from specvlm.evals.reporting.metrics import metrics_of
        from specvlm.evals.runner import local
        from specvlm.evals.settings import Setting

        silence()
        options = answer.options()
        names = models.named(arms)
        load = partial(models.load, planned(names, options), features.cache())
        experiment = Experiment(
            task=task,
            task_options={
                "data": data or "",
                "videos": videos or "",
                "subsets": tuple(subset or ()),
                "split": split or "",
                "prompt": prompt,
            },
            num_samples=num_samples,
            order_seed=order_seed,
            models=models.how(),
            settings=(Setting(options, names),),
        )
    with progress("eval") as bar:
        if engine == "ray":
            from specvlm.integrations.ray_data import ray_data

            num_cpus = float(models["threads"] or 1)
            actors: dict[str, Any] = {"num_actors": num_actors, "num_gpus": num_gpus, "num_cpus": num_cpus}
            does = ray_data(load, address=ray_address, **actors)
        else:
            does = local(lambda: bar.paused(load))
        run = experiment.carry_out(
            out, does, retry_broken=retry_broken, on_begin=bar.begin, on_record=bar.tell, on_note=warn
        )
    metrics = metrics_of(run)
    if json:
        write_record({"out": str(run.path), "metrics": metrics})
    show(run, metrics, stderr=json)
    judge(run, metrics)


def show(run: Run, metrics: dict[str, Any], *, stderr: bool) -> None:
    """The figures of each setting, what is broken, and where the rest is."""
    from specvlm.cli.tables import of_figures
    from specvlm.evals.run_folder import REPORT

    out = console(stderr=stderr)
    for name, setting in metrics["settings"].items():
        arms = {arm: found for arm, found in setting["arms"].items() if found["num_answers"]}
        if not arms:
            continue
        if len(metrics["settings"]) > 1:
            out.print(name, style="bold")
        out.print(of_figures(arms, out.width))
    for broken in metrics["broken"]:
        warn(f"{broken['sample']}: {broken['error']}")
    if metrics["num_broken"]:
        warn(f"{metrics['num_broken']} of {metrics['num_samples']} samples are broken and were left out")
    if (run.path / REPORT).exists():
        out.print(f"Report: {run.path / REPORT}", soft_wrap=True)


def judge(run: Run, metrics: dict[str, Any]) -> None:
    """Tell of arms that don't agree; where that is a bug, and where nothing was answered, end with exit code 1."""
    different = [sample for setting in metrics["settings"].values() for sample in setting["lossless"]["different"]]
    for sample in different:
        place = "" if sample["first_divergence"] is None else f" from token {sample['first_divergence']} on"
        warn(f"{sample['sample']}: {', '.join(map(words, sample['arms'])) or 'an arm'} differs{place}")
    dtypes = {record["dtype"] for record in run.records if not record["error"]}
    if different and dtypes & {"float32", "float64"}:
        raise typer.Exit(1)
    if not any(arm["num_answers"] for setting in metrics["settings"].values() for arm in setting["arms"].values()):
        raise OptionError(f"none of the {metrics['num_samples']} samples could be answered; {run.path} says why")
