"""What tests of serving share: requests, and ways to send them without a network or over a real one."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

from specvlm.pipeline import SpecVLM
from specvlm.serve.service import Service

MIB = 2**20
QUESTION = "Describe the video in detail."
CHAT = "/v1/chat/completions"
T = TypeVar("T")


@dataclass(frozen=True)
class Fixture:
    """A service behind an app, and a film that it may be asked about."""

    vlm: SpecVLM
    service: Service
    app: FastAPI
    film: Path

    @property
    def data(self) -> str:
        return data(self.film)

    def ask(self, body: Any, **headers: str | bytes) -> httpx.Response:
        """Without a network. `body` is sent as JSON, or as the bytes that it is."""
        return together([self.asked(body, **headers)])[0]

    async def asked(self, body: Any, **headers: str | bytes) -> httpx.Response:
        async with self.client() as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(CHAT, content=content, headers={"content-type": "application/json", **headers})

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test", timeout=120)


def together(asked: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All at once, in an event loop of their own."""

    async def gathered() -> list[T]:
        return list(await asyncio.gather(*asked))

    return asyncio.run(gathered())


def data(film: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(film.read_bytes()).decode()


def video(address: Any, **more: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": address}, **more}


def about(*parts: Any, question: str = QUESTION, **options: Any) -> dict[str, Any]:
    """A greedy question about some parts."""
    content = [*parts, {"type": "text", "text": question}]
    return {"messages": [{"role": "user", "content": content}], "temperature": 0.0, "max_tokens": 12} | options


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def events(response: httpx.Response) -> list[Any]:
    """What server-sent events hold, and the word that ends them."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


@contextmanager
def listening(app: FastAPI, lifespan: Any = "off") -> Iterator[str]:
    """The app behind a real server on loopback: its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1, lifespan=lifespan)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def until(true: Any, seconds: float = 60) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.01)


def streamed(address: str, body: Any, **headers: str) -> str | None:
    """What is told of an answer over the network; None where it doesn't come to its end."""
    said = ""
    try:
        asked: Any = {"json": body | {"stream": True}, "headers": headers, "timeout": 120}
        with httpx.stream("POST", address + CHAT, **asked) as response:
            for line in response.iter_lines() if response.status_code == 200 else ():
                if line == "data: [DONE]":
                    return said
                if line.startswith("data: "):
                    said += json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") or ""
    except httpx.HTTPError:
        pass
    return None


@dataclass
class Asking:
    """Clients that ask one thing each, again and again, and what came of it."""

    answered: list[float] = field(default_factory=list)
    """When it was asked."""
    wrong: list[str] = field(default_factory=list)
    lost: list[tuple[str, float]] = field(default_factory=list)
    """What had no answer, by its name, and when it was asked."""
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going_on(self, each: int, asked: dict[str, tuple[Callable[[], str | None], str]]) -> Iterator[None]:
        """While the block runs, so many clients ask each of these, of which the right answers are known."""
        threads = [threading.Thread(target=self._ask, args=(name, *asked[name])) for name in asked for _ in range(each)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _ask(self, name: str, ask: Callable[[], str | None], expected: str) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            said = ask()
            if said is None:
                self.lost.append((name, begun))
            elif said != expected:
                self.wrong.append(said)
            else:
                self.answered.append(begun)

    def require_lost_by_one(self, each: int, killed: float) -> None:
        """That one of two servers died at that time, and took what it had with it: no more, and nothing later."""
        assert self.wrong == []
        assert 1 <= len(self.lost) <= each, self.lost
        assert len({name for name, _ in self.lost}) == 1
        assert all(begun < killed for _, begun in self.lost)
