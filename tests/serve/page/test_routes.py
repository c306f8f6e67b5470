"""The page without a browser: what it loads, what it may, and what is told of a video."""

from __future__ import annotations

import base64
import io
import re

import httpx
import numpy as np
from PIL import Image

from browsing import outside_requests
from serving import Fixture, about, together, video
from specvlm import pocket
from specvlm.explain.places import sights
from specvlm.pocket import lamp
from specvlm.pocket.world import make_scene
from specvlm.serve.page.document import policy
from specvlm.video import load


def get(served: Fixture, path: str) -> httpx.Response:
    async def got() -> httpx.Response:
        async with served.client() as client:
            return await client.get(path)

    return together([got()])[0]


def frames(served: Fixture, body: object) -> httpx.Response:
    async def got() -> httpx.Response:
        async with served.client() as client:
            return await client.post("/frames", json=body)

    return together([got()])[0]


def test_the_page_is_one_document_that_loads_nothing(served: Fixture):
    response = get(served, "/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert outside_requests(response.text) == []
    assert "Target: pocket-llava_onevision, its target, draft: pocket-llava_onevision, its draft, on" in response.text


def test_its_policy_allows_what_stands_in_it_and_its_server_alone(served: Fixture):
    response = get(served, "/")
    rules = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert rules.pop("default-src") == "'none'"
    assert all(re.fullmatch(r"'sha256-[\w+/]{43}='", rules.pop(kind)) for kind in ("script-src", "style-src"))
    nowhere = dict.fromkeys(("base-uri", "form-action", "frame-ancestors"), "'none'")
    assert rules == {"img-src": "data:", "media-src": "blob:", "connect-src": "'self'"} | nowhere
    changed = response.text.replace('"use strict"', '"use sloppy"')
    assert policy(changed) != policy(response.text) == response.headers["content-security-policy"]
    assert not re.search(r"\s(style|on\w+)=", response.text)  # which the policy would refuse


def test_the_demo_film_is_one_that_the_embedded_pair_knows(served: Fixture):
    response = get(served, "/demo-film")
    assert response.headers["content-type"] == "video/mp4"
    film = load(response.content)
    assert film.comment == pocket.SIGNED
    shown = lamp.render(make_scene(pocket.HELD_OUT[pocket.FILMED]), film.indices / film.total_frames, 432)
    assert np.abs(film.frames.astype(int) - shown).mean() < 3


def test_frames_are_those_that_the_model_looks_at(served: Fixture):
    told = frames(served, about(video(served.data))).json()
    clip = served.vlm.load_video(served.film)
    assert told["warning"] is None
    assert len(told["frames"]) == len(clip.frames)
    assert [frame["seconds"] for frame in told["frames"]] == list(clip.timestamps)
    numbers = np.concatenate([np.ravel(frame["tokens"]) for frame in told["frames"]])
    assert sorted(numbers) == list(range(told["num_tokens"] - 1))  # the last one is a newline, which has no place
    for frame, pixels in zip(told["frames"], clip.frames, strict=True):
        kind, _, content = frame["picture"].partition(";base64,")
        assert kind == "data:image/jpeg"
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        shrunk = Image.fromarray(pixels).resize(picture.size)
        assert np.abs(np.asarray(picture, int) - np.asarray(shrunk, int)).mean() < 4


def test_a_film_of_another_world_is_told_of(served: Fixture, tmp_path):
    strange = tmp_path / "strange.mp4"
    strange.write_bytes(served.film.read_bytes().replace(b"pocket world", b"larger world"))
    encoded = "data:video/mp4;base64," + base64.b64encode(strange.read_bytes()).decode()
    assert "toy" in frames(served, about(video(encoded))).json()["warning"]


def test_what_is_no_question_about_one_video_is_refused(served: Fixture):
    film = video(served.data)
    refused = [
        frames(served, body) for body in (about(), about(film, film), about(video("data:video/mp4;base64,AAAA")))
    ]
    assert [response.status_code for response in refused] == [400, 400, 400]
    assert refused[0].json()["error"]["message"] == "one video is looked at here, not 0"
    assert refused[1].json()["error"]["message"] == "one video is looked at here, not 2"
    assert all("frames" not in response.json() for response in refused)


def test_tokens_of_frames_that_are_taken_as_one_lie_on_both(served: Fixture):
    clip = load(np.zeros((5, 32, 64, 3), np.uint8))
    prompt = served.vlm.target.prepare([clip], "what?")
    assert [len(sight.frames) for sight in sights(clip, prompt)] == [1] * 5
    assert {sight.tokens.shape for sight in sights(clip, prompt)} == {(3, 3)}
