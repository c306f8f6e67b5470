"""Families whose videos and images have one place-holder and one row of squares: words between them tell them apart."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from specvlm.errors import OptionError
from specvlm.families.squares.squares import Frame, Squares


class ToldByWords(Squares, abc.ABC):
    """What the processor writes in front of a square says what it is of.

    Without a processor, and so without words, all that is one square by itself is taken for a frame of one video: no
    answer hangs on it, but images are then pruned as frames are.
    """

    def _frames(self, inputs: Mapping[str, Tensor]) -> Sequence[Frame]:
        ids, token = inputs["input_ids"][0], self.model.config.image_token_id
        frames: list[Frame] = []
        last, end, first = "", 0, 0
        for start, stop in _runs(ids == token):
            num_squares, rest = divmod(stop - start, self.tokens_per_square)
            if rest:
                raise OptionError(
                    f"the prompt has {stop - start} place-holders in a row, and a square of {self.model_type} becomes "
                    f"{self.tokens_per_square} tokens"
                )
            words = "" if self._processor is None else str(self.tokenizer.decode(ids[end:start]))
            if self._processor is None:
                begins, still = not frames or num_squares > 1 or frames[-1].still, num_squares > 1
            else:
                begins, still = self._told(words, last)
            clip = 0 if not frames else frames[-1].clip + begins
            frame = Frame(clip, "pixel_values", first, num_squares, stop - start, token, still)
            if still and not begins and frames:  # one more piece of an image
                frames[-1] = replace(
                    frames[-1],
                    num_squares=frames[-1].num_squares + frame.num_squares,
                    num_tokens=frames[-1].num_tokens + frame.num_tokens,
                )
            else:
                frames.append(frame)
            last, end, first = words, stop, first + num_squares
        squares = self._squares(inputs)
        if first != len(squares):
            raise OptionError(
                f"the prompt has place-holders for {first} squares of {self.tokens_per_square} tokens, and its inputs "
                f"hold {len(squares)}"
            )
        return [replace(frame, first=squares[frame.first]) for frame in frames]

    @abc.abstractmethod
    def _told(self, words: str, last: str) -> tuple[bool, bool]:
        """Whether a clip begins with the next squares, and whether they are of an image: by the words since the squares
        in front of them, and by those that stood in front of these."""

    def _squares(self, inputs: Mapping[str, Tensor]) -> Sequence[int]:
        """Where the squares stand in their input, in the order of the prompt."""
        pixels = inputs.get("pixel_values")
        return range(0 if pixels is None else pixels.flatten(0, -4).shape[0])


def _runs(mask: Bool[Tensor, " L"]) -> Iterator[tuple[int, int]]:
    """First and one behind last of each run of True."""
    edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff().nonzero()[:, 0].tolist()
    return zip(edges[::2], edges[1::2], strict=True)
