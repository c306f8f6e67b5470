"""The pictures of the docs: the race of the README, plots, and a look at every kind of page, made of the pocket pairs.

Pages are opened in headless Chromium, wide and narrow, light and dark; whatever one says on the console is an error.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import warnings
from itertools import product
from pathlib import Path

from PIL import Image

from specvlm.answering.options import Options
from specvlm.bench.reading.films import Film, rendered
from specvlm.bench.showing import plots, race, race_page, renderings, timelines
from specvlm.drawing.themes import DARK
from specvlm.errors import PocketWarning
from specvlm.evals.writing import write_whole
from specvlm.pipeline import load
from specvlm.pocket import FILMED, demo_video

PAIRS = ("pocket-llava_onevision", "pocket-qwen2_5_vl")
QUESTION = "Describe the video in detail."
ARMS = "ar,sd,specvlm,auto"
FILM, SECONDS = Film("libx264", "720p"), 60
"""What is decoded, prepared, seen and read on the picture of a timeline: enough for each of them to be seen."""
READ_IN_PIECES = Options(num_frames=32, min_pixels=1 << 16, max_pixels=1 << 17, prefill_chunk=256, max_new_tokens=8)
SIZES = {1280: 1300, 420: 1500}
"""Pixels of a window on a desk and of a telephone: across, and down as far as the picture goes."""
SCHEMES = {"light": 1, "dark": 0}
"""As Chromium counts them."""


def specvlm(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "specvlm", *map(str, arguments)], check=True)


def look(chrome: str, page: Path, folder: Path) -> None:
    """Screenshots of a page's top, in each size and scheme. Raises SystemExit if the page complains."""
    for (width, height), (scheme, number) in product(SIZES.items(), SCHEMES.items()):
        picture = folder / f"{page.stem}-{width}-{scheme}.png"
        done = subprocess.run(
            [
                *(
                    chrome,
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--hide-scrollbars",
                    "--enable-logging=stderr",
                ),
                *(f"--window-size={width},{height}", "--virtual-time-budget=3000", f"--screenshot={picture}"),
                *(f"--blink-settings=preferredColorScheme={number}", page.resolve().as_uri()),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        if complaints:
            raise SystemExit(f"{page}: " + "\n".join(complaints))


def lighten(picture: Path, num_colours: int = 256) -> None:
    """Fewer colours, none far from what it was: pictures stay in the history for good."""
    lighter = Image.open(picture).convert("RGB").quantize(num_colours, Image.Quantize.FASTOCTREE)
    lighter.save(picture, optimize=True)


def run_race(film: Path, out: Path) -> None:
    """What was measured, and the picture of it, which a test holds against each other."""
    raced = race.measure(load(PAIRS[0]), film, QUESTION, PAIRS[0])
    write_whole(out / "race.json", json.dumps(raced.to_json()) + "\n")
    write_whole(out / "race.svg", race.svg(raced))


def draw_timeline(film: Path, out: Path) -> None:
    """What one answer was busy with when, on the way to its first token, and the picture of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PocketWarning)
        found = timelines.measure(load(PAIRS[1]), film, QUESTION, PAIRS[1], READ_IN_PIECES)
    write_whole(out / "timeline.json", json.dumps(found.to_json()) + "\n")
    write_whole(out / "timeline.svg", timelines.svg(found))
    write_whole(out / "timeline-dark.svg", timelines.svg(found, DARK))


def draw_benches(folder: Path, pages: Path) -> None:
    """The plots of all documents in a folder, as the code draws them now, and the page of the embedded pair."""
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        if "cells" not in document:
            continue  # of another command, which has no plots
        for picture in plots.write_both(document, folder, path.stem):
            lighten(picture)
        if document["bench"]["pair"] == PAIRS[0]:
            command = f"specvlm bench --pair {PAIRS[0]} --html bench.html"
            write_whole(pages / "bench.html", renderings.page(document, command))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m specvlm.bench.showing.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--chrome", default="chromium", help="the browser (default chromium)")
    parser.add_argument("--runs", type=Path, default=Path("build/pictures"), help="where runs go, and go on")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="where pictures go")
    parser.add_argument("--bench", type=Path, default=Path("docs/bench"), help="whose benches are drawn anew")
    given = parser.parse_args()
    runs, out, pages = given.runs, given.out, given.runs / "pages"
    for folder in (pages, *(out / name for name in ("explain", "sweep", "pages"))):
        folder.mkdir(parents=True, exist_ok=True)
    film, lit = demo_video(runs / "film.mp4"), demo_video(runs / "lit.mp4", FILMED, lit=True)
    run_race(film, out)
    draw_timeline(rendered(FILM, SECONDS, runs / "long.mp4"), out)
    draw_benches(given.bench, pages)
    pruner = "verifier_guided(fraction=0.5)"  # both of its stages can be seen
    specvlm("explain", lit, QUESTION, "--pruner", pruner, "--out", pages / "explain.html", "--png", out / "explain")

    specvlm("sweep", "--out", runs / "sweep", "--num-samples", 6, "--ratios", "0.5,0.75,0.9,0.95")
    for plot in (runs / "sweep" / "plots").glob("*.png"):
        (out / "sweep" / plot.name).write_bytes(plot.read_bytes())
    for pair in PAIRS:
        specvlm("eval", "--task", "pocket", "--num-samples", 16, "--target", pair, "--arms", ARMS, "--out", runs / pair)
    specvlm("report", *(runs / pair for pair in PAIRS), "--html", pages / "report.html")
    for name, page in {"sweep": runs / "sweep", "eval": runs / PAIRS[0]}.items():
        (pages / f"{name}.html").write_bytes((page / "report.html").read_bytes())
    for page in pages.glob("*.html"):
        look(given.chrome, page, out / "pages")
    race_page.photograph(shutil.which(given.chrome) or given.chrome, out / "pages")
    for picture in out.rglob("*.png"):
        lighten(picture)


if __name__ == "__main__":
    main()
