"""Other people's clients: they bring much with them, and so have an environment of their own (`make clients`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from serving import QUESTION, Fixture, about, listening, video

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("default")]  # they warn of each other, and of themselves

ANSWER = {"max_new_tokens": 12, "temperature": 0.0}


@pytest.fixture(scope="module")
def address(served: Fixture) -> Iterator[str]:
    assert find_spec("litellm"), "make clients"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it fetches one
    with listening(served.app) as found:
        yield f"{found}/v1"


@pytest.fixture
def messages(served: Fixture) -> Any:
    return about(video(served.data))["messages"]


def right(served: Fixture, **options: Any) -> str:
    return served.vlm.generate(served.film, QUESTION, **ANSWER | options).text


def test_langchain_openai(served, address, messages):
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(
        base_url=address, api_key="any", model="pocket", temperature=0, max_tokens=12, max_retries=0, stream_usage=True
    )
    said = chat.invoke(messages)
    assert said.content == right(served)
    assert said.usage_metadata["output_tokens"] == 12
    pieces = list(chat.stream(messages))
    assert "".join(piece.content for piece in pieces) == right(served)
    assert sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata) == 12
    drawn = ChatOpenAI(base_url=address, api_key="any", model="pocket", temperature=4, seed=5, max_tokens=12)
    assert drawn.invoke(messages).content == right(served, temperature=4.0, seed=5)
    with pytest.raises(Exception, match="logprobs is not supported here"):
        chat.bind(logprobs=True).invoke(messages)


def test_litellm(served, address, messages):
    import litellm

    how: Any = {"model": "openai/pocket", "base_url": address, "api_key": "any", "max_tokens": 12, "num_retries": 0}
    said = litellm.completion(messages=messages, temperature=0, **how)
    assert said.choices[0].message.content == right(served)
    assert said.usage.completion_tokens == 12
    pieces = litellm.completion(messages=messages, temperature=0, stream=True, **how)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == right(served)
    with pytest.raises(litellm.BadRequestError, match="logprobs is not supported here"):
        litellm.completion(messages=messages, logprobs=True, **how)
