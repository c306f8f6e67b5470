"""What asking again costs over HTTP, ten times about one film: `python -m specvlm.serve.measuring.questions`.

The first one pays for the video: it is sent, decoded, seen and read. All of them send it, as clients do.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import httpx

from specvlm import pocket
from specvlm.serve.measuring.serving import question, serving

log = logging.getLogger("specvlm.serve.measuring.questions")

QUESTIONS = tuple(f"What happens {number} seconds into the video?" for number in range(10))


@dataclass(frozen=True)
class Asked:
    """One question: seconds from the request to its first token, and prompt tokens that were known by then."""

    first_seconds: float
    num_known: int
    num_prompt_tokens: int


def enlarged(film: Path, path: Path, width: int, height: int) -> Path:
    """The same film in other pixels."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream("libx264", rate=video.average_rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in source.decode(video):
            target.mux(stream.encode(frame.reformat(width, height, "yuv420p")))
        target.mux(stream.encode())
    return path


def ask(client: httpx.Client, film: Path, text: str, max_tokens: int) -> Asked:
    body = question(film, text, max_tokens=max_tokens, stream=True, stream_options={"include_usage": True})
    begun, first, usage = time.monotonic(), 0.0, {}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                if not first and any(choice["delta"].get("content") for choice in chunk["choices"]):
                    first = time.monotonic() - begun
                usage = chunk.get("usage") or usage
    return Asked(first, usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m specvlm.serve.measuring.questions", description=__doc__)
    parser.add_argument("--pair", nargs="*", default=[], metavar="MODEL", help="TARGET and DRAFT (default: pocket)")
    parser.add_argument("--size", type=int, nargs=2, default=(1920, 1080), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--tokens", type=int, default=16, help="tokens of each answer")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    how = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, serving(*how.pair) as address:
        small, other = (pocket.demo_video(Path(folder) / f"{number}.mp4", number) for number in range(2))
        film = enlarged(small, Path(folder) / "large.mp4", *how.size)
        with httpx.Client(base_url=address, timeout=600, trust_env=False) as client:
            ask(client, other, QUESTIONS[0], how.tokens)  # a server's first answer of all is slow
            asked = [ask(client, film, text, how.tokens) for text in QUESTIONS]
    for number, each in enumerate(asked, 1):
        log.info("question %2d: first token after %.3f s, %d of %d prompt tokens known", number, *asdict(each).values())
    first, later = asked[0].first_seconds, [each.first_seconds for each in asked[1:]]
    told = (100 * statistics.median(later) / first, 100 * max(later) / first)
    log.info("questions 2 to %d: %.1f %% of the first in the median, %.1f %% at most", len(asked), *told)
    if how.json:
        sys.stdout.write(json.dumps([asdict(each) for each in asked]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
