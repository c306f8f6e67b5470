"""Many clients at once, some of whom hang up: `python -m specvlm.serve.measuring.load`.

Each client asks, waits for its answer and asks again; some go away in the middle of one, some read slowly, and some
send slowly. Every answer is compared with that of stock generate, by the same server. Then all of it once more: memory
may not have grown by then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from specvlm import pocket
from specvlm.serve.measuring.serving import figure, question, serving
from specvlm.serve.settings import Settings

log = logging.getLogger("specvlm.serve.measuring.load")

QUESTIONS = ("Describe the video in detail.", "How many shapes are there?", "Which shape moves?")
NUM_FILMS = 4
MAX_TOKENS = 24
SETTLE_SECONDS = 3.0
SLOW_PIECES, SLOW_PAUSE = 20, 0.1
"""What slow senders send a request in, and seconds behind each piece, or each line that a slow reader has read."""
MAX_WAITING = Settings.max_waiting
MAX_PAUSE = 2.0
"""Seconds that a client waits when it was told to come back."""


@dataclass(frozen=True)
class Case:
    """A request, and the answer that is right."""

    body: dict[str, Any]
    text: str


@dataclass
class Wave:
    """What came of one wave. Seconds are those of answers that were waited for, by clients that aren't slow."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    most_waiting: int = 0
    resident_bytes: int = 0
    """Of the server, when all was quiet again."""

    def line(self) -> str:
        """For people."""
        told = [f"{number} {what}" for what, number in sorted(self.counts.items())]
        for name, seconds in (("answer", self.seconds), ("first token", self.first_seconds)):
            if len(seconds) > 1:
                cuts = statistics.quantiles(seconds, n=20)
                told.append(f"{name} after {cuts[9]:.2f} s (p50), {cuts[18]:.2f} s (p95)")
        told += [f"{self.most_waiting} of {MAX_WAITING} places in the queue were taken at most"]
        told += [f"{self.resident_bytes / 2**20:.0f} MiB resident afterwards"]
        return "; ".join(told)


async def _cases(client: httpx.AsyncClient, films: list[Path]) -> list[Case]:
    """By stock generate, one after another."""
    cases = []
    for film in films:
        for text in QUESTIONS:
            body = question(film, text, max_tokens=MAX_TOKENS)
            said = await client.post("/v1/chat/completions", json=body | {"specvlm": {"arm": "ar"}})
            cases.append(Case(body, said.raise_for_status().json()["choices"][0]["message"]["content"]))
    return cases


async def _sent(content: bytes, *, slowly: bool) -> AsyncIterator[bytes]:
    step = -(-len(content) // SLOW_PIECES) if slowly else len(content)
    for start in range(0, len(content), step):
        yield content[start : start + step]
        if slowly:
            await asyncio.sleep(SLOW_PAUSE)


async def _ask(
    client: httpx.AsyncClient, case: Case, wave: Wave, draws: random.Random, how: argparse.Namespace
) -> None:
    begun, said, first = time.monotonic(), "", 0.0
    leaves_after = draws.randrange(1, 8) if draws.random() < how.hang_ups else None
    reads_slowly, sends_slowly = (draws.random() < how.slow for _ in range(2))
    body = json.dumps(case.body | {"stream": True}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    content = _sent(body, slowly=sends_slowly)
    async with client.stream("POST", "/v1/chat/completions", content=content, headers=headers) as response:
        if response.status_code == 429:
            wave.counts["told to come back"] += 1
            await asyncio.sleep(min(MAX_PAUSE, float(response.headers["retry-after"])) * draws.random())
            return
        if response.status_code != 200:
            wave.counts[f"refused with {response.status_code}"] += 1
            return
        events = 0
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            events += 1
            if events == leaves_after:
                wave.counts["hung up"] += 1
                return
            if reads_slowly:
                await asyncio.sleep(SLOW_PAUSE)
            for choice in json.loads(line.removeprefix("data: ")).get("choices", []):
                piece = choice["delta"].get("content") or ""
                first = first or (time.monotonic() - begun if piece else 0.0)
                said += piece
    wave.counts["answered" if said == case.text else "WRONG"] += 1
    if reads_slowly or sends_slowly:
        wave.counts["of them to slow clients"] += 1
        return
    wave.seconds.append(time.monotonic() - begun)
    wave.first_seconds.append(first)


async def _wave(client: httpx.AsyncClient, cases: list[Case], seed: int, how: argparse.Namespace) -> Wave:
    wave, end = Wave(), time.monotonic() + how.seconds

    async def one(number: int) -> None:
        draws = random.Random(1000 * seed + number)
        while time.monotonic() < end:
            try:
                await _ask(client, draws.choice(cases), wave, draws, how)
            except httpx.HTTPError as error:
                wave.counts[f"failed with {type(error).__name__}"] += 1

    async def watch() -> None:
        while True:
            page = (await client.get("/metrics")).text
            wave.most_waiting = max(wave.most_waiting, int(figure(page, "vllm:num_requests_waiting")))
            await asyncio.sleep(1.0)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(one(number) for number in range(how.clients)))
    watching.cancel()
    await asyncio.sleep(SETTLE_SECONDS)
    wave.resident_bytes = int(figure((await client.get("/metrics")).text, "specvlm:resident_bytes"))
    return wave


async def _waves(address: str, films: list[Path], how: argparse.Namespace) -> list[Wave]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=600, limits=limits, trust_env=False) as client:
        cases, waves = await _cases(client, films), []
        for number in range(how.waves):
            waves.append(await _wave(client, cases, number, how))
            log.info("wave %d: %s", number + 1, waves[-1].line())
    return waves


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m specvlm.serve.measuring.load", description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long each wave lasts")
    parser.add_argument("--waves", type=int, default=2)
    parser.add_argument("--hang-ups", type=float, default=0.1, help="the share of answers that are left in the middle")
    parser.add_argument("--slow", type=float, default=0.05, help="the share of requests that are read slowly, or sent")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    how = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, serving() as address:
        films = [pocket.demo_video(Path(folder) / f"{number}.mp4", number) for number in range(NUM_FILMS)]
        waves = asyncio.run(_waves(address, films, how))
    growth = waves[-1].resident_bytes / waves[0].resident_bytes - 1
    wrong = sum(wave.counts["WRONG"] for wave in waves)
    too_many = max(wave.most_waiting for wave in waves) > MAX_WAITING
    log.info("%d wrong answers; memory after the last wave %+.1f %% of that after the first", wrong, 100 * growth)
    if how.json:
        sys.stdout.write(json.dumps([asdict(wave) for wave in waves]) + "\n")
    return int(wrong > 0 or too_many)


if __name__ == "__main__":
    raise SystemExit(main())
