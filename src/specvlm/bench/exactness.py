"""How exact is low precision? Every token of every answer, judged by the target: `python -m specvlm.bench.exactness`.

In bfloat16 a forward over many rows rounds otherwise than one over a single row, and of two tokens that are nearly as
good the other one may come out best. Here each arm's answers are compared with stock `generate`'s, and each of their
tokens with the target's own choice at its place. Beside them stands the noise floor: stock `generate` compared with
itself, when it is asked the same thing twice in a batch, and when it reads the prompt in pieces.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from specvlm import pocket
from specvlm.answering.answer import Generation
from specvlm.answering.answerer import Answerer
from specvlm.answering.options import Options
from specvlm.answering.oracle import generate_stock
from specvlm.answering.recipe import prepare_generation
from specvlm.bench.pocket_pairs import film
from specvlm.bench.showing.renderings import markdown
from specvlm.bench.showing.report import Grid, keep
from specvlm.bench.widened.subjects import NAMES, build
from specvlm.comparing.arms import Way, find
from specvlm.comparing.record import first_divergence
from specvlm.engine.sequence import FinishReason
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError
from specvlm.families import Family
from specvlm.families.releases import cache_in, refuse_wrong_chunks, with_cache
from specvlm.machine import machine, versions
from specvlm.pipeline import SpecVLM
from specvlm.pocket.language import ask
from specvlm.pocket.world import make_scene
from specvlm.prompts.prompt import Prompt
from specvlm.video import Video

log = logging.getLogger("specvlm.bench.exactness")

PIECE = 256
"""Most tokens in a forward of the prompt that is read in pieces; a short one is read in two."""


@dataclass(frozen=True)
class Judged:
    """One answer. `gaps`: how far, in logits, each token is behind the best one at its place (0: it is the best one).
    `units`: the same in units of rounding of the best logit (the dtype's epsilon times its size, or times 1 if that is
    more)."""

    tokens: tuple[int, ...]
    first_divergence: int | None
    gaps: tuple[float, ...]
    units: tuple[float, ...]
    num_forwards: int


@dataclass(frozen=True)
class Answers:
    """Those of one arm, a prompt each."""

    arm: str
    answers: tuple[Judged, ...]

    @property
    def num_identical(self) -> int:
        return sum(each.first_divergence is None for each in self.answers)

    @property
    def first_divergence(self) -> int | None:
        """The earliest one of all answers."""
        return min((each.first_divergence for each in self.answers if each.first_divergence is not None), default=None)

    @property
    def gaps(self) -> list[float]:
        return [gap for each in self.answers for gap in each.gaps]

    @property
    def num_behind(self) -> int:
        """Tokens that weren't the best one."""
        return sum(gap > 0 for gap in self.gaps)

    @property
    def max_units(self) -> float:
        return max((unit for each in self.answers for unit in each.units), default=0.0)

    @property
    def mean_acceptance_length(self) -> float:
        """Tokens per target forward after the prefill, bonus included: plain decoding is 1.00."""
        num_forwards = sum(each.num_forwards for each in self.answers)
        return sum(max(0, len(each.tokens) - 1) for each in self.answers) / num_forwards if num_forwards else 1.0

    def to_json(self) -> dict[str, Any]:
        gaps = self.gaps
        return {
            "arm": self.arm,
            "answers": [asdict(each) for each in self.answers],
            "num_answers": len(self.answers),
            "num_identical": self.num_identical,
            "first_divergence": self.first_divergence,
            "num_tokens": len(gaps),
            "num_behind": self.num_behind,
            "max_gap": max(gaps, default=0.0),
            "mean_gap": statistics.fmean(gaps) if gaps else 0.0,
            "max_units": self.max_units,
            "mean_acceptance_length": self.mean_acceptance_length,
        }


@dataclass(frozen=True)
class Exactness:
    """What was found in one dtype: stock generate, its noise floor, and our arms, in this order."""

    dtype: str
    arms: tuple[Answers, ...]
    pair: str = ""
    """What the pair is called, for people."""

    def table(self) -> str:
        """For people; what the columns mean stands below."""
        grid = grid_of(self.to_json())
        return "\n".join([markdown(grid), "", *grid.notes])

    def summary(self) -> dict[str, Any]:
        """`to_json` without the answers: thousands of figures, of which a page shows sums."""
        record = self.to_json()
        for arm in record["arms"]:
            del arm["answers"]
        return record

    def to_json(self) -> dict[str, Any]:
        arms = [arm.to_json() for arm in self.arms]
        return {"pair": self.pair, "dtype": self.dtype, "arms": arms, "machine": machine(), "versions": versions()}


