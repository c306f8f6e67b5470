"""What all Qwen-VL models have in common: M-RoPE, frames merged in time, and prompts of several videos and images."""

from __future__ import annotations

import abc
import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from specvlm.engine.decoder import Embeds
from specvlm.errors import OptionError
from specvlm.families.base import ANY_SIZE, Family, Image, PixelBudget, Seen, Turn, plain
from specvlm.families.pixels import Courier
from specvlm.families.whereabouts import device_of_work
from specvlm.prompts.lead import Lead
from specvlm.prompts.policy import PositionPolicy
from specvlm.prompts.prompt import Prompt
from specvlm.video import Clip

PATCHES_PER_BATCH, FRAMES_PER_BATCH = 1 << 13, 8
"""Patches, to whole frames, and frames that go through the vision tower at once, at most: bounds its memory, whatever
the video's length, and how long it waits for frames that are still being decoded."""

INPUTS = (
    "input_ids",
    "attention_mask",
    "mm_token_type_ids",
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)
"""What the processor makes of a question with videos and images."""

IMAGE, VIDEO = 1, 2
"""How `mm_token_type_ids` tell them apart; text is 0."""


@dataclass(frozen=True)
class Frame:
    """One step in time of a clip, as the vision tower sees it: `num_patches` rows of `pixels` from `first` on, of which
    `merge` x `merge` become a token."""

    pixels: str
    first: int
    height: int
    width: int
    merge: int

    @property
    def num_patches(self) -> int:
        return self.height * self.width

    @property
    def num_tokens(self) -> int:
        return self.num_patches // self.merge**2


@dataclass(frozen=True)
class EachInItsSize:
    """A video processor that prepares each clip by itself, in a size of its own: transformers has one for all of them.

    A budget for a clip depends on its length, and a short clip must not get less because a long one stands beside it.
    """

    processor: Any
    sizes: Sequence[Mapping[str, int]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)

    def __call__(
        self, videos: Sequence[Tensor], video_metadata: Sequence[Mapping[str, Any]], **kwargs: Any
    ) -> dict[str, Any]:
        """What the processor returns for all clips at once: patches and grids one clip after the other."""
        each = [
            self.processor([video], video_metadata=[told], **kwargs | {"size": size})
            for video, told, size in zip(videos, video_metadata, self.sizes, strict=True)
        ]
        return {
            name: torch.cat(values) if isinstance(values[0], Tensor) else list(chain.from_iterable(values))
            for name, values in ((name, [clip[name] for clip in each]) for name in each[0])
        }


