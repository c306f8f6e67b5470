"""The page to read first: prefill, then propose -> verify -> keep, until done."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float, Int
from torch import Tensor

from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.decoder import Decoder, Unread
from specvlm.engine.drafting import Drafter
from specvlm.engine.literals import longs
from specvlm.engine.rounds.player import Player
from specvlm.engine.sequence import Sequence
from specvlm.engine.stats import Round
from specvlm.engine.tree import DraftTree
from specvlm.engine.verification import Undecided, Verdict, verify


def prefill(
    decoder: Decoder,
    sequence: Sequence,
    embeds: Unread,
    positions: Int[Tensor, "R L"],
    recorder: ScoreRecorder | None = None,
    chunk: int | None = None,
) -> Float[Tensor, " vocab"]:
    """Run the prompt through the target. Returns the logits after its last token.

    In one forward, as stock `generate` does it, whether anybody watches or not: the numbers are the same to the bit.
    With `chunk` no forward takes more than that many tokens, which bounds the memory of a long prompt's activations.
    """
    length = len(embeds)
    for start in range(0, length, chunk or length):
        end = min(length, start + (chunk or length))
        logits = decoder.prefill(embeds.piece(start, end), positions[:, start:end], sequence.cache, recorder)
    return logits


def first_token(sequence: Sequence, logits: Float[Tensor, " vocab"]) -> int:
    """Emit the token that follows the prompt; it costs no forward of its own."""
    token = sequence.chooser.choose(logits, sequence.history()[None])
    sequence.ends_with((token,))
    sequence.emit((token,))
    sequence.stats.first_token()
    return token


def decode(
    target: Decoder, sequence: Sequence, drafter: Drafter, player: Player | None = None
) -> Iterator[tuple[int, ...]]:
    """Yield the answer round by round, after its first token, until the sequence has a reason to stop.

    A `player` plays the rounds on the device, but for those that it leaves to the host.
    """
    stats, cache = sequence.stats, sequence.cache
    stats.decode_begins()
    while sequence.finish_reason is None:
        if player is not None and (report := player.play()) is not None:
            stats.add_round(Round(report.tree, report.path, report.tokens[-1], report.num_draft_forwards))
            sequence.finish_reason = (
                "eos" if report.ended else "length" if sequence.num_left == len(report.tokens) else None
            )
            sequence.tell(report.tokens)
            sequence.emit(report.tokens)
            yield report.tokens
            continue
        with stats.phase("draft"):
            tree = drafter.propose(sequence.tokens[-1], sequence.num_left - 1)

        with stats.phase("verify"):
            # Before the round the cache holds the prompt and the answer but for its last token, the root.
            root_position = sequence.next_position + len(sequence.tokens) - 1
            nodes, positions = longs(tree.tokens), longs([[root_position + depth for depth in tree.depths]])
            mask = tree.mask if len(tree) > 1 else None
            as_stock = sequence.chooser.doubt > 0  # who doubts wants numbers as near to stock generate's as can be
            logits = target.step(nodes, positions, mask, cache, as_stock=as_stock)

            choose = sequence.chooser.over(logits, sequence.history)
            verdict = verify(tree, choose, stop=sequence.ends_with)
            close = isinstance(verdict, Undecided)
            cache.keep(verdict.path[:-1] if close else verdict.path, len(tree))
            if isinstance(verdict, Undecided):
                verdict = look_again(target, sequence, tree, verdict.path)

        emitted = (*(tree.tokens[node] for node in verdict.path[1:]), verdict.next_token)
        with stats.phase("draft"):
            drafter.accept(verdict)
        stats.add_round(Round(tree, verdict.path, verdict.next_token, drafter.num_forwards, close))
        sequence.emit(emitted)
        yield emitted


def look_again(target: Decoder, sequence: Sequence, tree: DraftTree, path: tuple[int, ...]) -> Verdict:
    """Choose what follows a path from a forward over its last node alone, as plain decoding would.

    The cache holds what is in front of that node.
    """
    said = tuple(tree.tokens[node] for node in path[1:])
    position = sequence.next_position + len(sequence.tokens) - 1 + len(said)
    token = longs([tree.tokens[path[-1]]])
    logits = target.step(token, longs([[position]]), None, sequence.cache, as_stock=True)
    choice = sequence.chooser.choose(logits[0], sequence.history(said)[None])
    sequence.ends_with((*said, choice))
    return Verdict(path, choice)
