"""specvlm bench: every way to answer, measured in one run, against stock generate and against the machine's limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

import typer

from specvlm.cli.options import MOST_THREADS, Compile, Device, DeviceMap, Json, spread, use_threads
from specvlm.cli.outputs import require_file, require_folder, require_places
from specvlm.cli.progress import counting
from specvlm.cli.repeating import command_line
from specvlm.cli.screen import console, silence, waiting, warn, write_record
from specvlm.comparing.words import words
from specvlm.errors import OptionError, brief

if TYPE_CHECKING:
    from specvlm.bench.suite import Setup

Number = TypeVar("Number", int, float)

DEFAULT = "pocket-llava_onevision"
PairName = Literal[
    "pocket-llava_onevision",
    "pocket-qwen2_5_vl",
    "pocket-hostile",
    "llava-onevision-7b+0.5b",
    "qwen2.5-vl-7b+3b",
    "qwen2.5-14b+3b",
    "qwen2.5-vl-32b+3b",
]

FILES = "Reading files"
RARE = "More about measuring"
"""Where help shows what few ask for."""


@spread
def bench(
    pair: Annotated[
        PairName | None,
        typer.Option(metavar="NAME", help=f"Which pair: {', '.join(get_args(PairName))} (default: the first)."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="In place of a --pair, any checkpoint: a path or a Hub id.")
    ] = None,
    draft: Annotated[str | None, typer.Option(help="Its draft: a path, a Hub id, or `self`.")] = None,
    device: Device = "auto",
    device_map: DeviceMap = None,
    compile: Compile = "auto",
    video_tokens: Annotated[
        str | None,
        typer.Option(
            help="About so many video tokens in a prompt, or several: 500,3000 (default: as 32 frames have; "
            "3,000 for widened pairs)."
        ),
    ] = None,
    new_tokens: Annotated[str, typer.Option(help="Most tokens of an answer, or several: 64,128.")] = "128",
    ratios: Annotated[str, typer.Option(help="Pruning ratios: each makes an arm of its own out of `specvlm`.")] = "0.9",
    arms: Annotated[
        str | None,
        typer.Option(help="Which ways to answer, such as `assisted,specvlm,auto@0.9`; `ar` and `loop` always run."),
    ] = None,
    dtype: Annotated[
        Literal["bfloat16", "float32"] | None,
        typer.Option(help="Of weights (default: float32 for pocket pairs, else bfloat16)."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each arm, in turns; figures are medians.")] = 3,
    cached: Annotated[
        str | None,
        typer.Option(
            help="Behind how many cached tokens single forwards are measured, such as 300,6000 (default: 300 and the "
            "longest prompt).",
            rich_help_panel=RARE,
        ),
    ] = None,
    exact_length: Annotated[
        bool,
        typer.Option(
            "--exact-length",
            help="Take the end from the answers: all have exactly --new-tokens.",
            rich_help_panel=RARE,
        ),
    ] = False,
    share_reading: Annotated[
        bool,
        typer.Option(
            "--share-reading",
            help="Let the target read the video once a turn for all arms but stock ones, and count it to each: for "
            "long videos.",
            rich_help_panel=RARE,
        ),
    ] = False,
    reading: Annotated[
        bool,
        typer.Option(
            "--reading",
            help="Measure no pair, but the way from a file to the first token, beside other readers that are here.",
            rich_help_panel=FILES,
        ),
    ] = False,
    film: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help='One of the films, such as "720p H.264" (default: all).', rich_help_panel=FILES
        ),
    ] = None,
    film_seconds: Annotated[
        float, typer.Option(help="Length of each film, which is rendered first.", rich_help_panel=FILES)
    ] = 120.0,
    film_frames: Annotated[int, typer.Option(help="Frames wanted of it, evenly spread.", rich_help_panel=FILES)] = 64,
    film_folder: Annotated[
        Path | None,
        typer.Option(help="Keep films in this folder, and find them there again.", rich_help_panel=FILES),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads (default: as PyTorch thinks best).", min=1, max=MOST_THREADS, rich_help_panel="Loading"
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a picture into this file (.png, .svg, .pdf).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page with all tables and the picture.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write PAIR-DTYPE.json and .png into this folder, for docs/performance.md.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a pair: every way to answer in one run, speedups, phases, limits of this machine, and how cost grows.

    The exit code is 1 if an answer differs from stock generate's in float32.

    \b
    Examples:
      specvlm bench --repeats 1 --new-tokens 32 --html bench.html
      specvlm bench --reading --film "720p H.264" --film-seconds 20
    """
    if reading:
        if pair or target or draft:
            raise OptionError("--reading measures films, not a pair: leave out --pair, --target and --draft")
        _read(film, film_seconds, film_frames, repeats, film_folder, out, json)
        return
    with waiting("Loading") as say:
        from specvlm import drawing
        from specvlm.bench.showing import plots, renderings
        from specvlm.bench.showing.report import files_of, keep, stem
        from specvlm.bench.suite import run
        from specvlm.cli import tables
        from specvlm.evals.writing import write_whole

        silence()
        which = {"pair": DEFAULT if pair is target is draft is None else pair, "target": target, "draft": draft}
        setup = _setup(
            which
            | {"device": device, "device_map": device_map, "compile": compile, "dtype": dtype, "repeats": repeats},
            *(video_tokens, new_tokens, ratios, arms, cached, exact_length, share_reading),
        )
        if plot or html or out:
            drawing.require()
        if plot:
            plot = require_file(plot, "plot")
            plots.require_kind(plot)
        page = None
        if html:
            page = require_file(html, "html")
        if out:
            out = require_folder(out, "out")
            require_places(out, files_of(setup.name, setup.torch_dtype), "out")
        use_threads(threads)
        document = run(setup, say, counting("bench", "runs"))
    if out:
        keep(document, out, stem(document))
    if json:
        write_record(document)
    screen = console(stderr=json)
    screen.print(tables.of_bench(document, screen.width))
    if plot:
        plots.write(document, plot)
    if page is not None:
        write_whole(page, renderings.page(document, command_line()))
    if out:
        plots.write_both(document, out, stem(document))
    _refuse_differences(document)


