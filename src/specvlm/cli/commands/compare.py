"""specvlm compare: one question answered in several ways, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specvlm.cli.inputs import look_at, opened
from specvlm.cli.options import Answer, Json, Models, VideoSource, spread
from specvlm.cli.screen import console, waiting, warn, write_record
from specvlm.comparing.words import words

if TYPE_CHECKING:
    from specvlm.answering.options import Options
    from specvlm.comparing.compare import Comparison
    from specvlm.pipeline import SpecVLM


@spread
def compare(
    video: VideoSource,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask.")],
    arms: Annotated[
        str,
        typer.Option(
            help="Which ways, of `ar`, `ar-no-cudnn`, `ar-static`, `loop`, `sd`, `specvlm`, `auto`, `strict`, `chain`, "
            "`paper`, `dynamic`, `assisted`, `assisted-static` and `prompt_lookup`, some with a ratio such as "
            "`specvlm@0.5`; `ar` always runs."
        ),
    ] = "ar,sd,specvlm,auto",
    repeats: Annotated[int, typer.Option(help="Runs of each arm; figures are medians.")] = 1,
    json: Json = False,
    *,
    models: Models,
    answer: Answer,
) -> None:
    """Answer a question by stock generate and by speculation, and compare what it took.

    The exit code is 1 if an answer differs from stock generate's in float32 or float64.

    \b
    Examples:
      specvlm compare film.mp4 "Describe the video in detail." --repeats 3
    """
    options = answer.options()
    names = models.named(arms, repeats)
    source = opened(video)
    look_at(source, options, question)
    from specvlm.comparing.arms import planned

    vlm = models.load(planned(names, options))
    comparison = measure(vlm, source, question, options, names, repeats)
    report(comparison, as_json=json)
    refuse_differences(comparison, vlm)


def measure(
    vlm: SpecVLM, source: Any, question: str, options: Options, arms: Sequence[str], repeats: int
) -> Comparison:
    """The library's comparison, with a line that tells what is running."""
    from specvlm.comparing.compare import compare as run

    with waiting("Warming up") as say:
        return run(
            vlm, source, question, options, arms=arms, repeats=repeats, on_run=lambda arm: say(f"Running {words(arm)}")
        )


def report(comparison: Comparison, *, as_json: bool) -> None:
    from specvlm.cli import tables

    if as_json:  # first of all: whatever fails behind it, what was measured is kept
        write_record(comparison.to_json())
    screen = console(stderr=as_json)
    screen.print(tables.of_arms(comparison.arms, comparison.baselines, width=screen.width))
    for damage in dict.fromkeys(damage for arm in comparison.arms for damage in arm.damage):
        warn(damage)
    for arm, why in comparison.refused.items():
        warn(f"{words(arm)} was left out, stock transformers can't run it with these models: {why}")


def refuse_differences(comparison: Comparison, vlm: SpecVLM) -> None:
    """Tell of every answer that isn't stock generate's; in a dtype where that is a bug, end with exit code 1."""
    dtype = str(vlm.target.model.dtype).removeprefix("torch.")
    exact = dtype in ("float32", "float64")
    why = "which should never happen" if exact else "where forwards of one and of many tokens round differently"
    different = [arm for arm in comparison.arms if not arm.identical]
    for arm in different:
        warn(f"{words(arm.arm)} differs from stock generate from token {arm.first_divergence} on in {dtype}, {why}")
    if different and exact:
        raise typer.Exit(1)