JUDGED = (
    "Identical: answers that are those of ar, stock generate, token for token; the first of the others differs at this "
    "token, counted from 0. Behind: tokens that aren't the best one at their place, by stock forwards over the prompt "
    "and over the answer. Gap: by how much, in logits; in units of rounding, the dtype's epsilon times the best logit. "
    "A token that differs with a gap of 0 is level with the best one: logits are rounded too. Acceptance: tokens per "
    "target forward after the prefill, bonus included (plain decoding = 1.00)."
)
NOISE = (
    "The noise floor is stock generate beside itself. ar twice: asked the same thing twice in one batch. ar in pieces: "
    "with a prefill of several forwards."
)


def grid_of(record: Mapping[str, Any]) -> Grid:
    """What `Exactness.to_json` says, an arm a row."""
    head = ("arm", "identical", "differs at", "tokens", "behind", "worst gap", "mean gap", "in units", "acceptance")
    rows = tuple(
        (
            arm["arm"],
            f"{arm['num_identical']} of {arm['num_answers']}",
            "" if arm["first_divergence"] is None else str(arm["first_divergence"]),
            str(arm["num_tokens"]),
            str(arm["num_behind"]),
            f"{arm['max_gap']:.4f}",
            f"{arm['mean_gap']:.5f}",
            f"{arm['max_units']:.2f}",
            f"{arm['mean_acceptance_length']:.2f}",
        )
        for arm in record["arms"]
    )
    title = f"Exactness in {record['dtype']}" + (f": {record['pair']}" if record["pair"] else "")
    return Grid(title, head, rows, (JUDGED, NOISE))


@final
class Judge:
    """What the target itself would say after each token of an answer, by stock forwards of the model.

    The prompt is read as stock `generate` reads it, once; each answer in one forward behind it.
    """

    def __init__(self, target: Family, prompt: Prompt) -> None:
        self._target, self._prompt = target, prompt
        with target.as_found(), torch.no_grad():
            read = cast(Any, target.model)(**_inputs(target, prompt), use_cache=True, logits_to_keep=1)
        self._first, self._cache = read.logits[0], cache_in(read)

    def logits(self, tokens: Sequence[int]) -> Float[Tensor, "n vocab"]:
        """In front of each token, in float32."""
        said = torch.tensor(tokens[:-1], device=self._first.device)[None]
        if said.shape[1] < 1:
            return self._first[: len(tokens)].float()
        target, prompt = self._target, self._prompt
        positions = (prompt.next_position + torch.arange(said.shape[1])).to(said.device)[None]
        if target.position_rows > 1:
            positions = positions.expand(target.position_rows, 1, -1)
        cache = with_cache(target.model.forward, self._cache)
        with target.as_found(), torch.no_grad():
            output = cast(Any, target.model)(input_ids=said, position_ids=positions, **cache)
        self._cache.crop(-said.shape[1])
        return torch.cat([self._first, output.logits[0]]).float()

    def judged(self, tokens: tuple[int, ...], right: tuple[int, ...], num_forwards: int, options: Options) -> Judged:
        """An answer beside the right one."""
        gaps, units = self.gaps(tokens, options)
        divergence = first_divergence(tokens, right)
        return Judged(tokens, divergence, tuple(gaps.tolist()), tuple(units.tolist()), num_forwards)

    def gaps(self, tokens: Sequence[int], options: Options) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """By how much each token is behind the best one, after the logits processors that `generate` uses: in logits,
        and in units of rounding (`Judged`). Errors: OptionError."""
        scores, prompt = self.logits(tokens), self._prompt
        processors: Any = prepare_generation(self._target, prompt.input_ids, options).processors
        if len(processors) and len(tokens):
            text = torch.cat([prompt.input_ids, torch.tensor(tokens, dtype=torch.long)])[None].to(scores.device)
            ends = range(prompt.num_tokens, text.shape[1])
            rows = [processors(text[:, :end], row[None]) for end, row in zip(ends, scores, strict=True)]
            scores = torch.cat(rows)
        best = scores.amax(-1)
        chosen = torch.tensor(tokens, dtype=torch.long, device=scores.device)
        behind = best - scores.gather(1, chosen[:, None])[:, 0]
        return behind, behind / (torch.finfo(self._target.model.dtype).eps * best.abs().clamp(min=1))


