"""What is asked over HTTP gets the answer that `SpecVLM.generate` gives, however the video comes."""

from __future__ import annotations

import base64
import io
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tiny
import video_zoo as zoo
from serving import QUESTION, Fixture, about, data, events, text_of, together, video
from specvlm import pocket
from specvlm import video as videos
from specvlm.answering.answer import Generation
from specvlm.answering.feature_cache import FeatureCache
from specvlm.engine.loop import decode
from specvlm.pipeline import SpecVLM
from specvlm.prompts.lead import Slot
from specvlm.serve.app import create_app
from specvlm.serve.service import Service
from specvlm.serve.settings import Settings

FORMS: dict[str, Callable[[Fixture], Any]] = {
    "video_url": lambda served: video(served.data),
    "video_url as a string": lambda served: {"type": "video_url", "video_url": served.data},
    "input_video with data": lambda served: {
        "type": "input_video",
        "input_video": {"data": served.data.partition(",")[2], "format": "mp4"},
    },
    "input_video with an address": lambda served: {"type": "input_video", "video_url": served.data},
    "video": lambda served: {"type": "video", "video": served.data},
    "file": lambda served: {"type": "file", "file": {"file_data": served.data, "filename": "film.mp4"}},
    "file in the folder": lambda served: video(served.film.as_uri()),
}


def right(served: Fixture, source: Any = None, **options: Any) -> Generation:
    return served.vlm.generate(source or served.film, QUESTION, **{"max_new_tokens": 12, "temperature": 0.0} | options)


@pytest.mark.parametrize("form", FORMS)
def test_each_way_of_giving_a_video_is_understood(served, form):
    response = served.ask(about(FORMS[form](served)))
    expected = right(served)
    assert text_of(response) == expected.text
    told = response.json()
    assert told["usage"]["completion_tokens"] == len(expected.token_ids)
    assert told["usage"]["prompt_tokens_details"]["video_tokens"] == expected.stats.num_video_tokens
    assert "warning" not in told["specvlm"]


def test_what_a_file_lacks_is_told_and_who_reads_it_may_be_asked(served, tmp_path):
    spoiled = zoo.remux(served.film, tmp_path / "spoiled.mp4", zoo.garbled([40]))
    for backend in ("auto", "straight"):
        clip = served.vlm.load_video(spoiled, video_backend=backend)
        told = served.ask(about(video(data(spoiled)), specvlm={"video_backend": backend}))
        assert text_of(told) == right(served, replace(clip, comment=pocket.SIGNED)).text
        assert "can't be decoded" in clip.damage
        [damage] = told.json()["specvlm"]["damage"]
        assert damage.endswith(f": {clip.damage}")
    again = served.ask(about(video(data(spoiled)), question="Why?", specvlm={"video_backend": "straight"}))
    assert again.json()["specvlm"]["damage"] == [damage]
    assert "damage" not in served.ask(about(video(served.data))).json()["specvlm"]


def test_drawn_answers_are_the_same_for_a_seed(served):
    options = {"temperature": 4.0, "top_p": 0.99, "top_k": 40, "seed": 5, "repetition_penalty": 1.1}
    response = served.ask(about(video(served.data), **options))
    assert text_of(response) == right(served, **options).text != right(served).text


