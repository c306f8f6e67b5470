"""A decoder without weights that reads at places which only tensors know, and what a draft says of each path."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.fakes import FakeDecoder, Language, Seen, seen_at
from engine.trees import Path
from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.caches.stacked_cache import Buffers, StackedCache
from specvlm.engine.rounds.growing import Tree, grow
from specvlm.engine.rounds.selection import Selection
from specvlm.engine.tree import DraftTree

LAYERS = 2


@dataclass
class StackedDecoder(FakeDecoder):
    """A FakeDecoder for the host, whose caches are of fixed capacity."""

    def new_cache(self, capacity: int) -> StackedCache:
        capacity = capacity if self.capacity is None else self.capacity
        buffers = Buffers(LAYERS, 1, 1 + self.rows, torch.float64, torch.device("cpu"))
        self.caches.append(StackedCache(buffers, capacity))
        return self.caches[-1]


@dataclass
class FakeDeviceDecoder:
    """Speaks a Language, of what it sees in an IndexedCache."""

    language: Language
    rows: int = 1
    """Rows of position ids."""
    steps: list[list[Seen]] = field(default_factory=list)
    """For each forward, what each of its rows could see."""

    def step_at(self, tokens: Tensor, positions: Tensor, length: Tensor, tail: Tensor, cache: IndexedCache) -> Tensor:
        assert tail.shape[0] == len(tokens) == len(positions) == len(cache.slots)
        rows = torch.cat([tokens[None], positions.expand(self.rows, -1)]).T.double()[None, None]
        layers = [cache.update(rows, -rows, layer) for layer in range(len(cache.layers))]
        assert layers[0][0].shape[2] == cache.bound
        before = torch.arange(int(length))
        self.steps.append([seen_at(layers, torch.cat([before, int(length) + row.nonzero()[:, 0]])) for row in tail])
        return torch.stack([self.language.logits(seen) for seen in self.steps[-1]])


@dataclass(frozen=True)
class Sayings:
    """Logits after a path of words below the root: another random row for each. Of a `kind`:

    random   no two alike
    coarse   two values alone, so that nearly everything ties
    never    many are -inf, which is never said; in every fourth row all of them
    broken   some are NaN or infinite, as of a draft that overflows
    """

    kind: str
    vocabulary: int
    seed: int

    def __call__(self, path: Path) -> Tensor:
        dice = torch.Generator().manual_seed(zlib.crc32(repr((self.seed, path)).encode()))
        row = torch.randn(self.vocabulary, generator=dice)
        lot = torch.rand(self.vocabulary, generator=dice)
        if self.kind == "coarse":
            return (lot < 0.5).float()
        if self.kind == "never":
            return row.masked_fill(lot < (2.0 if lot[0] < 0.25 else 0.6), float("-inf"))
        if self.kind == "broken":
            return row.masked_fill(lot < 0.1, float("nan")).masked_fill(lot > 0.9, float("inf"))
        return row


KINDS = ("random", "coarse", "never", "broken")


@dataclass(frozen=True)
class Reading:
    """A tree that was grown in tensors, and the words of all that the draft has read behind the root, in order."""

    tree: Tree
    fed: list[Path]


def read_and_grow(selection: Selection, root: int, sayings: Sayings) -> Reading:
    """Grow in tensors, by a draft that says what `sayings` has behind the words which a row's lineage shows it."""
    words: list[int] = []
    paths: list[Path] = []

    def read(level: int, tokens: Tensor, lineage: Tensor) -> Tensor:
        words.extend(tokens.tolist())
        assert lineage.shape == (len(tokens), len(words))
        new = [tuple(words[place] for place in row.nonzero()[:, 0].tolist()) for row in lineage]
        assert all(len(path) == level for path in new)
        paths.extend(new)
        return torch.stack([sayings(path) for path in new])

    return Reading(grow(selection, torch.tensor([root]), sayings(())[None], read), paths)


def as_host(tree: Tree) -> DraftTree:
    """The tree that the tensors tell of."""
    return DraftTree(tuple(tree.tokens.tolist()), (-1, *tree.parents[1:].tolist()))


def as_device(tree: DraftTree) -> Tree:
    """A tree in tensors, of which the draft has read nothing."""
    parents = torch.tensor([0, *tree.parents[1:]])
    return Tree(
        torch.tensor(tree.tokens), parents, torch.tensor(tree.depths), tree.mask.clone(), torch.full_like(parents, -1)
    )
