"""specvlm generate: the answer to one or more questions about a video, as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TextIO, TypeVar

import typer

from specvlm.cli.inputs import look_at, opened
from specvlm.cli.options import Answer, Features, Json, Models, VideoSource, spread
from specvlm.cli.screen import console, waiting, warn, write_record

if TYPE_CHECKING:
    from specvlm.answering.answer import Generation
    from specvlm.answering.options import Options
    from specvlm.pipeline import SpecVLM
    from specvlm.video import Video

Told = TypeVar("Told")


@spread
def generate(
    video: VideoSource,
    question: Annotated[
        list[str] | None, typer.Argument(metavar="QUESTION", help="What to ask. Several are answered one by one.")
    ] = None,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="No VIDEO is given: every argument is a question.")
    ] = False,
    chat: Annotated[
        bool, typer.Option("--chat", help="Each question follows up on the ones before it and their answers.")
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Show where the time went and what was accepted, on standard error.")
    ] = False,
    json: Json = False,
    *,
    models: Models,
    features: Features,
    answer: Answer,
) -> None:
    """Answer questions about a video, which is decoded, seen and read once.

    The answer is the target's own, token for token; the draft only makes it come sooner.

    \b
    Examples:
      specvlm generate film.mp4 "Describe the video in detail." --stats
      specvlm generate - "How many shapes are there?" < film.mp4
    """
    questions = [*([video] if text_only else []), *(question or [])]
    if not questions:
        raise typer.BadParameter("give a question: specvlm generate VIDEO QUESTION", param_hint="QUESTION")
    options = answer.options()
    source = None if text_only else opened(video)
    cache = features.cache()
    look_at(source, options, *questions, known=cache is not None and cache.knows(source, options))
    vlm = models.load(options, cache)
    asked, decode_seconds, watched = options, 0.0, None
    if len(questions) > 1:
        clip, asked, decode_seconds = decode(vlm, source, options)
        watched = vlm.watch(clip, asked)
    arm = "loop" if vlm.draft is None else "auto" if options.planned else "specvlm"
    out = sys.stderr if json else sys.stdout
    for number, text in enumerate(questions):
        if len(questions) > 1:
            print("\n" * (number > 0) + f"> {text}", file=out, flush=True)
        with _phases(stats or json):
            pieces = vlm.stream(source, text, asked) if watched is None else watched.stream(text, asked)
            generation = tell(pieces, out)
        if number == 0:
            generation.stats.charge("decode_video", decode_seconds)
            for damage in generation.stats.damage:
                warn(damage)
        if stats:
            from specvlm.cli import tables

            console(stderr=True).print(tables.of_stats(generation.stats))
        if json:
            _write(arm, text, generation, options)
        if chat:
            asked = replace(asked, history=(*asked.history, (text, generation.text)))


def _phases(wanted: bool) -> AbstractContextManager[None]:
    """On a GPU they take time, so that they are timed for whoever wants to see them."""
    from specvlm.engine.stats import timing_phases

    return timing_phases() if wanted else nullcontext()


def decode(
    vlm: SpecVLM, source: str | bytes | None, options: Options
) -> tuple[Video | str | bytes | None, Options, float]:
    """What all answers look at, the options for asking about it, and the seconds that it took: frames, or the source
    itself where a feature cache may save decoding it."""
    if source is None or vlm.feature_cache is not None:
        return source, options, 0.0
    with waiting("Decoding the video"):
        start = time.perf_counter()
        clip = vlm.load_video(source, options)
        asked = vlm.once_chosen(options)
        seconds = time.perf_counter() - start
    return clip, asked, seconds


def tell(pieces: Generator[str, None, Told], out: TextIO) -> Told:
    """Write the pieces of an answer as they come, and return what they return."""
    with ExitStack() as line:
        line.enter_context(waiting("Looking at the video"))
        while True:
            try:
                piece = next(pieces)
            except StopIteration as stop:
                line.close()
                print(file=out, flush=True)
                return stop.value
            line.close()
            print(piece, end="", file=out, flush=True)


def _write(arm: str, question: str, generation: Generation, options: Options) -> None:
    from specvlm.comparing.record import document, record

    answer = {"question": question, "text": generation.text, "finish_reason": generation.finish_reason}
    write_record(document([record(arm, [generation])], options) | answer)