def test_both_arms_say_the_same_and_only_one_guesses(served):
    said = [served.ask(about(video(served.data), specvlm={"arm": arm})).json() for arm in ("specvlm", "ar")]
    assert len({each["choices"][0]["message"]["content"] for each in said}) == 1
    assert [each["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] > 0 for each in said] == [
        True,
        False,
    ]
    assert said[0]["specvlm"]["mean_acceptance_length"] > 1 == said[1]["specvlm"]["mean_acceptance_length"]


@pytest.mark.parametrize("arm", ["specvlm", "ar"])
def test_a_stream_has_its_role_first_then_text_then_reason_usage_and_done(served, arm):
    body = about(video(served.data), stream=True, stream_options={"include_usage": True}, specvlm={"arm": arm})
    *chunks, done = events(served.ask(body))
    assert done == "[DONE]"
    first, *texts, last, usage = chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    expected = right(served)
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in texts) == expected.text
    assert all(chunk["choices"][0]["finish_reason"] is None and chunk["usage"] is None for chunk in texts)
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "length")
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], len(expected.token_ids))
    assert len({(chunk["id"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1


def test_a_trace_says_how_each_token_came(served):
    chunks = events(
        served.ask(about(video(served.data), stream=True, max_tokens=20, specvlm={"trace": True, "pruning_ratio": 0.9}))
    )[:-1]
    pieces = [piece for chunk in chunks for piece in chunk.get("specvlm", {}).get("pieces", [])]
    expected = right(served, max_new_tokens=20)
    assert "".join(piece["text"] for piece in pieces) == expected.text
    told = chunks[-1]["specvlm"]
    assert len(told["kept"]) == told["num_kept"] < told["num_video_tokens"] == expected.stats.num_video_tokens
    counts = Counter(piece["how"] for piece in pieces)
    assert counts["target"] == told["rounds"] + 1
    assert counts["draft"] + counts["target"] == len(expected.token_ids)
    assert counts["draft"] > 0


def test_without_usage_and_trace_a_stream_says_neither(served):
    chunks = events(served.ask(about(video(served.data), stream=True)))[:-1]
    assert all("usage" not in chunk for chunk in chunks)
    assert all("pieces" not in chunk.get("specvlm", {}) for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_a_conversation_is_asked_as_it_was_led(served):
    first = right(served)
    turns = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}, video(served.data)]},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "What moves?"},
    ]
    expected = served.vlm.generate(
        served.film, "What moves?", max_new_tokens=12, temperature=0.0,
        system="You are terse.", history=(("", first.text),), lead=(QUESTION, Slot.VIDEO),
    )  # fmt: skip
    assert text_of(served.ask(about() | {"messages": turns})) == expected.text


def test_text_stands_where_it_was_sent(served):
    """By stock template, processor and generate, which are told nothing but the messages."""
    before, behind = "Look at this:", "What moves?"
    for texts in ((before, behind), (before,)):
        content = [{"type": "text", "text": text} for text in texts]
        content.insert(1, video(served.data))
        request = about() | {"messages": [{"role": "user", "content": content}]}
        processor, model = served.vlm.target.processor, served.vlm.target.model
        message = {"role": "user", "content": [{"type": "video"} if "text" not in each else each for each in content]}
        text = processor.apply_chat_template([message], add_generation_prompt=True)
        frames = served.vlm.load_video(served.film).tensor()
        inputs = processor(text=[text], videos=[frames], do_sample_frames=False, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert text_of(served.ask(request)) == processor.decode(tokens, skip_special_tokens=True)


def test_images_that_are_frames_stand_together(served):
    encoded, _ = stills(served)
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{each}"}} for each in encoded[:2]]
    parts.insert(1, {"type": "text", "text": "and then"})
    refused = served.ask(about(*parts, specvlm={"images_as_frames": True}))
    assert refused.status_code == 400
    assert "there may be nothing else" in refused.json()["error"]["message"]


def test_text_alone_is_answered(served):
    expected = served.vlm.generate(None, QUESTION, max_new_tokens=12, temperature=0.0)
    assert text_of(served.ask(about())) == expected.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_an_answer_and_is_not_shown(served, stream):
    whole = right(served, max_new_tokens=40).text
    stop = whole.split()[5]
    shown = whole[: whole.index(stop)]
    response = served.ask(about(video(served.data), stop=[stop, "never said"], max_tokens=40, stream=stream))
    if stream:
        chunks = events(response)[:-1]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == shown
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        assert text_of(response) == shown
        assert response.json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "given",
    [
        {"media_io_kwargs": {"video": {"num_frames": 3}}},
        {"mm_processor_kwargs": {"num_frames": 3}},
        {"specvlm": {"num_frames": 3}},
        {"max_completion_tokens": 12, "max_tokens": None, "specvlm": {"num_frames": 3}, "unheard_of": {"a": 1}},
    ],
)
def test_how_many_frames_are_looked_at_may_be_said_in_each_of_these_ways(served, given):
    response = served.ask(about(video(served.data), **given))
    expected = right(served, num_frames=3)
    assert text_of(response) == expected.text
    assert response.json()["usage"]["prompt_tokens_details"]["video_tokens"] == expected.stats.num_video_tokens


