"""How fast could it be at best? What a forward has to read and compute, on a machine that does nothing else.

A time at the roofline (Williams et al., doi:10.1145/1498765.1498785) is a bound that no kernel beats: bytes over the
bandwidth of memory, or operations over the peak of arithmetic, whichever takes longer. Decoding is bound by bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from specvlm.bench.widened.noise import Noise
from specvlm.bench.widened.shapes import Shape

Number = float | int  # beartype: an int is no float

CPU = torch.device("cpu")

EXPERTS = ".experts."
"""In the names of weights of which a token reads only its own experts' part."""


@dataclass(frozen=True)
class Work:
    """Bytes to be read from memory, and floating-point operations (an addition and a multiplication are two)."""

    bytes: Number = 0
    flops: Number = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.flops + other.flops)

    def __mul__(self, times: Number) -> Work:
        return Work(self.bytes * times, self.flops * times)


@dataclass(frozen=True)
class Machine:
    """Bytes a second that memory delivers, operations a second that arithmetic does."""

    name: str
    bandwidth: Number
    flops: Number

    def seconds(self, work: Work) -> float:
        """The least time that the work takes."""
        return float(max(work.bytes / self.bandwidth, work.flops / self.flops))


PUBLISHED: dict[str, Machine] = {
    machine.name: machine
    for machine in (
        Machine("H100 SXM", 3.35e12, 989e12),
        Machine("A100 80GB SXM", 2.039e12, 312e12),
        Machine("L40S", 0.864e12, 362e12),
    )
}
"""From NVIDIA's data sheets: bfloat16, dense. For predictions: no kernel reaches them."""


@dataclass(frozen=True)
class Demand:
    """What a language model's forwards need at the least. Weights are read once a forward, whatever its rows."""

    weight_bytes: int
    """All weights but the embedding table, of which a token reads a row; of experts, those of one token."""
    kv_bytes: int
    """Of one cached token."""
    token_flops: int
    """Of one row in the layers, without attention."""
    head_flops: int
    """Of one row's logits."""
    pair_flops: int
    """Of one query looking at one key, in all layers and heads."""

    @classmethod
    def of_shape(cls, shape: Shape, dtype: torch.dtype) -> Demand:
        head = shape.vocabulary * shape.hidden
        return cls(
            weight_bytes=shape.weight_bytes(dtype),
            kv_bytes=shape.kv_bytes_per_token(dtype),
            token_flops=2 * (shape.layers * shape.parameters_per_layer + shape.hidden),
            head_flops=2 * head,
            pair_flops=4 * shape.layers * shape.heads * shape.head_dim,
        )

    @classmethod
    def of_model(cls, model: PreTrainedModel) -> Demand:
        """That of the language model of any family's model, as it is loaded: its dtype, its experts."""
        shape, text = Shape.of("", model.config), model.config.get_text_config()
        experts_share = getattr(text, "num_experts_per_tok", 1) / getattr(text, "num_experts", 1)
        num_bytes = num_weights = 0.0
        for name, weight in model.model.language_model.named_parameters():
            if name.startswith("embed_tokens."):
                continue
            share = experts_share if EXPERTS in name else 1.0
            num_bytes, num_weights = num_bytes + share * weight.nbytes, num_weights + share * weight.numel()
        head = model.lm_head.weight
        return cls(
            weight_bytes=round(num_bytes) + head.nbytes,
            kv_bytes=shape.kv_bytes_per_token(model.dtype),
            token_flops=round(2 * num_weights),
            head_flops=2 * head.numel(),
            pair_flops=4 * shape.layers * shape.heads * shape.head_dim,
        )

    def forward(self, rows: Number, cached: Number, num_logits: Number | None = None) -> Work:
        """One forward over `rows` new tokens behind `cached` ones, with logits for `num_logits` of them (or all)."""
        pairs = rows * cached + rows * (rows + 1) / 2
        logits = rows if num_logits is None else num_logits
        flops = rows * self.token_flops + logits * self.head_flops + pairs * self.pair_flops
        return Work(self.weight_bytes + cached * self.kv_bytes, flops)

    def prefill(self, prompt_len: int) -> Work:
        """The whole prompt at once, and the logits of its last token."""
        return self.forward(prompt_len, 0, 1)

    def decode(self, prompt_len: int, num_tokens: int, num_forwards: Number, rows: Number = 1) -> Work:
        """What follows the prefill until `num_tokens` are emitted, the first of which the prefill gave.

        `num_forwards` of `rows` each, that advance evenly: `num_tokens - 1` for plain decoding, the rounds for
        speculation.
        """
        if num_forwards == 0:
            return Work()
        advance = (num_tokens - 1) / num_forwards
        mean_cached = prompt_len + (num_tokens - 1 - advance) / 2
        return self.forward(rows, mean_cached) * num_forwards


