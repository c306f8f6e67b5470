"""Reading: a prompt that the target read while it was watched, and what pruners make of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.answering.options import Options
from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.stats import Stats
from specvlm.families import Family
from specvlm.pipeline import SpecVLM
from specvlm.prompts.prompt import Prompt
from specvlm.pruning import Pruner, PruningContext


@final
@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt of one video, the attention that the text behind the video pays to each of its tokens, and their
    embeddings. Pruners are pure: given this they choose what they chose when the question was answered.

    Axes: M video tokens, D hidden size, F frames as the model takes them.
    """

    prompt: Prompt
    scores: Float[Tensor, " M"]
    features: Float[Tensor, "M D"]

    def stages(self, pruner: Pruner, num_keep: int) -> tuple[Int[Tensor, " _"], ...]:
        """Which video tokens `pruner` keeps, by the stage that keeps them."""
        prompt = self.prompt
        return pruner.stages(PruningContext(num_keep, prompt.frame_ids, prompt.place_ids, self.scores, self.features))

    def per_frame(self, amounts: Float[Tensor, " M"]) -> Float[Tensor, " F"]:
        """Sums over the tokens of each frame."""
        frame_ids = self.prompt.frame_ids
        num_frames = int(frame_ids.max()) + 1 if len(frame_ids) else 0
        return torch.zeros(num_frames, dtype=amounts.dtype).index_add(0, frame_ids, amounts)

    @property
    def shares(self) -> Float[Tensor, " M"]:
        """The attention as shares of all that the video gets; all zero where nothing looks at it."""
        return self.scores / self.scores.sum().clamp(min=torch.finfo(self.scores.dtype).tiny)


def read(vlm: SpecVLM, video: Any, question: str, options: Options) -> Reading:
    """Let the target read a question about one video. Nothing is answered. Errors: OptionError, VideoError."""
    clip = vlm.load_video(video, options)
    return watched(vlm.target, vlm.prepare(clip, question, vlm.once_chosen(options), Stats()))


def watched(target: Family, prompt: Prompt) -> Reading:
    embeds = target.embed(prompt, target.see(prompt))
    places = prompt.video_mask.nonzero()[:, 0]
    recorder = ScoreRecorder(places, min(prompt.split, prompt.num_tokens - 1))
    target.decoder.prefill(embeds, prompt.position_ids, target.decoder.new_cache(prompt.num_tokens), recorder)
    return Reading(prompt, recorder.scores().cpu(), embeds.rows[places.to(embeds.rows.device)].cpu())
