"""What families have in common that see squares: frames, or tiles of images, of one size, each by itself.

Each square becomes the same number of tokens, and tokens count: one row of positions, text between frames included.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from specvlm.engine.decoder import Embeds
from specvlm.errors import OptionError
from specvlm.families.base import ANY_SIZE, Family, Image, PixelBudget, Seen, Turn, plain
from specvlm.families.whereabouts import device_of_work
from specvlm.prompts.lead import Lead
from specvlm.prompts.policy import PositionPolicy
from specvlm.prompts.prompt import Prompt
from specvlm.video import Clip

SQUARES_PER_BATCH = 16
"""Squares that go through the vision tower at once: bounds its memory, whatever the length of the video."""

LOOK = (
    "size", "crop_size", "max_image_size", "resample", "image_mean", "image_std", "rescale_factor", "do_resize",
    "do_center_crop", "do_normalize", "do_image_splitting", "image_grid_pinpoints", "crop_to_patches", "min_patches",
    "max_patches", "vision_input_type", "tile_size", "max_num_tiles",
)  # fmt: skip
"""Settings of processors that decide what squares become of a picture. Each has some of them."""


@dataclass(frozen=True)
class Frame:
    """A frame of a video, which is one square, or an image, which may be several: `num_squares` of the input `pixels`
    from `first` on. Its `num_tokens` tokens have the id `place_holder`. `clip` numbers the video or image."""

    clip: int
    pixels: str
    first: int
    num_squares: int
    num_tokens: int
    place_holder: int
    still: bool = False
    size: tuple[int, int] = (0, 0)
    """Height and width of an image before it was cut, where that decides about its tokens."""


class Squares(Family, abc.ABC):
    """Squares in, the same number of tokens out of each. Frames that a pruned prompt doesn't mention aren't encoded."""

    positions: ClassVar[PositionPolicy] = "original"
    inputs: ClassVar[tuple[str, ...]]
    """What the processor makes of a question with videos and images."""

    @property
    def layout(self) -> Mapping[str, object]:
        vision = self.model.config.vision_config
        layout: dict[str, object] = {name: plain(getattr(vision, name, None)) for name in ("image_size", "patch_size")}
        layout["tokens per square"] = self.tokens_per_square
        if self._processor is not None:
            for kind in ("video_processor", "image_processor"):
                part = getattr(self.processor, kind)
                layout |= {f"{kind}.{name}": plain(getattr(part, name, None)) for name in LOOK}
        return layout

    @property
    @abc.abstractmethod
    def tokens_per_square(self) -> int:
        """Of a frame."""

    def prepare(
        self,
        videos: Sequence[Clip],
        question: str,
        *,
        images: Sequence[Image] = (),
        pixels: PixelBudget = ANY_SIZE,
        system: str | None = None,
        history: Sequence[Turn] = (),
        lead: Lead = (),
    ) -> Prompt:
        if given := pixels.given():
            raise OptionError(f"{', '.join(given)}: {self.model_type} makes every frame a square of a fixed size")
        told = {"video_metadata": [video.metadata() for video in videos]} if videos else {}
        return self._prompt(videos, images, question, system, history, lead, **told)

    def prompt_from_inputs(self, inputs: Mapping[str, Any]) -> Prompt:
        inputs = {name: value for name, value in inputs.items() if value is not None}
        if unknown := sorted(inputs.keys() - set(self.inputs)):
            raise OptionError(f"{self.model_type} takes {', '.join(self.inputs)} here, and no {', '.join(unknown)}")
        inputs = {name: torch.as_tensor(inputs[name]).cpu() for name in self.inputs if name in inputs}
        if inputs["input_ids"].shape[0] != 1:
            raise OptionError(f"specvlm answers one prompt at a time, not a batch of {inputs['input_ids'].shape[0]}")
        ids, frames = inputs["input_ids"][0], self._frames(inputs)
        clips = torch.tensor([frame.clip for frame in frames], dtype=torch.long)
        sizes = torch.tensor([frame.num_tokens for frame in frames], dtype=torch.long)

        # Tokens with one id belong to the frames with that id in their order: wherever they stand.
        video_mask = torch.isin(ids, torch.tensor(self._tokens_of_squares))
        seen = ids[video_mask]
        frame_ids, place_ids = torch.zeros_like(seen), torch.zeros_like(seen)
        for token in self._tokens_of_squares:
            mine = torch.tensor([i for i, frame in enumerate(frames) if frame.place_holder == token], dtype=torch.long)
            of_tokens = mine.repeat_interleave(sizes[mine])
            if len(of_tokens) != int((seen == token).sum()):
                raise OptionError(
                    f"the prompt has {int((seen == token).sum())} place-holders of id {token}; its {len(mine)} frames "
                    f"and images need {len(of_tokens)}"
                )
            frame_ids[seen == token] = of_tokens
            starts = pad(sizes[mine].cumsum(0), (1, 0))[:-1]
            place_ids[seen == token] = torch.arange(len(of_tokens)) - starts.repeat_interleave(sizes[mine])
        order = list(dict.fromkeys(clips[frame_ids].tolist()))
        rank = {clip: number for number, clip in enumerate(order)}
        return Prompt(
            input_ids=ids,
            position_ids=torch.arange(len(ids))[None],
            next_position=len(ids),
            video_mask=video_mask,
            clip_ids=torch.tensor([rank[clip] for clip in clips[frame_ids].tolist()], dtype=torch.long),
            frame_ids=frame_ids,
            place_ids=place_ids,
            still_ids=frozenset(rank[frame.clip] for frame in frames if frame.still),
            model_inputs=inputs,
        )

    @property
    def _tokens_of_squares(self) -> list[int]:
        """The ids that stand for what the tower sees."""
        config = self.model.config
        ids = (getattr(config, "video_token_id", None), config.image_token_id)
        return [token for token in ids if token is not None]

    @abc.abstractmethod
    def _frames(self, inputs: Mapping[str, Tensor]) -> Sequence[Frame]:
        """Every frame and image of a prompt's inputs, by its id: those of one input in a row, with the order in which
        their tokens stand."""

    def _of_videos(self, inputs: Mapping[str, Tensor]) -> list[Frame]:
        """The frames of videos that have an input, and a place-holder, of their own."""
        videos = inputs.get("pixel_values_videos")
        if videos is None:
            return []
        token, num_frames = self.model.config.video_token_id, videos.shape[1]
        return [
            Frame(number // num_frames, "pixel_values_videos", number, 1, self.tokens_per_square, token)
            for number in range(videos.shape[0] * num_frames)
        ]

    @torch.no_grad()
    def see(self, prompt: Prompt) -> Seen:
        mentioned, states = prompt.frame_ids.unique(), []
        frames = self._mentioned(prompt, mentioned)
        for pixels, some in groupby(frames, key=_pixels):
            squares = prompt.model_inputs[pixels].flatten(0, -4)
            places = torch.cat([torch.arange(frame.first, frame.first + frame.num_squares) for frame in some])
            states += [self._encode(batch) for batch in squares[places].split(SQUARES_PER_BATCH)]
        sizes = torch.tensor([frame.num_squares for frame in frames], dtype=torch.long)
        return Seen(mentioned, (torch.cat(states),) if states else (), sizes)

    def _mentioned(self, prompt: Prompt, frame_ids: Int[Tensor, " F"]) -> list[Frame]:
        if len(frame_ids) == 0:
            return []
        frames = self._frames(prompt.model_inputs)
        return [frames[number] for number in frame_ids.tolist()]

    @torch.no_grad()
    def embed(self, prompt: Prompt, seen: Seen) -> Embeds:
        rows = self.decoder.embed(prompt.input_ids).clone()
        if prompt.num_video_tokens == 0:
            return Embeds(rows)
        mentioned, which = prompt.frame_ids.unique(return_inverse=True)
        frames, features = self._mentioned(prompt, mentioned), []
        states = seen.states[0][
            torch.isin(seen.frame_ids, mentioned).repeat_interleave(seen.sizes).to(seen.states[0].device)
        ]
        for _, some in groupby(frames, key=_pixels):
            own = list(some)
            mine, states = states.tensor_split([sum(frame.num_squares for frame in own)])
            features.append(self._features(mine, own))
        sizes = torch.tensor([frame.num_tokens for frame in frames])
        index = pad(sizes.cumsum(0), (1, 0))[which] + prompt.place_ids
        mask, tokens = prompt.video_mask.to(rows.device), torch.cat(features)
        rows[mask] = tokens[index.to(tokens.device)].to(rows)
        return Embeds(rows)

    @abc.abstractmethod
    def _encode(self, squares: Float[Tensor, "squares 3 side side"]) -> Float[Tensor, "squares patches d"]:
        """What the tower makes of some squares."""

    @abc.abstractmethod
    def _project(self, states: Float[Tensor, "squares patches d"]) -> Float[Tensor, "squares tokens D"]:
        """What the language model reads of them."""

    def _features(
        self, states: Float[Tensor, "squares patches d"], frames: Sequence[Frame]
    ) -> Float[Tensor, "tokens D"]:
        """All tokens of some frames of one input."""
        return torch.cat([self._project(batch) for batch in states.split(SQUARES_PER_BATCH)]).flatten(0, 1)


def _pixels(frame: Frame) -> str:
    return frame.pixels


def on(module: nn.Module, pixels: Tensor) -> Tensor:
    """Pixels where a module computes, in the dtype of its weights."""
    return pixels.to(device_of_work(module), next(module.parameters()).dtype)
