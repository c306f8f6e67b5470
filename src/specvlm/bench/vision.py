"""What it brings to share or to spare the draft's vision: `python -m specvlm.bench.vision`.

For both pocket pairs and every pruner: seconds of vision and of both prefills, acceptance, and the speedup from the
closed file to the last token, with the draft's tower on all frames (`full`), on those of kept tokens (`spared`), and
not run at all (`shared`: it is the target's). The table replaces the one in docs/vision.md.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from specvlm import pocket
from specvlm.answering.options import Options
from specvlm.bench.pocket_pairs import put
from specvlm.engine.stats import Stats, timing_phases
from specvlm.machine import machine, versions
from specvlm.pipeline import load
from specvlm.pruning import PRUNERS

log = logging.getLogger("specvlm.bench.vision")

QUESTION = "Describe the video in detail."
NUM_FRAMES = {"llava_onevision": 32, "qwen2_5_vl": 64}
"""About as many video tokens in both families: Qwen merges two frames into one."""
POLICIES = ("full", "spared", "shared")


@dataclass(frozen=True)
class Line:
    """One family, pruner and way to see; medians over films, but acceptance, which is over all rounds of all films."""

    family: str
    pruner: str
    vision: str
    num_video_tokens: int
    num_kept: int
    vision_target: float
    vision_draft: float
    prefill_target: float
    prefill_draft: float
    acceptance: float
    speedup: float


@timing_phases()
def measure(family: str, pruners: Iterable[str], films: Sequence[Path], ratio: float, dtype: str) -> list[Line]:
    """Every film is answered by stock generate and then in each way, so that all are measured in the same minutes."""
    vlm = load(pocket.path(family, "target"), pocket.path(family, "draft"), dtype=dtype)
    policies = POLICIES if vlm.pair.one_tower else POLICIES[:2]
    arms = [(pruner, vision) for pruner in pruners for vision in policies]
    runs: dict[tuple[str, str], list[Stats]] = {arm: [] for arm in arms}
    stock: list[float] = []
    common = Options(num_frames=NUM_FRAMES[family], do_sample=False, pruning_ratio=ratio, plan="fixed")
    for warm_up in (vlm.autoregressive, vlm.generate):
        warm_up(films[0], QUESTION, common, max_new_tokens=4)
    for film in films:
        right = vlm.autoregressive(film, QUESTION, common)
        stock.append(right.stats.total_seconds)
        for pruner, vision in arms:
            answer = vlm.generate(film, QUESTION, common, pruner=pruner, vision=vision)
            if dtype in ("float32", "float64") and answer.token_ids != right.token_ids:
                raise SystemExit(f"{family}, {pruner}, {vision}: not the answer of stock generate to {film.name}")
            runs[pruner, vision].append(answer.stats)
        log.info("%s: %s is done", family, film.name)
    return [_line(family, pruner, vision, runs[pruner, vision], stock) for pruner, vision in arms]


def _line(family: str, pruner: str, vision: str, runs: list[Stats], stock: list[float]) -> Line:
    seconds = {
        name: statistics.median(stats.phases.get(name, 0.0) for stats in runs)
        for name in ("vision_target", "vision_draft", "prefill_target", "prefill_draft")
    }
    return Line(
        family=family,
        pruner=pruner,
        vision=vision,
        num_video_tokens=runs[0].num_video_tokens,
        num_kept=runs[0].num_kept,
        **seconds,
        acceptance=sum(stats.num_tokens - 1 for stats in runs) / sum(stats.num_rounds for stats in runs),
        speedup=statistics.median(ar / stats.total_seconds for ar, stats in zip(stock, runs, strict=True)),
    )


def table(lines: Iterable[Line]) -> str:
    head = (
        "family", "pruner", "draft's vision", "kept", "vision, target (ms)", "vision, draft (ms)",
        "prefill, target (ms)", "prefill, draft (ms)", "acceptance length", "end-to-end speedup",
    )  # fmt: skip
    rows = ["| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * (len(head) - 3)]
    for line in lines:
        seconds = (line.vision_target, line.vision_draft, line.prefill_target, line.prefill_draft)
        rows.append(
            f"| {line.family} | `{line.pruner}` | {line.vision} | {line.num_kept} of {line.num_video_tokens} | "
            + " | ".join(f"{1000 * second:.1f}" for second in seconds)
            + f" | {line.acceptance:.2f} | {line.speedup:.2f}x |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=pocket.FAMILIES, default=pocket.FAMILIES)
    parser.add_argument("--pruners", nargs="+", default=[name for name in PRUNERS if name != "none"])
    parser.add_argument("--films", type=int, default=3, help="held-out films, each answered in every way")
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--page", type=Path, help="put the table into this page, between its comments")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        films = [pocket.demo_video(Path(folder) / f"film_{number}.mp4", number) for number in range(options.films)]
        lines = [
            line
            for family in options.families
            for line in measure(family, options.pruners, films, options.ratio, options.dtype)
        ]
    ours = versions()
    text = (
        f"{options.films} held-out films as mp4, ratio {options.ratio:g}, {options.dtype}, default tree; "
        f"{machine()['cpu']}, {torch.get_num_threads()} threads, "
        f"torch {ours['torch']}, transformers {ours['transformers']}.\n\n{table(lines)}"
    )
    log.info("\n%s", text)
    if options.page is not None:
        put(options.page, "vision", text)


if __name__ == "__main__":
    main()
