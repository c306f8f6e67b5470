"""Requests drawn at random, near to right ones and far from them: each is answered or refused, and none fails."""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving import CHAT, about, together, until, video
from specvlm.serve.requests.schema import ChatRequest

WORDS = st.text(max_size=8) | st.sampled_from(
    ["user", "assistant", "system", "text", "video_url", "data:", "file:///a"]
)
ODD = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8
)
PATHS = (
    *("/", "/demo-film", "/frames", "/health", "/metrics", "/openapi.json", "/v1/models", "/v1/models/{name}"),
    *(CHAT, "/nowhere"),
)
NAMES = st.sampled_from(sorted(ChatRequest.model_fields))
PLACES = st.sampled_from(
    [
        ("messages",), ("messages", 0), ("messages", 0, "role"), ("messages", 0, "content"),
        ("messages", 0, "content", 0), ("messages", 0, "content", 0, "type"),
        ("messages", 0, "content", 0, "video_url"), ("messages", 0, "content", 0, "fps"),
        ("messages", 0, "content", 1, "text"), ("specvlm",), ("specvlm", "tree"), ("specvlm", "pruner"),
        ("specvlm", "depth"), ("specvlm", "plan"), ("specvlm", "arm"), ("media_io_kwargs",),
        ("mm_processor_kwargs",), ("stream_options",),
    ]
)  # fmt: skip
NEAR = {
    "temperature": st.floats(0, 3), "top_p": st.floats(0, 1.2), "top_k": st.integers(-2, 50), "min_p": st.floats(0, 1),
    "seed": st.integers(-2, 2**64), "max_tokens": st.integers(0, 4), "stop": st.lists(st.text(max_size=3), max_size=3),
    "repetition_penalty": st.floats(0.5, 2), "stream": st.booleans(), "n": st.integers(0, 2),
    "media_io_kwargs": st.fixed_dictionaries({"video": st.fixed_dictionaries({"num_frames": st.integers(0, 70)})}),
    "mm_processor_kwargs": st.dictionaries(st.sampled_from(["fps", "size"]), st.integers(0, 9), max_size=1),
    "specvlm": st.fixed_dictionaries(
        {},
        optional={
            "arm": st.sampled_from(["ar", "specvlm"]), "trace": st.booleans(), "depth": st.integers(0, 4),
            "tree": st.sampled_from(["chain", "paper", "dynamic", [[0], [0, 1]], [[5]]]),
            "pruning_ratio": st.floats(-0.1, 1.1), "pruner": st.sampled_from(["frames", "uniform", "no("]),
            "positions": st.sampled_from(["compact", "original"]), "vision": st.sampled_from(["full", "shared"]),
        },
    ),
}  # fmt: skip


@st.composite
def requests(draw: Any, address: str) -> dict[str, Any]:
    """A right request, some fields of which are other ones, and some places of which hold anything."""
    body: dict[str, Any] = deepcopy(about(*draw(st.lists(st.just(video(address)), max_size=1)), max_tokens=2))
    for name in draw(st.lists(st.sampled_from(sorted(NEAR)), max_size=3)):
        body[name] = draw(NEAR[name])
    if draw(st.booleans()):
        body[draw(NAMES)] = draw(JSON)
    if draw(st.booleans()):
        _put(body, draw(PLACES), draw(JSON))
    return body


def _put(body: Any, place: tuple[Any, ...], value: Any) -> None:
    for step, following in pairwise(place):
        if isinstance(body, dict):
            body = body.setdefault(step, [] if isinstance(following, int) else {})
        elif isinstance(body, list) and isinstance(step, int) and step < len(body):
            body = body[step]
        else:
            return
    if isinstance(body, dict) or (isinstance(body, list) and isinstance(place[-1], int) and place[-1] < len(body)):
        body[place[-1]] = value


@st.composite
def places(draw: Any) -> tuple[str, str]:
    """A method and a path: mostly those that a question goes to, else any of what there is, or of what isn't."""
    if draw(st.integers(0, 3)):
        return "POST", CHAT
    path = draw(st.sampled_from(PATHS))
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]))
    return method, path.replace("{name}", quote(draw(st.text(max_size=9)), safe=""))


def _none_fails(served: Any, number: int) -> None:
    statuses: Counter[tuple[str, int]] = Counter()

    async def send(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        async with served.client() as client:
            return await client.request(method, path, content=json.dumps(body).encode())

    @settings(max_examples=number, database=None, suppress_health_check=list(HealthCheck))
    @given(places(), requests(served.data))
    def sent(place: tuple[str, str], body: dict[str, Any]) -> None:
        [response] = together([send(*place, body)])
        until(lambda: served.service.num_running == 0)  # what still works would draw from Python's random, as we do
        statuses[place[1], response.status_code] += 1
        assert response.status_code < 500, (place, body, response.text)
        if response.status_code != 200 and place[0] != "HEAD":
            assert "\n" not in response.json()["error"]["message"]

    sent()
    assert statuses.total() >= number
    assert {(CHAT, 200), (CHAT, 400)} <= statuses.keys()
    assert number < 1000 or {path for path, _ in statuses} >= {path for path in PATHS if "{" not in path}


def test_no_request_makes_the_server_fail(served):
    _none_fails(served, 60)


@pytest.mark.slow
def test_none_of_two_thousand_requests_makes_the_server_fail(served):
    _none_fails(served, 2000)