def test_a_part_says_how_its_frames_are_chosen(served):
    few, most = (
        served.ask(about(video(served.data, fps=8, **bound))).json()["usage"]["prompt_tokens_details"]["video_tokens"]
        for bound in ({"max_frames": 2}, {})
    )
    assert few < most == right(served, fps=8.0).stats.num_video_tokens


def stills(served: Fixture) -> tuple[list[str], list[Any]]:
    """Some frames of the film, as JPEGs."""
    frames = videos.load(served.film, num_frames=4).frames
    files = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG")
        files.append(file.getvalue())
    return [base64.b64encode(file).decode() for file in files], files


def test_frames_may_come_as_a_list(served):
    encoded, files = stills(served)
    with pytest.warns(match="toy"):  # that it is none of their films can't be known of frames
        expected = right(served, files)
    bodies = [
        about(video("data:video/jpeg;base64," + ",".join(encoded))),
        about({"type": "video", "video": [f"data:image/jpeg;base64,{each}" for each in encoded]}),
        about(
            *({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{each}"}} for each in encoded),
            specvlm={"images_as_frames": True},
        ),
    ]
    for body in bodies:
        response = served.ask(body)
        assert text_of(response) == expected.text
        assert "toy" in response.json()["specvlm"]["warning"]


@pytest.fixture
def work(served, monkeypatch) -> Counter[str]:
    """How often something was decoded, and looked at."""
    counts: Counter[str] = Counter()
    decoder, family = served.service.decoder, type(served.vlm.target)
    decode, see = type(decoder).video, family.see
    monkeypatch.setattr(type(decoder), "video", lambda *a, **k: counts.update(["decoded"]) or decode(*a, **k))
    monkeypatch.setattr(family, "see", lambda self, prompt: counts.update(["seen"]) or see(self, prompt))
    return counts


def test_ten_questions_decode_see_and_read_the_video_once(served, work, tmp_path):
    film = pocket.demo_video(tmp_path / "other.mp4", 7)
    address = "data:video/mp4;base64," + base64.b64encode(film.read_bytes()).decode()
    questions = [f"What happens {number} seconds into it?" for number in range(10)]
    known = []
    for question in questions:
        response = served.ask(about(video(address), question=question, max_tokens=3))
        assert text_of(response) == served.vlm.generate(film, question, max_new_tokens=3, temperature=0.0).text
        usage = response.json()["usage"]["prompt_tokens_details"]
        known.append(usage["cached_tokens"] >= usage["video_tokens"])
    assert known == [False] + [True] * 9
    assert work["decoded"] == 1
    assert work["seen"] == 1 + len(questions)  # each `generate` to compare with looks by itself


def test_a_uuid_names_a_video_that_was_sent_before(served, work):
    first = served.ask(about(video(served.data, uuid="film-1")))
    work.clear()
    again = served.ask(about({"type": "video_url", "video_url": None, "uuid": "film-1"}))
    assert text_of(again) == text_of(first)
    assert not work
    missing = served.ask(about({"type": "video_url", "uuid": "film-2"}))
    assert missing.status_code == 400
    assert "uuid" in missing.json()["error"]["message"]


def test_a_follow_up_reads_nothing_twice(served):
    first = served.ask(about(video(served.data))).json()
    said = first["choices"][0]["message"]["content"]
    turns = [
        about(video(served.data))["messages"][0],
        {"role": "assistant", "content": said},
        {"role": "user", "content": "Why?"},
    ]
    usage = served.ask(about() | {"messages": turns}).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > first["usage"]["prompt_tokens_details"]["video_tokens"]


def test_figures_are_told(served):
    served.ask(about(video(served.data)))

    async def page() -> str:
        async with served.client() as client:
            return (await client.get("/metrics")).text

    said = together([page()])[0]
    figures = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in said.splitlines() if line[0] != "#"}
    assert (
        figures["vllm:spec_decode_num_draft_tokens_total"] >= figures["vllm:spec_decode_num_accepted_tokens_total"] > 0
    )
    assert figures["vllm:spec_decode_num_drafts_total"] > 0
    assert figures['vllm:request_success_total{finished_reason="length"}'] > 0
    assert figures["vllm:time_to_first_token_seconds_count"] > 0
    assert figures["vllm:num_requests_running"] == figures["vllm:num_requests_waiting"] == 0
    assert figures["specvlm:known_bytes"] > 0
    assert figures["specvlm:resident_bytes"] > 0


def test_a_family_that_samples_in_its_own_way_is_shown_the_frames_that_it_wants(tmp_path: Path) -> None:
    """By the clock, and with no heed of a number of frames."""
    film, target = pocket.demo_video(tmp_path / "film.mp4"), tiny.model("glm46v")
    vlm = tiny.pair(target, tiny.noised(target, 0.01))
    settings = Settings(name="glm46v")
    service = Service(vlm, settings)
    try:
        served = Fixture(vlm, service, create_app(service, settings), film)
        expected = vlm.generate(film, QUESTION, max_new_tokens=12)
        answered = served.ask(about(video(data(film))))
        refused = served.ask(about(video(data(film)), media_io_kwargs={"video": {"num_frames": 3}}))
    finally:
        service.decoder.close()
    assert text_of(answered) == expected.text
    assert answered.json()["usage"]["prompt_tokens"] == expected.stats.num_prompt_tokens
    assert refused.status_code == 400
    assert "num_frames" in refused.json()["error"]["message"]


def test_a_feature_cache_outlives_the_server(served, work, tmp_path):
    film = pocket.demo_video(tmp_path / "other.mp4", 8)
    expected = served.vlm.generate(film, QUESTION, max_new_tokens=12, temperature=0.0)
    done = []
    for _ in range(2):
        work.clear()
        vlm = SpecVLM(served.vlm.target, served.vlm.draft, feature_cache=FeatureCache(tmp_path / "cache"))
        service = Service(vlm, served.service.settings)
        begun = replace(served, service=service, app=create_app(service, service.settings))
        response = begun.ask(about(video(data(film))))
        service.decoder.close()
        assert text_of(response) == expected.text
        assert "warning" not in response.json()["specvlm"]
        done.append(work.copy())
    assert done[0]["decoded"] == 1
    assert done[0]["seen"] > 0
    assert not done[1]


def test_answers_side_by_side_are_those_of_each_alone(served, monkeypatch, tmp_path):
    """Two at once, about one video and about two."""
    running: list[int] = []

    def watched(*args: Any) -> Any:
        for tokens in decode(*args):
            running.append(service.num_running)
            time.sleep(0.02)
            yield tokens

    films = [served.film, pocket.demo_video(tmp_path / "other.mp4", 9)]
    expected = [served.vlm.generate(film, QUESTION, max_new_tokens=12, temperature=0.0).text for film in films]
    monkeypatch.setattr("specvlm.answering.request.decode", watched)
    service = Service(served.vlm, replace(served.service.settings, parallel=2))
    beside = replace(served, service=service, app=create_app(service, service.settings))
    asked = [beside.asked(about(video(data(film)), specvlm={"tree": "chain"})) for film in (*films, *films)]
    answers = together(asked)
    service.decoder.close()
    assert [text_of(answer) for answer in answers] == expected * 2
    assert max(running) == 2
