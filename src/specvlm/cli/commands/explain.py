"""specvlm explain: an answer taken apart, as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specvlm.cli.inputs import look_at, opened
from specvlm.cli.options import Answer, Models, VideoSource, spread
from specvlm.cli.outputs import require_apart, require_file, require_folder
from specvlm.cli.repeating import command_line
from specvlm.cli.screen import console, waiting, warn


@spread
def explain(
    video: VideoSource,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask about the video.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("explanation.html"),
    png: Annotated[Path | None, typer.Option(help="A folder for pictures of it, light and dark (PNG).")] = None,
    *,
    models: Models,
    answer: Answer,
) -> None:
    """Show why an answer came as fast as it did: what the draft saw, and what became of its guesses.

    Writes one HTML page that needs nothing else: frames with the kept tokens lit, the target's attention over them,
    every token of the answer by how it came, and the tree of any round.

    \b
    Examples:
      specvlm explain film.mp4 "Describe the video in detail." --out page.html
    """
    options = answer.options()
    read = (video, *options.more_videos, *options.images, *(str(models[role] or "") for role in ("target", "draft")))
    place = require_file(out, "out", inputs=read)
    if png:
        from specvlm import drawing
        from specvlm.explain.pictures import NAMES

        drawing.require()
        png = require_folder(png, "png", inputs=read)
        endings = ("", *(f"-{theme.name}" for theme in drawing.THEMES if theme is not drawing.LIGHT))
        require_apart(png, (f"{name}{ending}.png" for name in NAMES for ending in endings), "png", inputs=read)
    source = opened(video)
    look_at(source, options, question)
    vlm = models.load(options)
    with waiting("Answering"):
        from specvlm.explain import explain
        from specvlm.explain.page import page

        explanation = explain(vlm, source, question, options)
        from specvlm.evals.writing import inside, write_whole
    write_whole(place, page(explanation, command_line()))
    written = [out]
    if png:
        from specvlm.drawing import LIGHT, THEMES
        from specvlm.explain.pictures import pictures

        for theme in THEMES:
            for name, picture in pictures(explanation, theme).items():
                written.append(inside(png, f"{name}.png" if theme is LIGHT else f"{name}-{theme.name}.png"))
                write_whole(written[-1], picture)
    for damage in explanation.generation.stats.damage:
        warn(damage)
    screen = console(stderr=False)
    screen.print(f"{explanation.generation.text}\n")
    screen.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)  # a path is whole, to be copied
