"""A language model without weights: what it says is a fixed random function of exactly what it can see.

Whatever goes wrong with a token, a position, a mask or a cache row changes what is seen, and so what is said.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.caches.kv_cache import KVCache, TreeCache
from specvlm.engine.decoder import Embeds

Positions = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Seen:
    """What one row of one forward could see: tokens in the order of the cache, and their position ids, row by row."""

    tokens: tuple[int, ...]
    positions: Positions


@dataclass(frozen=True)
class Language:
    """Random logits for every text. A `dialect` adds noise of its own to another language: a draft of that target."""

    vocabulary: int
    seed: int = 0
    parent: Language | None = None
    noise: float = 0.0

    def dialect(self, noise: float, seed: int = 1, vocabulary: int | None = None) -> Language:
        return Language(vocabulary or self.vocabulary, seed, self, noise)

    def logits(self, seen: Seen) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(repr((self.seed, seen)).encode()))
        own = torch.randn(self.vocabulary, generator=generator, dtype=torch.float64)
        if self.parent is None:
            return 2 * own
        return fitted(self.parent.logits(seen), self.vocabulary) + self.noise * own


def fitted(logits: Tensor, vocabulary: int) -> Tensor:
    """The same logits over fewer or more tokens."""
    return torch.cat([logits, torch.full((max(0, vocabulary - len(logits)),), -9.0)])[:vocabulary]


def prompt_positions(start: Tensor, length: int) -> Tensor:
    """Position ids [R, length] of a prompt whose rows begin at `start` [R]."""
    return start[:, None] + torch.arange(length)


def behind(positions: Tensor, length: int) -> Tensor:
    """Position ids [R, L + length]: those of a prompt, and of `length` tokens of text, alike in all rows, behind it."""
    return torch.cat([positions, (positions.max() + 1 + torch.arange(length)).expand(len(positions), -1)], dim=1)


def embeds(prompt: Tensor) -> Embeds:
    """What a FakeDecoder reads of a prompt."""
    return Embeds(prompt[:, None].double())


@dataclass
class FakeDecoder:
    """A Decoder that speaks a Language. Its cache rows hold the token and its positions; embeddings are token ids."""

    language: Language
    capacity: int | None = None
    """Room of the caches it makes, to make them grow; None: what is asked for."""
    rows: int = 1
    """Rows of position ids."""
    prefills: list[list[Seen]] = field(default_factory=list)
    steps: list[list[Seen]] = field(default_factory=list)
    """For each forward, what each of its rows could see."""
    caches: list[TreeCache] = field(default_factory=list)

    @property
    def vocab_size(self) -> int:
        return self.language.vocabulary

    def new_cache(self, capacity: int) -> TreeCache:
        self.caches.append(TreeCache(2, capacity if self.capacity is None else self.capacity))
        return self.caches[-1]

    def prefill(
        self, embeds: Embeds, positions: Tensor, cache: TreeCache, recorder: ScoreRecorder | None = None
    ) -> Tensor:
        assert positions.shape == (self.rows, len(embeds))
        self.prefills.append(self._forward(embeds.rows[:, 0].long(), positions, None, cache))
        if recorder is not None:
            rows = cache.layers[0].keys[:, :, cache.length - len(embeds) : cache.length, :1]
            recorder.record(rows, cache.layers[0].keys[:, :, : cache.length, :1], 1.0, layer=0)
        return self.language.logits(self.prefills[-1][-1])

    def step(
        self, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: KVCache, *, as_stock: bool = False
    ) -> Tensor:
        assert positions.shape == (1, len(tokens))
        self.steps.append(self._forward(tokens, positions.expand(self.rows, -1), mask, cache))
        return torch.stack([self.language.logits(seen) for seen in self.steps[-1]])

    def _forward(self, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: KVCache) -> list[Seen]:
        rows = torch.cat([tokens[None], positions]).T.double()[None, None]
        layers = [cache.update(rows, -rows, layer) for layer in range(len(cache.layers))]
        new, length = len(tokens), cache.length
        if mask is None:
            mask = torch.tensor([[place <= length - new + row for place in range(length)] for row in range(new)])
        last = mask.shape[1]
        assert new <= last <= length
        assert mask[:, last - new :].diagonal().all()  # every row sees itself
        sees_all = torch.ones(new, length - last, dtype=torch.bool)
        return [seen_at(layers, row.nonzero()[:, 0]) for row in torch.cat([sees_all, mask], dim=1)]


def seen_in(cache: TreeCache) -> Seen:
    """Tokens and positions that a cache holds."""
    return seen_at([(layer.keys[:, :, : cache.length], layer.values[:, :, : cache.length]) for layer in cache.layers])


def seen_at(layers: list[tuple[Tensor, Tensor]], places: Tensor | slice = slice(None)) -> Seen:
    """Tokens and positions of the rows at `places`; keys and values of all layers must agree."""
    for keys, values in layers:
        assert torch.equal(keys, -values)
        assert torch.equal(keys, layers[0][0])
    tokens, *positions = layers[0][0][0, 0, places].long().T.tolist()
    return Seen(tuple(tokens), tuple(map(tuple, positions)))
