"""Over a real connection: the client that people have; clients that go away, read or send slowly; and a queue."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

from serving import CHAT, Fixture, about, listening, text_of, until, video
from specvlm.engine.loop import decode
from specvlm.serve.app import create_app
from specvlm.serve.service import Service


@pytest.fixture(scope="module")
def address(served: Fixture) -> Iterator[str]:
    with listening(served.app) as found:
        yield found


def _messages(served: Fixture) -> Any:
    return about(video(served.data))["messages"]


def test_the_client_of_openai_is_answered(served, address):
    expected = served.vlm.generate(served.film, "Describe the video in detail.", max_new_tokens=12, temperature=0.0)
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["pocket"]
        asked = {"model": "pocket", "messages": _messages(served), "max_tokens": 12, "temperature": 0}
        whole = client.chat.completions.create(**asked, extra_body={"specvlm": {"pruning_ratio": 0.9}})
        assert whole.choices[0].message.content == expected.text
        assert whole.usage.completion_tokens == len(expected.token_ids)
        assert whole.specvlm["num_kept"] < whole.specvlm["num_video_tokens"]
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected.text
        assert chunks[-1].usage.completion_tokens == len(expected.token_ids)
        with pytest.raises(openai.BadRequestError, match="logprobs is not supported here"):
            client.chat.completions.create(**asked, logprobs=True)
        with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4' here"):
            client.chat.completions.create(**asked | {"model": "gpt-4"})


def test_its_asynchronous_client_is_answered_side_by_side(served, address):
    async def asked() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client:

            async def ask(stream: bool) -> str:
                how: Any = {"model": "pocket", "messages": _messages(served), "max_tokens": 12, "temperature": 0}
                if not stream:
                    return (await client.chat.completions.create(**how)).choices[0].message.content or ""
                pieces = await client.chat.completions.create(**how, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in pieces])

            return await asyncio.gather(*(ask(number % 2 == 0) for number in range(4)))

    assert len(set(asyncio.run(asked()))) == 1


def test_curl_is_answered(served, address):
    curl = shutil.which("curl")
    assert curl is not None
    body = json.dumps(about(video(served.film.as_uri())))
    command = [curl, "-sN", f"{address}{CHAT}", "-H", "Content-Type: application/json", "-d", body]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert said["usage"]["completion_tokens"] == 12


@pytest.fixture
def rounds(monkeypatch) -> list[float]:
    """When each round of decoding was played, no two of them in less than a twentieth of a second."""
    played: list[float] = []

    def slowly(*args: Any) -> Any:
        for tokens in decode(*args):
            played.append(time.monotonic())
            time.sleep(0.05)
            yield tokens

    monkeypatch.setattr("specvlm.answering.request.decode", slowly)
    return played


SLOW = {"tree": "chain", "depth": 1}
"""An answer of many rounds."""


def _connection(address: str, body: dict[str, Any]) -> socket.socket:
    """One that has sent a request, and reads nothing by itself."""
    host, _, port = address.removeprefix("http://").partition(":")
    content = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n"
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(head.encode() + content)
    return connection


def _idle(served: Fixture) -> bool:
    service = served.service
    return service.num_running == service.num_waiting == 0 and service.budget.nbytes == 0


@pytest.mark.parametrize("stream", [True, False])
def test_who_goes_away_stops_the_answer_within_a_round(served, address, rounds, stream):
    body = about(video(served.data), stream=stream, max_tokens=64, specvlm=SLOW)
    connection = _connection(address, body)
    until(lambda: len(rounds) >= 2)
    connection.close()
    until(lambda: _idle(served))
    assert len(rounds) < 20  # of about 40
    assert text_of(httpx.post(address + CHAT, json=about(video(served.data)), timeout=60))


def test_who_waits_and_goes_away_never_has_a_turn(served, address, rounds):
    first = _connection(address, about(video(served.data), stream=True, max_tokens=64, specvlm=SLOW))
    until(lambda: len(rounds) >= 1)
    second = _connection(address, about(video(served.data), max_tokens=64, specvlm=SLOW))
    until(lambda: served.service.num_waiting == 1)
    second.close()
    until(lambda: served.service.num_waiting == 0)
    assert served.service.num_running == 1
    first.close()
    until(lambda: _idle(served))


def test_a_slow_reader_holds_nobody_up(served, address):
    slow = _connection(address, about(video(served.data), stream=True, max_tokens=64, specvlm={"trace": True} | SLOW))
    try:
        for _ in range(2):
            assert text_of(httpx.post(address + CHAT, json=about(video(served.data)), timeout=60))
        until(lambda: served.service.num_running == 0)
    finally:
        slow.close()
    until(lambda: _idle(served))


def test_a_slow_sender_holds_nobody_up_and_is_told_so(served, address):
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n{{".encode())
        assert text_of(httpx.post(address + CHAT, json=about(max_tokens=1), timeout=60))
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
    until(lambda: _idle(served))


def test_a_full_queue_says_when_to_come_back(served, address, rounds):
    body = about(video(served.data), stream=True, max_tokens=64, specvlm=SLOW)
    settings = served.service.settings
    waiting = [_connection(address, body) for _ in range(settings.max_waiting + settings.parallel)]
    try:
        until(lambda: served.service.num_waiting == settings.max_waiting)
        refused = httpx.post(address + CHAT, json=about(max_tokens=1), timeout=60)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["code"] == "queue_full"
    finally:
        for connection in waiting:
            connection.close()
    until(lambda: _idle(served))
    assert text_of(httpx.post(address + CHAT, json=about(video(served.data)), timeout=60))


def test_what_is_held_at_once_is_bounded(served, address, monkeypatch):
    monkeypatch.setattr(served.service.budget, "max_bytes", 1000)
    refused = httpx.post(address + CHAT, json=about(video(served.data)), timeout=60)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_busy")
    assert text_of(httpx.post(address + CHAT, json=about(max_tokens=1), timeout=60))


def test_an_answer_that_takes_too_long_ends(served, address, rounds, monkeypatch):
    monkeypatch.setattr(served.service, "settings", replace(served.service.settings, request_seconds=1.0))
    body = about(video(served.data), max_tokens=64, specvlm=SLOW)
    late = httpx.post(address + CHAT, json=body, timeout=60)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
    with httpx.stream("POST", address + CHAT, json=body | {"stream": True}, timeout=60) as response:
        said = response.read().decode()
    assert response.status_code == 504 or '"code":"timeout"' in said
    until(lambda: _idle(served))


def test_shutting_down_ends_what_is_answered(served, rounds):
    service = Service(served.vlm, replace(served.service.settings))
    other = replace(served, service=service, app=create_app(service, service.settings))
    with listening(other.app, lifespan="on") as found:
        connection = _connection(found, about(video(served.data), stream=True, max_tokens=64, specvlm=SLOW))
        until(lambda: len(rounds) >= 1)
        begun = threading.active_count()
    connection.close()
    assert threading.active_count() < begun
    assert service.num_running == 0
    assert len(rounds) < 40