@dataclass(frozen=True)
class Answer:
    """What an answer took: lengths and counts, no times. The fields of Stats, and two that it doesn't have."""

    num_prompt_tokens: int
    num_draft_prompt_tokens: int
    num_tokens: int
    num_rounds: int
    num_draft_forwards: int
    """After the draft's prefill, over all rounds."""
    num_nodes: Number
    """Mean rows of a verify forward: guesses and the root."""


def phases(target: Demand, draft: Demand | None, answer: Answer) -> dict[str, Work]:
    """The least work of each of the phases of Stats that run a language model."""
    work = {
        "prefill_target": target.prefill(answer.num_prompt_tokens),
        "verify": target.decode(answer.num_prompt_tokens, answer.num_tokens, answer.num_rounds, answer.num_nodes),
    }
    if draft is not None:
        work["prefill_draft"] = draft.prefill(answer.num_draft_prompt_tokens)
        work["draft"] = draft.decode(answer.num_draft_prompt_tokens, answer.num_tokens, answer.num_draft_forwards)
    return work


def bounds(machine: Machine, work: Mapping[str, Work]) -> dict[str, float]:
    """The least seconds of each phase. Phases don't overlap: their sum bounds the answer."""
    return {phase: machine.seconds(each) for phase, each in work.items()}


def plain_seconds(target: Demand, machine: Machine, prompt_len: int, num_tokens: int) -> float:
    """The least time of plain decoding after the prefill."""
    return machine.seconds(target.decode(prompt_len, num_tokens, num_tokens - 1))


def limit_seconds(target: Demand, machine: Machine, prompt_len: int, num_tokens: int, acceptance: Number) -> float:
    """The least time of speculation after the prefill, at a mean acceptance length (bonus included).

    The draft is free, and a verify forward costs one pass over weights and cache. What plain decoding was measured to
    take, over these seconds, is the limit of the speedup; a measured speedup is a percentage of it.
    """
    return machine.seconds(target.decode(prompt_len, num_tokens, (num_tokens - 1) / acceptance))


def predicted_speedup(target: Demand, draft: Demand, machine: Machine, answer: Answer) -> float:
    """Decode speedup of speculation over plain decoding were both at the roofline, drafting included: a prediction."""
    seconds = bounds(machine, phases(target, draft, answer))
    plain = plain_seconds(target, machine, answer.num_prompt_tokens, answer.num_tokens)
    return plain / (seconds["verify"] + seconds["draft"])


Seconds = Callable[[Callable[[], object]], float]
"""What a piece of work takes."""


def measure(
    name: str = "this machine",
    *,
    dtype: torch.dtype = torch.bfloat16,
    num_bytes: int = 1 << 30,
    side: int = 4096,
    repeats: int = 5,
    device: torch.device = CPU,
) -> Machine:
    """The roofs of a CPU, with as many threads as torch has, or of a GPU. It takes seconds.

    `num_bytes` of memory have to be many times more than the caches hold; `side` is that of the matrices of `dtype`
    that are multiplied.
    """
    bandwidth = read_bandwidth(num_bytes, repeats, device)
    return Machine(name, bandwidth, matmul_flops(side, repeats, dtype, device))


def read_bandwidth(num_bytes: int, repeats: int, device: torch.device = CPU) -> float:
    """Bytes a second of the fastest of several streaming reads of a buffer that was really written."""
    buffer = torch.empty(num_bytes // 4096, 2048, dtype=torch.bfloat16, device=device)
    Noise(buffer.dtype, buffer.device, seed=0).fill(buffer)
    column = torch.ones(buffer.shape[1], dtype=buffer.dtype, device=device)
    single = buffer.view(torch.float32)
    # Which of the kernels reads fastest depends on the processor: what any of them reaches, memory can do.
    reads: list[Callable[[], object]] = [
        lambda: torch.mv(buffer, column),
        lambda: torch.mv(single, column[:1024].float()),
        lambda: single.sum(),
    ]
    return buffer.nbytes / min(_best_seconds(read, repeats, seconds_on(device)) for read in reads)


def matmul_flops(side: int, repeats: int, dtype: torch.dtype = torch.bfloat16, device: torch.device = CPU) -> float:
    """Operations a second of a product of square matrices."""
    a, b = (torch.full((side, side), value, dtype=dtype, device=device) for value in (0.5, 0.25))
    return 2 * side**3 / _best_seconds(lambda: a @ b, repeats, seconds_on(device))


def seconds_on(device: torch.device) -> Seconds:
    """How work on a device is timed."""
    return seconds_by_events if device.type == "cuda" else seconds_by_clock


def seconds_by_clock(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seconds_by_events(work: Callable[[], object], event: Callable[..., Any] = torch.cuda.Event) -> float:
    """By the GPU's own clock: the host has only ordered the work when it goes on."""
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def _best_seconds(work: Callable[[], object], repeats: int, seconds: Seconds) -> float:
    work()
    return min(seconds(work) for _ in range(repeats))
