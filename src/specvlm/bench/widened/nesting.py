"""A small language model inside the weights of a wide one. See `specvlm.bench.widened.widening` for how and why."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.bench.widened.blindness import Detector, look_away, raise_flag
from specvlm.bench.widened.noise import Noise
from specvlm.bench.widened.shapes import Shape
from specvlm.errors import ModelError

MARK_WEIGHT = 2.0**-30
FORBIDDEN = -(2.0**70)
"""Added vocabulary must never be chosen or drawn, and a row of ordinary numbers may always win. So the first padded
number of every token, its mark, is not 0 but a constant c that all layers ignore and pass on; the last norm keeps it,
times MARK_WEIGHT, and the output rows of added tokens multiply it by FORBIDDEN: a logit below -1e6, whatever the
sentence. In a tied table real rows hold c there too, which adds less than 1e-12 to each of their logits alike.

RMSNorm sees c as well, as c^2 / D more in a mean square to which it adds epsilon: epsilon is made smaller by as much,
and nothing has changed. Both factors are out of float16's range.
"""

NUM_MARKS = 2
"""The mark, and behind it the flag of blank tokens (`specvlm.bench.widened.blindness`), which is 0 where there are
none."""


def mark_of(epsilon: float, hidden: int) -> float:
    """The constant c: at most half of what `epsilon` adds to the sum of squares, and exact in every dtype."""
    return 2.0 ** math.floor(math.log2(math.sqrt(epsilon * hidden / 2)))


def wide_epsilon(epsilon: float, hidden: int, wide_hidden: int) -> float:
    """Epsilon of a wide RMSNorm whose input is the small one's, the mark, and zeros."""
    return (epsilon * hidden - mark_of(epsilon, hidden) ** 2) / wide_hidden


def refuse_unless_fits(small: Shape, wide: Shape) -> None:
    """Errors: ModelError, naming all that is too small in `wide`, or not a multiple."""
    for part in ("layers", "kv_heads", "ffn", "vocabulary"):
        if getattr(wide, part) < getattr(small, part):
            _refuse(small, wide, f"it has {getattr(wide, part)} {part} where {getattr(small, part)} are needed")
    if wide.hidden < small.hidden + NUM_MARKS:
        _refuse(small, wide, f"its hidden size is {wide.hidden}, and has to be {small.hidden + NUM_MARKS} at least")
    if wide.head_dim % small.head_dim:
        _refuse(small, wide, f"its head_dim is {wide.head_dim}, and has to be a multiple of {small.head_dim}")
    if wide.heads // wide.kv_heads < small.heads // small.kv_heads:
        _refuse(small, wide, f"a K/V head of it has fewer than {small.heads // small.kv_heads} query heads")
    if wide.tied and not small.tied:
        _refuse(small, wide, "its output head is its embedding table, and the small model's are two")


def _refuse(small: Shape, wide: Shape, reason: str) -> None:
    raise ModelError(f"{small.name} doesn't fit into {wide.name}: {reason}")


