"""The pictures of the docs: explain, sweep and eval on the pocket pairs, and a look at their pages.

Pages are opened in headless Chromium at several widths; whatever one of them says on the console is an error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image

from specvlm.pocket import demo_video

PAIRS = ("pocket-llava_onevision", "pocket-qwen2_5_vl")
QUESTION = "Describe the video in detail."
WIDE, NARROW = 1180, 420
"""Pixels: a window on a desk, and a telephone."""


def specvlm(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "specvlm", *map(str, arguments)], check=True)


def look(chrome: str, page: Path, picture: Path, width: int, height: int) -> None:
    """A screenshot of a page's top. Raises SystemExit if the page complains."""
    done = subprocess.run(
        [
            *(chrome, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"),
            *(f"--window-size={width},{height}", "--virtual-time-budget=3000", f"--screenshot={picture}"),
            page.resolve().as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    if complaints:
        raise SystemExit(f"{page}: " + "\n".join(complaints))


def lighten(picture: Path, num_colours: int = 128) -> None:
    """Fewer colours: pictures stay in the history for good."""
    Image.open(picture).convert("RGB").quantize(num_colours).save(picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m specvlm.bench.showing.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--chrome", default="chromium", help="the browser (default chromium)")
    parser.add_argument("--runs", type=Path, default=Path("build/pictures"), help="where runs go, and go on")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="where pictures go")
    given = parser.parse_args()
    runs, out = given.runs, given.out
    for folder in (runs, *(out / name for name in ("explain", "sweep", "eval"))):
        folder.mkdir(parents=True, exist_ok=True)
    film, page = demo_video(runs / "film.mp4"), runs / "explain.html"
    pruner = "verifier_guided(fraction=0.5)"  # both of its stages can be seen
    specvlm("explain", film, QUESTION, "--pruner", pruner, "--out", page, "--png", out / "explain")
    for width, height in ((WIDE, 1500), (NARROW, 1500)):
        look(given.chrome, page, out / "explain" / f"page-{width}.png", width, height)

    specvlm("sweep", "--out", runs / "sweep", "--num-samples", 12, "--ratios", "0.5,0.75,0.9,0.95")
    for plot in (runs / "sweep" / "plots").glob("*.png"):
        (out / "sweep" / plot.name).write_bytes(plot.read_bytes())
    look(given.chrome, runs / "sweep" / "report.html", out / "sweep" / "report.png", WIDE, 1500)

    for pair in PAIRS:
        specvlm("eval", "--task", "pocket", "--num-samples", 40, "--target", pair, "--out", runs / pair)
        look(given.chrome, runs / pair / "report.html", out / "eval" / f"{pair}.png", WIDE, 1700)
    look(given.chrome, runs / PAIRS[0] / "report.html", out / "eval" / f"{PAIRS[0]}-narrow.png", NARROW, 1700)
    for picture in out.rglob("*.png"):
        lighten(picture)


if __name__ == "__main__":
    main()
