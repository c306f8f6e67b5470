"""Long films for models that know short ones: a short film, and a still picture before or behind it.

The pocket pairs were trained on 8 to 32 frames and answer about hundreds with a few words. A widened pair that was
given a detector (`specvlm.bench.widened.blindness`) ignores frames of one odd picture, the blank ones: it decodes,
encodes, prefills and caches them like all others, and answers as if the short film were all there is. Wherever figures
of such a film are shown, say so: most of the video is a long still that both models ignore, and a real long video has
more to tell a draft, and more to lose when it is pruned.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers import PreTrainedModel

from specvlm import video
from specvlm.bench.widened.blindness import Detector, separate
from specvlm.errors import ModelError, OptionError
from specvlm.families import Family, load_family
from specvlm.pocket import SIGNED
from specvlm.pocket.recipe.data import Grain
from specvlm.pocket.world import make_scene, render
from specvlm.video import Video

Side = Literal["before", "behind"]

SQUARES = 24
"""Of the blank picture, along each side."""
COLOURS = ((255, 0, 255), (0, 255, 0))
"""No scene of the pocket world has them side by side."""

FPS = 8
"""Frames a second of written films: the 32 frames of a short one take their usual 4 seconds."""

NUM_SCENES, NUM_BLANK, NUM_CODED = 60, 3, 4
"""Of what a detector learns: films of two frames, blank films with grain, and long films that were an mp4 file."""
CODED_SIZE = 288
"""Pixels along each side of the latter: as many as the pocket world's files have."""


@torch.no_grad()
def learn_detector(model: PreTrainedModel) -> Detector:
    """What tells `model`, of the pocket pair and on any device, blank frames from others: for `widen`.

    Learnt from frames of training films, with a camera's grain, and from others that went through a codec. Errors:
    ModelError for another family, or if blank frames are too much like others.
    """
    family = load_family(model)
    eyes = eyes_of(family)
    rng, grain = random.Random(0), Grain(0)
    films = [grain(render(make_scene(seed), sorted(rng.random() for _ in range(2)))) for seed in range(NUM_SCENES)]
    blank = [grain(blank_frames(4, len(films[0][0]))) for _ in range(NUM_BLANK)]
    for seed in range(NUM_SCENES, NUM_SCENES + NUM_CODED):
        short = render(make_scene(seed), np.arange(8) / 8, CODED_SIZE)
        coded = through_codec(long_film(short, 16, eyes.side))
        films.append(coded[8:] if eyes.side == "before" else coded[:8])
        blank.append(coded[:8] if eyes.side == "before" else coded[8:])
    real, odd = (torch.cat([eyes.rows(family, frames) for frames in group]) for group in (films, blank))
    unit, usual = eyes.unit(model.model, real)
    weight, bias = separate(real, odd)
    return Detector(weight, bias, unit, usual)


def blank_frames(num_frames: int, size: int) -> UInt8[np.ndarray, "T size size 3"]:
    """The blank picture, a chequerboard in two loud colours, `num_frames` times."""
    place = np.arange(size) * SQUARES // size
    board = np.array(COLOURS, np.uint8)[(place[:, None] + place) % 2]
    return np.repeat(board[None], num_frames, axis=0)


def long_film(frames: UInt8[np.ndarray, "T S S 3"], num_frames: int, side: Side) -> UInt8[np.ndarray, "F S S 3"]:
    """A film of `num_frames` frames: the given ones, with blank ones `before` or `behind` them.

    Where they go depends on the family (`eyes_of`). Errors: OptionError if there are more frames than that.
    """
    if num_frames < len(frames):
        raise OptionError(f"a film of {len(frames)} frames can't be made one of {num_frames}")
    blank = blank_frames(num_frames - len(frames), frames.shape[1])
    return np.concatenate([blank, frames] if side == "before" else [frames, blank])


def num_frames_of(family: Family, num_video_tokens: int) -> int:
    """How many frames, an even number, make nearly so many video tokens, as the family's processor has it."""
    few, more = (family.prepare([Video(blank_frames(count, CODED_SIZE))], "?").num_video_tokens for count in (2, 4))
    pairs = round((num_video_tokens - few) / (more - few)) + 1
    return 2 * max(pairs, 1)


def write_mp4(frames: Iterable[UInt8[np.ndarray, "S S 3"]], path: Path | str, fps: int = FPS) -> None:
    """Write frames of an even size as H.264 in yuv420p, signed as a film of the pocket world."""
    frames = iter(frames)
    first = next(frames)
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = SIGNED
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in itertools.chain([first], frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def through_codec(frames: UInt8[np.ndarray, "T S S 3"]) -> UInt8[np.ndarray, "T S S 3"]:
    """What is left of frames once they were an mp4 file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_mp4(frames, path)
        return video.load(path, num_frames=len(frames)).frames


@dataclass(frozen=True)
class Eyes:
    """How a family looks at frames, and what a detector has to know of it."""

    side: Side
    """Where blank frames leave positions alone. LLaVA-OneVision numbers all tokens one by one, so that the real frames
    have to be next to the question; Qwen2.5-VL's question goes on where the video *begins*, and its frames follow the
    clock, so that nothing moves if the blank ones come last."""
    inputs: Callable[[Any, Sequence[Tensor]], Float[Tensor, "n inputs"]]
    """(small `model.model`, `Seen.states`): what the projector's first layer reads."""
    unit: Callable[[Any, Float[Tensor, "n inputs"]], tuple[int, float]]
    """(small `model.model`, inputs of real frames): the unit that becomes the detector, and what it said on average."""

    @torch.no_grad()
    def rows(self, family: Family, frames: UInt8[np.ndarray, "T S S 3"]) -> Float[Tensor, "n inputs"]:
        """What the projector's first layer reads of some frames, in float64 on the CPU."""
        seen = family.see(family.prepare([Video(frames)], "?"))
        return self.inputs(family.model.model, seen.states).double().cpu()


def eyes_of(family: Family) -> Eyes:
    """Errors: ModelError for a family that has no pocket pair."""
    if family.model_type not in EYES:
        raise ModelError(f"blank frames are for {', '.join(EYES)}, not for {family.model_type}")
    return EYES[family.model_type]


def _added_unit(core: Any, rows: Float[Tensor, "n inputs"]) -> tuple[int, float]:
    return core.multi_modal_projector.linear_1.out_features, 0.0


def _least_useful_unit(core: Any, rows: Float[Tensor, "n inputs"]) -> tuple[int, float]:
    """The one whose part in the output varies the least; its mean can stay."""
    first, act, last = core.visual.merger.mlp
    said = act(torch.nn.functional.linear(rows, first.weight.double().cpu(), first.bias.double().cpu()))
    unit = int((said.std(0) * last.weight.double().cpu().norm(dim=0)).argmin())
    return unit, float(said[:, unit].mean())


EYES = {
    "llava_onevision": Eyes("before", lambda core, states: states[0].flatten(0, 1), _added_unit),
    "qwen2_5_vl": Eyes(
        "behind", lambda core, states: core.visual.merger.ln_q(states[0]).flatten(1), _least_useful_unit
    ),
}
