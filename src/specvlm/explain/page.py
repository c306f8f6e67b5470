"""An explanation as one self-contained page, for any browser."""

from __future__ import annotations

import base64
import io
import json
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from specvlm.explain.explanation import Explanation, Look
from specvlm.explain.layout import layout
from specvlm.machine import machine

PICTURE_WIDTH = 320
"""Pixels of a frame on the page, at most."""

ISOLATED = "\u2068{}\u2069"
"""Text that may run from right to left, and leaves what is beside it where it is."""

STAGES = {
    1: ("kept for the draft",),
    2: ("kept: the target looks there", "kept: an even sample of the rest"),
}


def page(explanation: Explanation) -> str:
    """The page's HTML; it loads nothing."""
    template = files("specvlm.explain").joinpath("page.html").read_text(encoding="utf-8")
    # In a script element `</script` is special, and `<!--` and `<script` together hide it. All that is no ASCII, halves
    # of letters too, json escapes itself.
    return template.replace("__DATA__", json.dumps(_data(explanation)).replace("<", "\\u003c"))


def _data(explanation: Explanation) -> dict[str, Any]:
    stats = explanation.generation.stats
    return {
        "question": explanation.question,
        "about": f"{ISOLATED.format(explanation.video)}: {sum(len(look.frames) for look in explanation.looks)} frames, "
        f"{stats.num_video_tokens} video tokens, {stats.num_prompt_tokens} prompt tokens in all.",
        "figures": [
            (f"{stats.mean_acceptance_length:.2f}", "tokens a target forward (plain decoding: 1.00)"),
            (str(stats.num_tokens), "tokens of the answer"),
            (str(stats.num_rounds), "target forwards after the prefill"),
            (f"{stats.num_kept} of {stats.num_video_tokens}", "video tokens that the draft saw"),
            (f"{stats.num_accepted} of {stats.num_drafted}", "guesses accepted"),
            (f"{stats.tokens_per_second:.0f}", "tokens a second, decoding"),
        ],
        "words": [vars(word) for word in explanation.words],
        "trees": [
            vars(tree) | {"accepted": sorted(tree.accepted), "last": tree.last, "layout": vars(layout(tree))}
            for tree in explanation.trees
        ],
        "looks": [_look(look) | {"warmth": explanation.warmth(look).tolist()} for look in explanation.looks],
        "heat_about": heat_about(explanation),
        "stages": STAGES.get(explanation.num_stages, ()),
        "kept_about": f"Pruner {explanation.options.make_pruner()}: each cell is a video token, lit where the draft "
        "saw it. The target saw everything.",
        "footer": f"Made by specvlm on {machine()['cpu']}. Times include no second reading.",
    }


def heat_about(explanation: Explanation) -> str:
    """What the colours of the attention mean."""
    least, most = explanation.attention_range
    return f"the target's attention, from {least:.2f} to {most:.2f} times the mean"


def _look(look: Look) -> dict[str, Any]:
    return {
        "picture": _picture(look.frames[0]),
        "caption": "" if look.seconds is None else f"{look.seconds:.2f} s",
        "scores": look.scores.tolist(),
        "stages": look.stages.tolist(),
        "share": float(look.scores.sum()),
    }


def _picture(frame: np.ndarray) -> str:
    """A frame as a data URL."""
    image = Image.fromarray(frame)
    image.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
    data = io.BytesIO()
    image.save(data, format="PNG" if image.width <= PICTURE_WIDTH // 2 else "JPEG", quality=85)
    kind = "png" if data.getvalue().startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
