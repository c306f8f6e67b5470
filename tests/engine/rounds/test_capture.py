"""Captured rounds: played over buffers that outlive answers, checked before they count, and grown ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import tiny
from engine.rounds.again import run_again
from specvlm.answering.stage import Stage
from specvlm.engine.rounds.arena import MAX_TABLES, Arena
from specvlm.engine.rounds.capture import Capture
from specvlm.engine.rounds.round import DeviceRound
from specvlm.families import Family
from specvlm.families.device_decoder import HFDeviceDecoder
from specvlm.pipeline import SpecVLM


def capturing(vlm: SpecVLM, capture: Capture) -> Arena:
    """Let the pair play its rounds captured, as it would on a GPU."""
    assert isinstance(vlm.draft, Family)
    target, draft = HFDeviceDecoder(vlm.target.decoder), HFDeviceDecoder(vlm.draft.decoder)
    arena = Arena(target, draft, capture)
    vlm.pair._stages.append(Stage(arena, (target.buffers(MAX_TABLES), draft.buffers(MAX_TABLES)), None))
    return arena


def pair(family: str = "llava_onevision", noise: float = 0.05) -> SpecVLM:
    target = tiny.model(family)
    return tiny.pair(target, tiny.noised(target, noise))


@pytest.mark.parametrize(
    ("family", "noise"),
    [
        ("llava_onevision", 0.05),
        ("qwen2_5_vl", 1.0),
        pytest.param("qwen2_5_vl", 0.0, marks=pytest.mark.slow),
        pytest.param("llava_onevision", 0.0, marks=pytest.mark.slow),
        pytest.param("llava_onevision", 1.0, marks=pytest.mark.slow),
        pytest.param("qwen2_5_vl", 0.05, marks=pytest.mark.slow),
    ],
)
def test_answers_are_those_of_eager_rounds(family: str, noise: float) -> None:
    """Several to one pair: of one length and of another, so that buffers are taken up again, and new ones."""
    vlm = pair(family, noise)
    asked = [
        (tiny.video(frames), "what happens?", {"max_new_tokens": most}) for frames in (6, 6, 4) for most in (30, 7)
    ]
    right = [vlm.generate(*each, plan="fixed", rounds="host", **more) for *each, more in asked]
    arena = capturing(vlm, run_again)
    ours = [vlm.generate(*each, plan="fixed", rounds="device", **more) for *each, more in asked]
    assert [answer.token_ids for answer in ours] == [answer.token_ids for answer in right]
    assert [answer.stats.rounds for answer in ours] == [answer.stats.rounds for answer in right]
    assert all(answer.stats.on_host_because is None for answer in ours)
    assert arena.capture_seconds > 0


def test_a_long_answer_moves_to_the_next_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = pair()
    video = tiny.video(6)
    monkeypatch.setattr("specvlm.engine.caches.stacked_cache.BUCKET", 16)
    monkeypatch.setattr("specvlm.answering.request.MAX_PREALLOCATED_TOKENS", 4)
    right = vlm.generate(video, "what happens?", plan="fixed", rounds="host", max_new_tokens=90)
    capturing(vlm, run_again)
    for _ in range(2):
        ours = vlm.generate(video, "what happens?", plan="fixed", rounds="device", max_new_tokens=90)
        assert ours.token_ids == right.token_ids
        assert ours.stats.on_host_because is None


def test_what_says_otherwise_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A capture that goes wrong costs a warning, and not a token."""
    vlm = pair()
    video = tiny.video(6)
    right = vlm.generate(video, "what happens?", plan="fixed", rounds="host", max_new_tokens=30)

    def wrong(function: Callable[[], Any]) -> Callable[[], Any]:
        replayed = run_again(function)

        def replay() -> Any:
            output = replayed()
            return output if not isinstance(output, torch.Tensor) else output.add_(1)  # another count, other tokens

        return replay

    arena = capturing(vlm, wrong)
    ours = vlm.generate(video, "what happens?", plan="fixed", rounds="device", max_new_tokens=30)
    assert ours.token_ids == right.token_ids
    assert ours.stats.rounds == right.stats.rounds
    [warning] = [record for record in caplog.records if record.name.startswith("specvlm")]
    assert "it says otherwise than the eager one" in warning.getMessage()
    assert arena.capture_seconds > 0


def test_a_wrong_capture_that_is_not_looked_at_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: without the check, answers differ."""
    vlm = pair()
    video = tiny.video(6)
    right = vlm.generate(video, "what happens?", plan="fixed", rounds="host", max_new_tokens=30)
    grow = DeviceRound.settle

    def one_off(self: DeviceRound, tree: Any) -> torch.Tensor:
        self.state.target_length.add_(1)
        report = grow(self, tree)
        self.state.target_length.sub_(1)
        return report

    monkeypatch.setattr(DeviceRound, "settle", one_off)
    ours = vlm.generate(video, "what happens?", plan="fixed", rounds="device", max_new_tokens=30)
    assert ours.token_ids != right.token_ids


def test_two_answers_in_flight_have_tables_of_their_own() -> None:
    vlm = pair()
    videos = tiny.video(6), tiny.video(6, seed=1)
    right = [vlm.generate(video, "what happens?", plan="fixed", rounds="host", max_new_tokens=30) for video in videos]
    capturing(vlm, run_again)
    for _ in range(2):
        streams = [
            vlm.stream(video, "what happens?", plan="fixed", rounds="device", max_new_tokens=30) for video in videos
        ]
        said, ended = ["", ""], set[int]()
        while len(ended) < 2:
            for index, stream in enumerate(streams):
                piece = next(stream, None)
                if piece is None:
                    ended.add(index)
                said[index] += piece or ""
        assert said == [answer.text for answer in right]


def test_weights_that_are_replaced_make_a_new_stage() -> None:
    vlm = tiny.pair(tiny.model("llava_onevision"), tiny.model("llava_onevision", 1))
    vlm.pair._stages.clear()
    pair = replace(vlm.pair, compile="inductor")
    assert isinstance(vlm.draft, Family)
    first = pair.stage(vlm.draft)
    assert pair.stage(vlm.draft) is first
    with torch.no_grad():
        next(vlm.draft.model.model.language_model.parameters()).add_(1)
    assert pair.stage(vlm.draft) is not first
