"""Where the tokens of a pruned prompt stand: pure arithmetic on position ids."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor


def compact(position_ids: Int[Tensor, "R L"], clips: Int[Tensor, " L"], kept: Int[Tensor, " P"]) -> Int[Tensor, "R P"]:
    """Positions of the tokens `kept`, as if what was pruned had never been filmed.

    `kept` are sorted indices into the prompt, at least one.
    `clips` [L] says which clip a token belongs to, -1 for text. Runs of one clip, or of text, stay in order:

    - time (row 0, and the only row where R is 1) closes up: the i-th time that is left in a run moves to the run's
      i-th time, so that frames keep the distances at which the model expects them;
    - height and width (rows 1 and 2 of M-RoPE, arXiv:2409.12191) stay: a frame with holes is no smaller frame;
    - text keeps its steps, the same in all rows, and follows as closely as it followed the whole run, or more so.
      A run that lost all its tokens takes no room.
    """
    bounds = [0, *(clips.diff().nonzero()[:, 0] + 1).tolist(), len(clips)]
    firsts = [int(position_ids[:, start:end].min()) for start, end in pairwise(bounds)]
    cursor, pieces = firsts[0], []
    for run, (start, end) in enumerate(pairwise(bounds)):
        here = kept[(kept >= start) & (kept < end)]
        if len(here) == 0:
            continue
        rows = position_ids[:, here].clone()
        if clips[start] >= 0:
            ranks = torch.unique(rows[0], return_inverse=True)[1]
            rows[0] = torch.unique(position_ids[0, start:end])[ranks]
        rows += cursor - firsts[run]
        pieces.append(rows)
        room = firsts[run + 1] - firsts[run] if run + 1 < len(firsts) else 0
        cursor += min(room, int(rows.max()) + 1 - cursor)
    return torch.cat(pieces, dim=1)