def _read(
    films: list[str] | None,
    seconds: float,
    num_frames: int,
    repeats: int,
    folder: Path | None,
    out: Path | None,
    json: bool,
) -> None:
    with waiting("Reading films"):
        from specvlm.bench.reading.films import FILMS
        from specvlm.bench.reading.measuring import Setup, run
        from specvlm.bench.showing.readers import grid_of
        from specvlm.bench.showing.report import keep, kept
        from specvlm.cli import tables

        silence()
        setup = Setup(tuple(films or FILMS), seconds, num_frames, repeats)
        if folder:
            setup = replace(setup, folder=require_folder(folder, "film-folder"))
        if out:
            out = require_folder(out, "out")
        name = f"reading-{num_frames}-frames"
        if out:
            require_places(out, [f"{name}.json"], "out")
        document = run(
            setup,
            counting("bench", "films"),
            lambda measured: keep(measured, out, name) if out else None,
            kept(out, name) if out else None,
        )
    if json:
        write_record(document)
    screen = console(stderr=json)
    screen.print(tables.of_grid(grid_of(document), screen.width))


def _setup(
    as_given: dict[str, Any],
    video_tokens: str | None,
    new_tokens: str,
    ratios: str,
    arms: str | None,
    cached: str | None,
    exact_length: bool,
    share_reading: bool,
) -> Setup:
    from specvlm.bench.suite import Setup
    from specvlm.comparing.compare import named

    given: dict[str, Any] = as_given | ({"arms": named(arms)} if arms is not None else {})
    return Setup(
        video_tokens=tuple(_numbers("video-tokens", video_tokens, int)),
        new_tokens=tuple(_numbers("new-tokens", new_tokens, int)),
        ratios=tuple(_numbers("ratios", ratios, float)),
        cached=tuple(_numbers("cached", cached, int)),
        exact_length=exact_length,
        share_reading=share_reading,
        **given,
    )


def _numbers(name: str, text: str | None, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(part) for part in _parts(text or "")]
    except ValueError:
        raise OptionError(f"{name}: numbers with commas between them are wanted, not {brief(repr(text))}") from None


def _parts(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _refuse_differences(document: dict[str, Any]) -> None:
    """Tell of every answer that isn't stock generate's; where that is a bug, end with exit code 1."""
    dtype = document["bench"]["dtype"]
    different = [arm for arm in document["arms"] if not arm["identical"]]
    for arm in different:
        warn(
            f"{words(arm['arm'])}, {arm['num_video_tokens']} video tokens: differs from stock generate from token "
            f"{arm['first_divergence']} on in {dtype}"
        )
    if different and dtype == "float32":
        raise typer.Exit(1)