class QwenVL(Family, abc.ABC):
    """A Qwen-VL model: `position_ids` have rows for time, height and width, from the model's own `get_rope_index`.

    A frame of the prompt is one temporal patch: `temporal_patch_size` frames of the video. The tower never lets two of
    them see each other, so that those without a kept token need not be encoded.
    """

    positions: ClassVar[PositionPolicy] = "original"
    position_rows: ClassVar[int] = 3
    inputs: ClassVar[tuple[str, ...]] = INPUTS

    @property
    def layout(self) -> Mapping[str, object]:
        vision = self.model.config.vision_config
        names = ("patch_size", "temporal_patch_size", "spatial_merge_size", "tokens_per_second")
        layout: dict[str, object] = {name: getattr(vision, name) for name in names if hasattr(vision, name)}
        if self._processor is None:
            return layout
        for kind in ("video_processor", "image_processor"):
            names = ("size", "resample", "image_mean", "image_std", "rescale_factor", "do_resize", "do_normalize")
            part = getattr(self.processor, kind)
            layout |= {f"{kind}.{name}": plain(getattr(part, name)) for name in names}
        return layout

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
        kwargs: dict[str, Any] = {}
        if videos:
            kwargs["video_metadata"] = [video.metadata() for video in videos]
            if pixels.given():
                sizes = [self._size(pixels, video.num_frames) for video in videos]
                kwargs["processor"] = copy.copy(self.processor)
                kwargs["processor"].video_processor = EachInItsSize(self.video_processor, sizes)
        return self._prompt(videos, images, question, system, history, lead, **kwargs)

    @abc.abstractmethod
    def _size(self, pixels: PixelBudget, num_frames: int) -> dict[str, int]:
        """The video processor's `size` for a budget."""

    def prompt_from_inputs(self, inputs: Mapping[str, Any]) -> Prompt:
        if unknown := sorted(inputs.keys() - {*self.inputs, "video_metadata"}):
            raise OptionError(f"{self.model_type} takes {', '.join(self.inputs)} here, and no {', '.join(unknown)}")
        inputs = {name: torch.as_tensor(inputs[name]).cpu() for name in self.inputs if inputs.get(name) is not None}
        if inputs["input_ids"].shape[0] != 1:
            raise OptionError(f"specvlm answers one prompt at a time, not a batch of {inputs['input_ids'].shape[0]}")
        ids = inputs["input_ids"][0]
        of_image, of_video = self._kinds(inputs)
        is_image = of_image[of_image | of_video]

        # Tokens of images belong to the images in their order, those of videos to the videos: wherever they stand.
        clip_ids, frame_ids, place_ids = (torch.zeros(len(is_image), dtype=torch.long) for _ in range(3))
        num_clips = num_frames = 0
        for mask, name in ((is_image, "image"), (~is_image, "video")):
            grids = inputs.get(f"{name}_grid_thw", torch.zeros(0, 3, dtype=torch.long))
            sizes = grids[:, 1:].prod(1) // self._merges(name, inputs) ** 2
            clips = torch.arange(len(grids)).repeat_interleave(grids[:, 0])
            frames = torch.arange(len(clips)).repeat_interleave(sizes[clips])
            starts = torch.nn.functional.pad(sizes[clips].cumsum(0), (1, 0))[:-1]
            places = torch.arange(len(frames)) - starts[frames]
            frames, places = (each[self._stays(name, inputs)] for each in (frames, places))
            if len(frames) != int(mask.sum()):
                raise OptionError(
                    f"the prompt has {int(mask.sum())} {name} place-holders; its {name}s need {len(frames)}"
                )
            clip_ids[mask] = clips[frames] + num_clips
            frame_ids[mask] = frames + num_frames
            place_ids[mask] = places
            num_clips, num_frames = num_clips + len(grids), num_frames + len(clips)
        clip_ids, still_ids = _in_order(clip_ids, is_image)
        if of_image[-1] or of_video[-1]:  # then the answer would go on from another position in each row
            raise OptionError(f"a prompt of {self.model_type} must end with text, not with a video or an image")

        position_ids = self._positions(inputs)
        return Prompt(
            input_ids=ids,
            position_ids=position_ids,
            next_position=int(position_ids[0, -1]) + 1,
            video_mask=of_image | of_video,
            clip_ids=clip_ids,
            frame_ids=frame_ids,
            place_ids=place_ids,
            still_ids=still_ids,
            model_inputs=inputs,
        )

    def _kinds(self, inputs: Mapping[str, Tensor]) -> tuple[Bool[Tensor, " L"], Bool[Tensor, " L"]]:
        """Which tokens of the prompt are of images, and which of videos."""
        ids, config = inputs["input_ids"][0], self.model.config
        return ids == config.image_token_id, ids == config.video_token_id

    def _merges(self, name: str, inputs: Mapping[str, Tensor]) -> Int[Tensor, " clips"]:
        """By how many patches a side each clip of a kind, image or video, is merged."""
        grids = inputs.get(f"{name}_grid_thw", ())
        return torch.full((len(grids),), self.model.config.vision_config.spatial_merge_size)

    def _stays(self, name: str, inputs: Mapping[str, Tensor]) -> Bool[Tensor, " tokens"] | slice:
        """Which tokens of all clips of a kind stand in the prompt: of some models' videos, not all of them."""
        return slice(None)

    def _positions(self, inputs: Mapping[str, Tensor]) -> Int[Tensor, "R L"]:
        """What stock `generate` would use."""
        if "image_grid_thw" not in inputs and "video_grid_thw" not in inputs:
            return torch.arange(inputs["input_ids"].shape[1]).expand(3, -1)
        if "mm_token_type_ids" not in inputs:
            raise OptionError("mm_token_type_ids are missing: pass on all that the processor returns")
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts")
        positions, _ = self.model.model.get_rope_index(**{name: inputs[name] for name in names if name in inputs})
        return positions[:, 0]

    @torch.no_grad()
    def see(self, prompt: Prompt) -> Seen:
        frames = self._frames(prompt.model_inputs)
        mentioned = prompt.frame_ids.unique()
        courier, batches = Courier(device_of_work(self.tower[0])), []
        for batch in _together([frames[number] for number in mentioned.tolist()]):
            pixels = _pixels(prompt, batch)
            batches.append(self._look(courier.bring(pixels, pixels.dtype), batch))
        sizes = torch.tensor([frames[number].num_tokens for number in mentioned.tolist()], dtype=torch.long)
        return Seen(mentioned, tuple(torch.cat(states) for states in zip(*batches, strict=True)), sizes)

    def _pixel_rows(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, int, int]:
        _, height, width = inputs["video_grid_thw"][0].tolist()
        patch = self.model.config.vision_config.patch_size
        return inputs["pixel_values_videos"], height * patch, width * patch

    def _frames(self, inputs: Mapping[str, Tensor]) -> list[Frame]:
        """Every frame of a prompt's inputs by its id: the images first, then the videos, each in their own order."""
        frames = []
        for name, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
            grids, first = inputs.get(f"{name}_grid_thw", torch.zeros(0, 3, dtype=torch.long)), 0
            for (steps, height, width), merge in zip(grids.tolist(), self._merges(name, inputs).tolist(), strict=True):
                for _ in range(steps):
                    frames.append(Frame(pixels, first, height, width, merge))
                    first += height * width
        return frames

    def _look(self, pixels: Float[Tensor, "patches d"], frames: Sequence[Frame]) -> tuple[Tensor, ...]:
        """What the tower makes of some frames, whose patches are these: a row for each video token."""
        visual = self.model.model.visual
        device = device_of_work(visual)
        grid = torch.tensor([[1, frame.height, frame.width] for frame in frames], device=device)
        output = visual(pixels.to(device, visual.dtype), grid_thw=grid, return_dict=True)
        return self._states(output, grid)

    @abc.abstractmethod
    def _states(self, output: Any, grid: Int[Tensor, "F 3"]) -> tuple[Tensor, ...]:
        """What the tower made of the frames of `grid`, a row for each video token."""

    @torch.no_grad()
    def embed(self, prompt: Prompt, seen: Seen) -> Embeds:
        rows = self.decoder.embed(prompt.input_ids).clone()
        if prompt.num_video_tokens == 0:
            return Embeds(rows)
        starts = torch.nn.functional.pad(seen.sizes.cumsum(0), (1, 0))
        index = starts[torch.searchsorted(seen.frame_ids, prompt.frame_ids)] + prompt.place_ids
        features, deep = self._project(tuple(state[index.to(state.device)] for state in seen.states))
        mask = prompt.video_mask.to(rows.device)
        rows[mask] = features.to(rows)
        return Embeds(rows, deep, None if deep is None else mask)

    @abc.abstractmethod
    def _project(self, states: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """Video tokens `[M, D]` of what the tower made, and what deeper layers add to them, `[layers, M, D]`."""


class MergesLast(QwenVL, abc.ABC):
    """Qwen2-VL and 2.5: the tower's patches are merged to tokens behind its last layer, and by nothing else.

    So two models whose language models differ in width, and their mergers with them, may still share the tower.
    """

    taken_apart: ClassVar[Collection[str]] = ("visual",)

    @property
    def tower(self) -> Sequence[nn.Module]:
        visual = self.model.model.visual
        return (visual.patch_embed, visual.blocks)

    def _size(self, pixels: PixelBudget, num_frames: int) -> dict[str, int]:
        processor = self.video_processor
        least = pixels.min_pixels or processor.size["shortest_edge"]
        most = pixels.max_pixels or processor.size["longest_edge"]
        if pixels.total_pixels is not None:  # as qwen-vl-utils has it, and transformers' cap_pixels_per_frame
            share = pixels.total_pixels * processor.temporal_patch_size // num_frames
            most = max(min(most, share), int(least * 1.05))
        return {"shortest_edge": least, "longest_edge": most}

    def _project(self, states: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        visual = self.model.model.visual
        return visual.merger(states[0].flatten(0, 1).to(device_of_work(visual))), None


class MergesDeep(QwenVL, abc.ABC):
    """Qwen3-VL: tokens are made of several layers' patches, and the language model takes them in at several depths
    (DeepStack, arXiv:2406.04334). Frames are divided by their times, written out between them: text, never pruned."""

    mask_by_layer_type: ClassVar[bool] = False

    @property
    def tower(self) -> Sequence[nn.Module]:
        return (self.model.model.visual,)

    def _size(self, pixels: PixelBudget, num_frames: int) -> dict[str, int]:
        return size_of_all(self.video_processor, pixels, num_frames)

    def _states(self, output: Any, grid: Int[Tensor, "F 3"]) -> tuple[Tensor, ...]:
        return (output.pooler_output, *output.deepstack_features)

    def _project(self, states: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        return states[0], torch.stack(states[1:]) if len(states) > 1 else None


def size_of_all(processor: Any, pixels: PixelBudget, num_frames: int) -> dict[str, int]:
    """A budget for a video processor that counts the pixels of all frames together, as Qwen3-VL's does."""
    size = processor.size
    least = size["shortest_edge"] if pixels.min_pixels is None else pixels.min_pixels * num_frames
    most = size["longest_edge"] if pixels.max_pixels is None else pixels.max_pixels * num_frames
    return {"shortest_edge": least, "longest_edge": min(most, pixels.total_pixels or most)}


def _together(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Frames as they go through the tower at once."""
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == FRAMES_PER_BATCH or sum(each.num_patches for each in batch) >= PATCHES_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _pixels(prompt: Prompt, frames: Sequence[Frame]) -> Float[Tensor, "patches d"]:
    """What the tower reads of some frames. No copy where they stand side by side."""
    first, stop = frames[0].first, frames[-1].first + frames[-1].num_patches
    if frames[0].pixels == frames[-1].pixels and sum(frame.num_patches for frame in frames) == stop - first:
        return prompt.pixels(frames[0].pixels, first, stop)
    return torch.cat([prompt.pixels(each.pixels, each.first, each.first + each.num_patches) for each in frames])


def _in_order(clip_ids: Int[Tensor, " M"], is_image: Tensor) -> tuple[Int[Tensor, " M"], frozenset[int]]:
    """Clips numbered as they come in the prompt, and which of them are images."""
    order = list(dict.fromkeys(clip_ids.tolist()))
    ranks = torch.tensor(order).argsort() if order else clip_ids
    clip_ids = ranks[clip_ids] if order else clip_ids
    return clip_ids, frozenset(clip_ids[is_image].tolist())