def rotary_places(head_dim: int, wide_head_dim: int) -> Int[Tensor, " dim"]:
    """Where each number of a head goes in an n times longer head, so that rotary pair i becomes pair n * i.

    transformers pairs number i with number i + head_dim / 2.
    """
    pairs = torch.arange(head_dim // 2) * (wide_head_dim // head_dim)
    return torch.cat([pairs, pairs + wide_head_dim // 2])


@final
class Nest:
    """Writes the weights of a wide language model of Qwen2's kind. Every method overwrites all of what it is given."""

    def __init__(self, small: Shape, wide: Shape, epsilon: float, noise: Noise, detector: Detector | None) -> None:
        """`epsilon` is that of the small model's norms; with a `detector`, no token looks at those that it finds."""
        self._small, self._wide, self._noise, self._detector = small, wide, noise, detector
        self._flag = small.hidden + 1
        self._mark = mark_of(epsilon, small.hidden)
        self._places = rotary_places(small.head_dim, wide.head_dim)
        groups = torch.arange(small.heads) // (small.heads // small.kv_heads)
        within = torch.arange(small.heads) % (small.heads // small.kv_heads)
        self._heads = groups * (wide.heads // wide.kv_heads) + within
        """Each query head stays with its K/V head."""

    def tables(self, small: Any, small_head: Any, wide: Any, wide_head: Any) -> None:
        """The embedding tables and output heads (modules; with a tied wide head the same weight twice)."""
        tokens, hidden = self._small.vocabulary, self._small.hidden
        if not self._wide.tied:
            self._noise.fill(wide_head.weight)
            wide_head.weight[:tokens, :hidden].copy_(small_head.weight)
            wide_head.weight[:tokens, hidden] = 0
        self._noise.fill(wide.weight)
        self.stream(small.weight, wide.weight[:tokens])
        wide_head.weight[tokens:, hidden] = FORBIDDEN

    def stream(self, small: Float[Tensor, "*rows d"], wide: Float[Tensor, "*rows D"]) -> None:
        """Rows that enter the stream of hidden numbers: padded with the mark and zeros."""
        hidden = self._small.hidden
        wide[..., :hidden].copy_(small)
        wide[..., hidden] = self._mark
        wide[..., hidden + 1 :].zero_()

    def into_stream(self, small: Any, wide: Any) -> None:
        """A linear layer with bias whose outputs enter the stream. Inputs that the small one lacks have to be 0."""
        hidden, inputs = self._small.hidden, small.weight.shape[1]
        self._noise.fill(wide.weight)
        wide.weight[:, :inputs].zero_()
        wide.weight[:hidden, :inputs].copy_(small.weight)
        self.stream(small.bias, wide.bias)

    def detect(self, first: Any, last: Any) -> None:
        """Put the detector, if there is one, between the two layers of a wide projector that are written already."""
        if self._detector is not None:
            raise_flag(self._detector, first, last, self._flag)

    def norm(
        self, small: Float[Tensor, " d"] | None, wide: Float[Tensor, " D"], *, mark: float = 0.0, flag: float = 0.0
    ) -> None:
        """Weights of an RMSNorm, of an added layer if `small` is None; those of mark and flag are given."""
        self._noise.fill(wide)
        wide[self._small.hidden], wide[self._flag] = mark, flag
        if small is not None:
            wide[: self._small.hidden].copy_(small.double() * math.sqrt(self._small.hidden / self._wide.hidden))

    def layer(self, small: Any, wide: Any) -> None:
        """A decoder layer, an added one if `small` is None."""
        for name, flag in (("input_layernorm", 1.0), ("post_attention_layernorm", 0.0)):
            self.norm(None if small is None else getattr(small, name).weight, getattr(wide, name).weight, flag=flag)
        self._attention(None if small is None else small.self_attn, wide.self_attn)
        if self._detector is not None:
            look_away(wide.self_attn, self._wide.head_dim, self._small.hidden, self._flag)
        self._feed_forward(None if small is None else small.mlp, wide.mlp)

    def _attention(self, small: Any, wide: Any) -> None:
        q, k, v, o = wide.q_proj, wide.k_proj, wide.v_proj, wide.o_proj
        for weight in (q.weight, k.weight, k.bias, v.weight, o.weight):
            self._noise.fill(weight)
        d = self._small.hidden
        q.weight[:, :d].zero_()
        q.bias.zero_()
        v.weight[:, :d].zero_()
        v.bias.zero_()
        if small is None:
            return
        short, long, kv_heads = self._small.head_dim, self._wide.head_dim, self._small.kv_heads
        scale, kv = math.sqrt(long // short), torch.arange(kv_heads)
        self._rows(small.q_proj, q, self._heads, self._places, scale)
        self._rows(small.k_proj, k, kv, self._places, 1.0)
        self._rows(small.v_proj, v, kv, torch.arange(short), 1.0)
        # The columns of o_proj that are fed with anything: those of all heads, added ones too, of K/V heads in use.
        columns = o.weight.unflatten(1, (-1, long))
        used = kv_heads * (self._wide.heads // self._wide.kv_heads)
        columns[:, :used, :short] = 0
        columns[:d, self._heads, :short] = small.o_proj.weight.to(o.weight).unflatten(1, (-1, short))

    def _rows(
        self, small: Any, wide: Any, heads: Int[Tensor, " heads"], places: Int[Tensor, " dim"], scale: float
    ) -> None:
        """A projection to heads: the small model's heads to `heads`, each number of them to its place."""
        rows = (heads[:, None] * self._wide.head_dim + places).flatten().to(wide.weight.device)
        wide.weight[rows, : self._small.hidden] = (small.weight.double() * scale).to(wide.weight)
        wide.bias[rows] = (small.bias.double() * scale).to(wide.bias)

    def _feed_forward(self, small: Any, wide: Any) -> None:
        gate, up, down = wide.gate_proj.weight, wide.up_proj.weight, wide.down_proj.weight
        for weight in (gate, up, down):
            self._noise.fill(weight)
        d, f = self._small.hidden, self._small.ffn
        gate[:, :d].zero_()
        if small is None:
            return
        gate[:f, :d].copy_(small.gate_proj.weight)
        up[:f, :d].copy_(small.up_proj.weight)
        down[:, :f].zero_()
        down[:d, :f].copy_(small.down_proj.weight)
