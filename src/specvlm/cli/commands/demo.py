"""specvlm demo: the embedded pair, a video that it has never seen, and what speculation brings."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specvlm.cli.commands.compare import measure, refuse_differences, report
from specvlm.cli.commands.generate import tell
from specvlm.cli.options import Device, DeviceMap, Json
from specvlm.cli.outputs import require_file
from specvlm.cli.screen import console, silence, waiting
from specvlm.errors import OptionError

if TYPE_CHECKING:
    from specvlm.comparing.compare import Comparison
    from specvlm.pipeline import SpecVLM

QUESTION = "Describe the video in detail."


def demo(
    family: Annotated[
        Literal["llava_onevision", "qwen2_5_vl"], typer.Option(help="Which architecture the embedded pair has.")
    ] = "llava_onevision",
    film: Annotated[int, typer.Option(min=0, help="Which of the films that no training ever saw.")] = 0,
    lit: Annotated[bool, typer.Option("--lit", help="Solid bodies under a lamp in place of flat shapes.")] = False,
    repeats: Annotated[int, typer.Option(help="Runs of each arm; figures are medians.")] = 3,
    save: Annotated[Path | None, typer.Option(help="Keep the film in this file (.mp4), to ask more about it.")] = None,
    device: Device = "auto",
    device_map: DeviceMap = None,
    json: Json = False,
) -> None:
    """Answer a held-out video with the embedded pair by stock generate, plain speculation and SpecVLM, in float32.

    SpecVLM comes twice: with trees of one shape, and with trees that are planned for this machine.

    \b
    Examples:
      specvlm demo
      specvlm demo --film 1 --lit --save film.mp4   # to ask more about it
    """
    out = console(stderr=json)
    kept = None if save is None else require_file(save, "save")
    with TemporaryDirectory() as folder:
        with waiting("Filming a video that the models have never seen"):
            from specvlm import pocket

            if film >= len(pocket.HELD_OUT):
                raise OptionError(f"film must be below {len(pocket.HELD_OUT)}, not {film}")
            from specvlm.comparing.compare import ARMS, checked

            checked(ARMS, repeats)
            target, draft = pocket.path(family, "target"), pocket.path(family, "draft")
            video = pocket.demo_video(Path(folder) / "held_out.mp4", film, lit=lit)
            if kept is not None:
                from specvlm.evals.writing import write_whole

                write_whole(kept, video.read_bytes())
        with waiting("Loading the models"):
            from specvlm.answering.options import Options
            from specvlm.pipeline import load

            silence()
            vlm = load(target, draft, dtype="float32", device=device, device_map=device_map)
        options = Options(pruning_ratio=0.9)
        out.print(f"> {QUESTION}", style="bold")
        tell(vlm.stream(video, QUESTION, options), sys.stderr if json else sys.stdout)
        out.print()
        comparison = measure(vlm, video, QUESTION, options, ARMS, repeats)
    report(comparison, as_json=json)
    out.print(f"\n{conclusion(comparison, vlm)}")
    refuse_differences(comparison, vlm)


def conclusion(comparison: Comparison, vlm: SpecVLM) -> str:
    """The figures of the arm `auto` as a sentence."""
    from specvlm.machine import machine, processor

    arm = next(arm for arm in comparison.arms if arm.arm == "auto")
    same = f"the same {arm.tokens} tokens as" if arm.identical else "another answer (a bug) than"
    here = processor(machine(), vlm.pair.devices)
    return (
        f"On this {here}, SpecVLM gave {same} stock generate, decoding {arm.decode_speedup:.2f} times as "
        f"fast and answering {arm.end_to_end_speedup:.2f} times as fast from the closed file to the last token, with a "
        f"draft that saw {arm.num_kept} of {arm.num_video_tokens} video tokens."
    )
