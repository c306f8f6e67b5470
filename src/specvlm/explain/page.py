"""An explanation as one self-contained page, for any browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from specvlm.explain.explanation import Explanation, Look
from specvlm.explain.layout import layout
from specvlm.pages import as_json, data_uri, render

MOST_WIDTH, MOST_PIXELS = 768, 9_000_000
"""Pixels across a frame on the page, and of all frames together: some 2 MB."""
SMALL = 160
"""Pixels across a frame up to which nothing is lost to JPEG."""
FEW, LEAST_SHOWN = 4, 200
"""So many frames are shown as wide as they are; more, in columns of about so many pixels."""

UNMEASURED = (
    "not measured: stock generate did not answer here; specvlm compare, asked the same, holds one against the other"
)

ISOLATED = "\u2068{}\u2069"
"""Text that may run from right to left, and leaves what is beside it where it is."""

STAGES = {
    1: ("kept for the draft",),
    2: ("kept: the target looks there", "kept: an even sample of the rest"),
}


def page(explanation: Explanation, command: str = "") -> str:
    """The page's HTML; it loads nothing. `command` is what a shell repeats it with, if a command made it.

    Whatever somebody else wrote (question, names, tokens) is data of the page's script, and never markup.
    """
    return render(
        "explain.html",
        command=command,
        headline=headline(explanation),
        settings=_settings(explanation),
        machine=explanation.processor,
        data=as_json(_data(explanation)),
    )


def headline(explanation: Explanation) -> str:
    """What speculation came to in this answer, in one sentence."""
    stats = explanation.generation.stats
    if not stats.num_rounds:
        return "The answer took no round: nothing had to be guessed."
    forwards = "one forward" if stats.num_rounds == 1 else f"{stats.num_rounds} forwards"
    return (
        f"{forwards} of the target gave {stats.num_tokens - 1} tokens, {stats.mean_acceptance_length:.2f} each, where "
        f"plain decoding gives one; the draft that guessed ahead saw {_share(explanation)} of the video tokens."
    )


def _share(explanation: Explanation) -> str:
    stats = explanation.generation.stats
    return f"{100 * stats.num_kept / stats.num_video_tokens:.0f} %" if stats.num_video_tokens else "none"


def _settings(explanation: Explanation) -> list[tuple[str, str]]:
    """What answered, and how it was asked to."""
    options, stats = explanation.options, explanation.generation.stats
    planned = options.planned
    chosen = ", as the plan chose" if planned and options.pruning_ratio is None else ""
    ratio = 1 - stats.num_kept / stats.num_video_tokens if stats.num_video_tokens else 0.0
    tree = options.tree or "dynamic"
    tree = tree if isinstance(tree, str) else "given as paths"
    unseen = f"{stats.num_video_tokens - stats.num_kept} of {stats.num_video_tokens} video tokens"
    return [
        ("target", f"{explanation.target} in {explanation.dtype}, on {explanation.processor}"),
        ("draft", explanation.draft),
        ("pruning", f"{options.make_pruner()}, ratio {ratio:.2f}{chosen}: the draft never saw {unseen}"),
        ("trees", "planned, round by round, by what forwards cost here" if planned else f"of one shape: {tree}"),
        ("speedup", UNMEASURED),
    ]


def _data(explanation: Explanation) -> dict[str, Any]:
    stats = explanation.generation.stats
    width = picture_width(explanation.looks)
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
        "looks": [_look(look, width) | {"warmth": explanation.warmth(look).tolist()} for look in explanation.looks],
        "frame": min(width, LEAST_SHOWN) if len(explanation.looks) > FEW else width,
        "heat_about": heat_about(explanation),
        "stages": STAGES.get(explanation.num_stages, ()),
        "kept_about": f"Pruner {explanation.options.make_pruner()}: each cell is a video token, lit where the draft "
        "saw it. The target saw everything.",
    }


def heat_about(explanation: Explanation) -> str:
    """What the colours of the attention mean."""
    least, most = explanation.attention_range
    return f"the target's attention, the larger the more: from {least:.2f} to {most:.2f} times the mean"


def _look(look: Look, width: int) -> dict[str, Any]:
    return {
        "picture": picture(look.frames[0], width),
        "caption": "" if look.seconds is None else f"{look.seconds:.2f} s",
        "scores": look.scores.tolist(),
        "stages": look.stages.tolist(),
        "share": float(look.scores.sum()),
    }


def picture_width(looks: Sequence[Look]) -> int:
    """How wide frames are on the page: as they are, unless all of them together had too many pixels."""
    if not looks:
        return MOST_WIDTH
    height, width, _ = looks[0].frames[0].shape
    return max(1, min(width, MOST_WIDTH, int((MOST_PIXELS / len(looks) * width / height) ** 0.5)))


def picture(frame: UInt8[np.ndarray, "H W 3"], width: int) -> str:
    """A frame as a data URL, no wider than `width` pixels."""
    image = Image.fromarray(frame)
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, format="PNG" if image.width <= SMALL else "JPEG", quality=88)
    kind = "png" if data.getvalue().startswith(b"\x89PNG") else "jpeg"
    return data_uri(f"image/{kind}", data.getvalue())
