"""Figures for Prometheus: what vLLM also tells, by its names, and what only this engine knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from specvlm.answering.answer import Generation
from specvlm.engine.host.memory import resident_memory

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
A_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


GAUGES = {
    "vllm:num_requests_running": "Requests that are being answered.",
    "vllm:num_requests_waiting": "Requests that wait for their turn.",
    "specvlm:known_bytes": "Bytes of what is kept of videos.",
    "specvlm:source_bytes": "Bytes of videos as they were sent.",
    "specvlm:held_bytes": "Bytes of requests that are in use.",
    "specvlm:resident_bytes": "Memory of this process.",
}


@final
class Metrics:
    """Of one service, in a registry of its own."""

    def __init__(self, now: Mapping[str, Callable[[], float]]) -> None:
        """`now` tells the gauges, by their names, whenever somebody asks."""
        registry = self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(name, text, buckets=buckets, registry=registry)

        self._first = histogram("vllm:time_to_first_token_seconds", "From the request to its first token.")
        self._token = histogram(
            "vllm:time_per_output_token_seconds", "Seconds for each token after the first.", A_TOKEN
        )
        self._all = histogram("vllm:e2e_request_latency_seconds", "From the request to its last token.")
        self._queue = histogram("vllm:request_queue_time_seconds", "Time spent waiting for a turn.")
        self._read = counter("vllm:prompt_tokens", "Tokens of prompts.")
        self._written = counter("vllm:generation_tokens", "Tokens of answers.")
        self._ended = counter("vllm:request_success", "Requests that ended, by how.", "finished_reason")
        self._rounds = counter("vllm:spec_decode_num_drafts", "Rounds in which something was guessed.")
        self._drafted = counter("vllm:spec_decode_num_draft_tokens", "Tokens that were guessed.")
        self._accepted = counter("vllm:spec_decode_num_accepted_tokens", "Guesses that the target agreed with.")
        self._at_depth = counter(
            "vllm:spec_decode_num_accepted_tokens_per_pos", "Accepted guesses by their depth in the tree.", "position"
        )
        self._known = counter("specvlm:known_prompt_tokens", "Prompt tokens that an earlier question had read.")
        self._hits = counter("specvlm:video_cache_hits", "Answers about a video that was known.")
        self._misses = counter("specvlm:video_cache_misses", "Answers about a video that had to be read.")
        for name, value in {"specvlm:resident_bytes": resident_memory, **now}.items():
            Gauge(name, GAUGES[name], registry=registry).set_function(value)

    def page(self) -> bytes:
        return generate_latest(self._registry)

    def begins(self, waited: float) -> None:
        self._queue.observe(waited)

    def aborted(self, reason: str) -> None:
        self._ended.labels(reason).inc()

    def finished(self, generation: Generation, waited: float) -> None:
        """`waited` are the seconds in front of the answer's own clock."""
        stats = generation.stats
        self._first.observe(waited + stats.ttft_seconds)
        self._all.observe(waited + stats.total_seconds)
        if stats.num_tokens > 1:
            self._token.observe(stats.decode_seconds / (stats.num_tokens - 1))
        self._read.inc(stats.num_prompt_tokens)
        self._written.inc(stats.num_tokens)
        self._ended.labels({"eos": "stop"}.get(generation.finish_reason, generation.finish_reason)).inc()
        self._rounds.inc(sum(each.num_drafted > 0 for each in stats.rounds))
        self._drafted.inc(stats.num_drafted)
        self._accepted.inc(stats.num_accepted)
        for depth, count in enumerate(stats.accepted_per_depth):
            self._at_depth.labels(str(depth)).inc(count)
        self._known.inc(stats.num_known)
        if stats.num_video_tokens:
            (self._hits if stats.num_known >= stats.num_video_tokens else self._misses).inc()
