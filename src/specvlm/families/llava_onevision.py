"""LLaVA-OneVision (arXiv:2408.03326): SigLIP frames pooled 2 x 2, one newline token behind the whole video."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from specvlm.engine.decoder import Embeds
from specvlm.errors import ModelError, OptionError
from specvlm.families.base import ANY_SIZE, Family, Image, PixelBudget, Seen, Turn, plain
from specvlm.families.pixels import Courier
from specvlm.families.whereabouts import device_of_work, weight_of
from specvlm.prompts.lead import Lead
from specvlm.prompts.policy import PositionPolicy
from specvlm.prompts.prompt import Prompt
from specvlm.video import Clip

FRAMES_PER_BATCH = 8
"""Frames that go through the vision tower at once: bounds its memory, whatever the length of the video, and how long it
waits for frames that are still being decoded."""

INPUTS = ("input_ids", "attention_mask", "pixel_values_videos")
"""What the processor makes of a video and a question."""


@final
class LlavaOnevision(Family):
    """Stock `LlavaOnevisionForConditionalGeneration`, with any text model that has full attention."""

    model_type: ClassVar[str] = "llava_onevision"
    positions: ClassVar[PositionPolicy] = "original"

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin | None, name: str) -> None:
        super().__init__(model, processor, name)
        vision = model.config.vision_config
        side = math.ceil((vision.image_size // vision.patch_size) / 2)
        self._tokens_per_frame = side * side
        if processor is None:
            return
        expected = math.ceil(math.isqrt(self.processor.num_image_tokens or 0) / 2) ** 2
        if expected != self._tokens_per_frame:
            raise ModelError(
                f"{name}: its processor makes {expected} tokens of a frame (num_image_tokens = "
                f"{self.processor.num_image_tokens}) and its vision tower {self._tokens_per_frame}"
            )

    @property
    def layout(self) -> Mapping[str, object]:
        layout = {"tokens per frame": self._tokens_per_frame, "frame size": self.model.config.vision_config.image_size}
        if self._processor is None:
            return layout
        video = self.processor.video_processor
        names = ("size", "resample", "image_mean", "image_std", "rescale_factor", "do_resize", "do_normalize")
        return layout | {name: plain(getattr(video, name)) for name in names}

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
        if len(videos) > 1 or images:
            raise OptionError(
                f"LLaVA-OneVision answers about one video here, not {len(videos)} videos and {len(images)} images"
            )
        if given := pixels.given():
            raise OptionError(f"{', '.join(given)}: LLaVA-OneVision makes every frame a square of a fixed size")
        return self._prompt(videos, [], question, system, history, lead)

    def prompt_from_inputs(self, inputs: Mapping[str, Tensor]) -> Prompt:
        if "pixel_values" in inputs:
            raise OptionError("the prompt holds an image: specvlm takes videos and text for LLaVA-OneVision")
        if unknown := sorted(inputs.keys() - set(INPUTS)):
            raise OptionError(f"LLaVA-OneVision takes {', '.join(INPUTS)} here, and no {', '.join(unknown)}")
        input_ids = inputs["input_ids"]
        if input_ids.shape[0] != 1:
            raise OptionError(f"specvlm answers one prompt at a time, not a batch of {input_ids.shape[0]}")
        input_ids = input_ids[0]
        video_mask = input_ids == self.model.config.video_token_id
        pixels = inputs.get("pixel_values_videos")
        num_videos, num_frames = (0, 0) if pixels is None else pixels.shape[:2]
        if pixels is not None:
            self._require_fit(*pixels.shape[-2:])
        if num_videos > 1:
            raise OptionError(f"LLaVA-OneVision answers about one video at a time, not {num_videos}")
        expected = num_frames * self._tokens_per_frame + num_videos
        if int(video_mask.sum()) != expected:
            raise OptionError(
                f"the prompt has {int(video_mask.sum())} video place-holders for {num_frames} frames; "
                f"they need {expected}"
            )
        frame_ids = torch.arange(num_frames).repeat_interleave(self._tokens_per_frame)
        place_ids = torch.arange(self._tokens_per_frame).repeat(num_frames)
        if num_videos:  # the newline has no place, and belongs to the end
            frame_ids = torch.cat([frame_ids, frame_ids[-1:]])
            place_ids = torch.cat([place_ids, place_ids.new_tensor([-1])])
        return Prompt(
            input_ids=input_ids,
            position_ids=torch.arange(len(input_ids))[None],
            next_position=len(input_ids),
            video_mask=video_mask,
            clip_ids=torch.zeros_like(frame_ids),
            frame_ids=frame_ids,
            place_ids=place_ids,
            model_inputs=dict(inputs),
        )

    def _pixel_rows(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, int, int]:
        [pixels] = inputs["pixel_values_videos"]
        height, width = pixels.shape[-2:]
        return pixels, height, width

    @property
    def tower(self) -> Sequence[nn.Module]:
        return (self.model.model.vision_tower,)

    @torch.no_grad()
    def see(self, prompt: Prompt) -> Seen:
        # Frames are encoded independently of each other: a pruned prompt needs only those it still mentions.
        frames = prompt.frame_ids[prompt.place_ids >= 0].unique()
        if len(frames) == 0:
            return Seen(frames, (), frames)
        tower = self.model.model.vision_tower
        dtype = next(tower.parameters()).dtype
        courier, batches = Courier(device_of_work(tower)), []
        for batch in frames.split(FRAMES_PER_BATCH):
            first, last = int(batch[0]), int(batch[-1])
            pixels = prompt.pixels("pixel_values_videos", first, last + 1, dim=1)[0, batch - first]
            output = tower(courier.bring(pixels, dtype), output_hidden_states=True)
            batches.append(self._selected(output.hidden_states))
        return Seen(frames, (torch.cat(batches),), torch.ones_like(frames))

    def _require_fit(self, height: int, width: int) -> None:
        vision = self.model.config.vision_config
        patches = (height // vision.patch_size) * (width // vision.patch_size)
        if patches != (vision.image_size // vision.patch_size) ** 2:
            raise ModelError(
                f"{self.name}: its processor makes frames of {width} x {height} pixels, and its vision tower takes "
                f"{vision.image_size} x {vision.image_size}: size in processor_config.json, or in "
                "video_preprocessor_config.json or preprocessor_config.json, should be that"
            )

    def _selected(self, hidden_states: Sequence[Tensor]) -> Float[Tensor, "frames patches d"]:
        """The layer, or layers side by side, that the checkpoint's config wants."""
        config = self.model.config
        layers = config.vision_feature_layer
        layers = [layers] if isinstance(layers, int) else layers
        chosen = torch.cat([hidden_states[layer] for layer in layers], dim=-1)
        return chosen[:, 1:] if config.vision_feature_select_strategy == "default" else chosen

    @torch.no_grad()
    def embed(self, prompt: Prompt, seen: Seen) -> Embeds:
        rows = self.decoder.embed(prompt.input_ids).clone()
        if prompt.num_video_tokens == 0:
            return Embeds(rows)
        core = self.model.model
        video = weight_of(core, "image_newline").to(rows).expand(prompt.num_video_tokens, -1).clone()
        placed = prompt.place_ids >= 0
        if placed.any():
            frames, which = prompt.frame_ids[placed].unique(return_inverse=True)
            states = seen.states[0][torch.searchsorted(seen.frame_ids, frames)]
            features = torch.cat(
                [core.apply_pooling(core.multi_modal_projector(batch)) for batch in states.split(FRAMES_PER_BATCH)]
            )
            video[placed.to(video.device)] = features[which, prompt.place_ids[placed]].to(video)
        rows[prompt.video_mask.to(rows.device)] = video.to(rows)
        return Embeds(rows)