def _twice(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    """The first answer of a batch, cut where it ends: what ends sooner than its neighbour is padded."""
    stats = Stats(vlm.target.devices)
    prompt = vlm.prepare(video, question, options, stats)
    double = replace(prompt, model_inputs={name: torch.cat([one, one]) for name, one in prompt.model_inputs.items()})
    tokens, reason = generate_stock(vlm.target, double, options, stats)
    ends = prepare_generation(vlm.target, prompt.input_ids, options).stopping(len(tokens)).eos_ids
    last = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return _generation(vlm, tokens[: last + 1], reason, stats)


def _in_pieces(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    stats = Stats(vlm.target.devices)
    prompt = vlm.prepare(video, question, options, stats)
    piece = min(PIECE, -(-prompt.num_tokens // 2))
    refuse_wrong_chunks(piece, prompt.num_video_tokens)
    return _generation(vlm, *generate_stock(vlm.target, prompt, options, stats, prefill_chunk_size=piece), stats)


def _generation(vlm: Answerer, tokens: tuple[int, ...], reason: FinishReason, stats: Stats) -> Generation:
    stats.finish(len(tokens))
    return Generation(tokens, str(vlm.target.tokenizer.decode(list(tokens))), reason, stats)


FLOOR: Mapping[str, Way] = {
    "ar twice": Way("stock generate, asked the same thing twice in one batch.", _twice, needs_draft=False),
    "ar in pieces": Way("stock generate with a prefill of several forwards.", _in_pieces, needs_draft=False),
}
"""The noise floor. What differs here differs without us."""


def measure(
    vlm: SpecVLM,
    questions: Iterable[tuple[Any, str]],
    arms: Sequence[str] = ("loop", "sd", "specvlm", "strict"),
    options: Options | None = None,
    *,
    floor: Mapping[str, Way] | None = None,
    has_time: Callable[[], bool] = lambda: True,
) -> Exactness:
    """Answer every question about its video greedily: by stock generate and its noise `floor` (FLOOR), and in `arms`.

    When `has_time` says no, the questions that are left aren't asked. Errors: OptionError for options that sample, or
    an arm that `specvlm.comparing.arms` doesn't have.
    """
    options = options or Options(do_sample=False)
    if options.do_sample is not False:
        raise OptionError(f"do_sample must be False here, not {options.do_sample}: a draw needn't be the best token")
    ways = {"ar": find("ar"), **(FLOOR if floor is None else floor), **{arm: find(arm) for arm in arms}}
    judged: dict[str, list[Judged]] = {arm: [] for arm in ways}
    for number, (video, question) in enumerate(questions):
        if number and not has_time():
            break
        judge = Judge(vlm.target, vlm.prepare(video, question, options, Stats()))
        right: tuple[int, ...] | None = None
        for arm, way in ways.items():
            done = way.run(vlm, video, question, options)
            right = done.token_ids if right is None else right
            num_forwards = done.stats.num_rounds + done.stats.num_second_looks
            judged[arm].append(judge.judged(done.token_ids, right, num_forwards, options))
        differing = [arm for arm, answers in judged.items() if answers[-1].first_divergence is not None]
        log.info("question %d: %s", number, f"{', '.join(differing)} differ" if differing else "all the same")
    dtype = str(vlm.target.model.dtype).removeprefix("torch.")
    return Exactness(dtype, tuple(Answers(arm, tuple(answers)) for arm, answers in judged.items()))


def descriptions(num_films: int, num_frames: int) -> Iterator[tuple[Video, str]]:
    """Films of the pocket pairs' world that no training ever saw, each with the request to describe it."""
    for seed in pocket.HELD_OUT[:num_films]:
        scene = make_scene(seed)
        yield film(scene, num_frames), ask(scene, "detail", random.Random(seed)).text


def _inputs(target: Family, prompt: Prompt) -> dict[str, Tensor]:
    """What stock forwards take, where and as the model takes it; what isn't pixels stays as exact as it came."""
    model = target.model
    return {
        name: value.to(model.device, model.dtype if name.startswith("pixel_values") else None)
        for name, value in prompt.model_inputs.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m specvlm.bench.exactness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pair", choices=NAMES, default=NAMES[0])
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--prompts", type=int, default=20, help="held-out films to describe (default 20)")
    parser.add_argument("--frames", type=int, default=16, help="frames a film (default 16)")
    parser.add_argument("--tokens", type=int, default=256, help="most tokens of an answer (default 256)")
    parser.add_argument(
        "--arms", nargs="+", default=["loop", "sd", "specvlm", "strict"], help="ways of specvlm.comparing.arms"
    )
    parser.add_argument("--out", type=Path, help="write exactness-PAIR-DTYPE.json there, for docs/performance.md")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    vlm = build(given.pair, getattr(torch, given.dtype)).vlm
    options = Options(do_sample=False, max_new_tokens=given.tokens)
    found = replace(measure(vlm, descriptions(given.prompts, given.frames), given.arms, options), pair=given.pair)
    sys.stdout.write(found.table() + "\n")
    if given.out:
        keep(found.summary(), given.out, f"exactness-{given.pair}-{given.dtype}")
    if given.json:
        sys.stdout.write(json.dumps(found.to_json()) + "\n")


if __name__ == "__main__":
    main()
