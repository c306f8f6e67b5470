"""The page to read first: prefill, then propose -> verify -> keep, until done."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.decoder import Decoder
from specvlm.engine.drafting import Drafter
from specvlm.engine.sequence import Sequence
from specvlm.engine.verification import verify


def prefill(
    decoder: Decoder,
    sequence: Sequence,
    embeds: Float[Tensor, "L D"],
    positions: Int[Tensor, "R L"],
    split: int,
    recorder: ScoreRecorder | None = None,
    chunk: int | None = None,
) -> Float[Tensor, " vocab"]:
    """Run the prompt through the target. Returns the logits after its last token.

    The prompt goes in two parts: all up to `split` (behind the last video token), then the text after it, which is
    what the recorder watches. The prompt's last token is always watched, even when no text follows the video. With
    `chunk` no forward takes more than that many tokens, which bounds the memory of a long prompt's activations.
    """
    length = embeds.shape[0]
    split = min(split, length - 1) if recorder is not None else 0
    cuts = sorted({0, split, length}.union(range(0, length, chunk) if chunk else ()))
    for start, end in pairwise(cuts):
        logits = decoder.prefill(
            embeds[start:end], positions[:, start:end], sequence.cache, recorder if start >= split else None
        )
    return logits


def first_token(sequence: Sequence, logits: Float[Tensor, " vocab"]) -> int:
    """Emit the token that follows the prompt; it costs no forward of its own."""
    token = sequence.chooser.over(logits[None], sequence.history())(0, ())
    sequence.emit((token,))
    sequence.stats.first_token()
    return token


def decode(target: Decoder, sequence: Sequence, drafter: Drafter) -> Iterator[tuple[int, ...]]:
    """Yield the answer round by round, after its first token, until the sequence has a reason to stop."""
    stats, cache = sequence.stats, sequence.cache
    stats.decode_begins()
    while sequence.finish_reason is None:
        with stats.phase("draft"):
            tree = drafter.propose(sequence.tokens[-1], sequence.num_left - 1)

        with stats.phase("verify"):
            # Before the round the cache holds the prompt and the answer but for its last token, the root.
            root_positions = sequence.positions + len(sequence.tokens) - 1
            nodes = torch.tensor(tree.tokens)
            node_positions = root_positions[:, None] + torch.tensor(tree.depths)
            mask = None
            if len(tree) > 1:
                sees_all = torch.ones(len(tree), cache.length, dtype=torch.bool)
                mask = torch.cat([sees_all, tree.mask], dim=1)
            logits = target.step(nodes, node_positions, mask, cache)

            choose = sequence.chooser.over(logits, sequence.history())
            verdict = verify(tree, choose, stop=lambda more: sequence.reason_to_stop(more) is not None)
            cache.keep(verdict.path, len(tree))

        emitted = (*(tree.tokens[node] for node in verdict.path[1:]), verdict.next_token)
        with stats.phase("draft"):
            drafter.accept(verdict)
        stats.add_round(len(tree) - 1, verdict.num_accepted)
        sequence.emit(emitted)
        yield emitted
