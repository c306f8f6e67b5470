"""Answers in the words of OpenAI's API: whole, or in chunks as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from specvlm.answering.answer import Piece
from specvlm.serve.errors import RefusedError
from specvlm.serve.requests.asking import How
from specvlm.serve.turn import Finished, Turn

REASONS = {"eos": "stop", "stop": "stop", "length": "length"}


@dataclass(frozen=True)
class Teller:
    """Tells of one answer."""

    how: How
    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, finished: Finished) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": finished.text, "refusal": None},
            "logprobs": None,
            "finish_reason": REASONS[finished.generation.finish_reason],
        }
        return self._head("chat.completion") | {
            "choices": [choice],
            "usage": usage(finished),
            "specvlm": about(finished, whole=self.how.trace),
        }

    async def stream(self, turn: Turn, first: tuple[Piece, ...] | Finished) -> AsyncIterator[bytes]:
        """Chunks as they come, from the first event on. Left at any point, it gives the turn up."""
        try:
            yield event(self._chunk({"role": "assistant", "content": ""}))
            told: Any = first
            while not isinstance(told, (Finished, RefusedError)):
                text = "".join(piece.text for piece in told)
                if text or self.how.trace:
                    yield event(self._chunk({"content": text}) | self._traced(told))
                told = await turn.event()
            if isinstance(told, RefusedError):
                yield event(told.envelope())
            else:
                reason = REASONS[told.generation.finish_reason]
                yield event(self._chunk({}, reason) | {"specvlm": about(told, whole=self.how.trace)})
                if self.how.usage:
                    yield event(self._head("chat.completion.chunk") | {"choices": [], "usage": usage(told)})
            yield b"data: [DONE]\n\n"
        finally:
            turn.give_up()

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._head("chat.completion.chunk") | {"choices": [choice]} | ({"usage": None} if self.how.usage else {})

    def _traced(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        if not self.how.trace:
            return {}
        return {"specvlm": {"pieces": [{"text": piece.text, "how": piece.by} for piece in pieces]}}


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n\n"


def usage(finished: Finished) -> dict[str, Any]:
    """What it took, in tokens."""
    stats = finished.generation.stats
    return {
        "prompt_tokens": stats.num_prompt_tokens,
        "completion_tokens": stats.num_tokens,
        "total_tokens": stats.num_prompt_tokens + stats.num_tokens,
        "prompt_tokens_details": {"cached_tokens": stats.num_known, "video_tokens": stats.num_video_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": stats.num_accepted,
            "rejected_prediction_tokens": stats.num_drafted - stats.num_accepted,
        },
    }


def about(finished: Finished, *, whole: bool) -> dict[str, Any]:
    """How it came about; `whole`, with the indices of the video tokens that the draft saw."""
    stats = finished.generation.stats
    kept = stats.kept
    said = {
        "num_video_tokens": stats.num_video_tokens,
        "num_kept": stats.num_kept,
        "mean_acceptance_length": stats.mean_acceptance_length,
        "rounds": stats.num_rounds,
        "tokens_per_second": stats.tokens_per_second,
        "ttft_seconds": stats.ttft_seconds,
        "total_seconds": stats.total_seconds,
        "phases": stats.phases,
    }
    if whole:
        # A target that is its own draft may keep others in each head: then there is no one list.
        said["kept"] = [] if kept is None or kept.dim() > 1 else kept.tolist()
    if stats.damage:
        said["damage"] = list(stats.damage)
    if finished.warning is not None:
        said["warning"] = finished.warning
    return said
