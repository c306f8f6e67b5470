"""specvlm plan: what forwards cost here, what a plan makes of it, and what bytes alone would allow elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specvlm.answering.options import Options, RoundPolicy
from specvlm.cli.options import Json, Models, spread
from specvlm.cli.progress import counting
from specvlm.cli.screen import console, waiting, write_record
from specvlm.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console

    from specvlm.bench.on_paper import Predicted
    from specvlm.planning.costs import PairCosts
    from specvlm.planning.prediction import Outlook
    from specvlm.planning.rounds.costs import RoundCosts

TEXT_TOKENS = 100
"""Of a prompt, beside the video."""

GUESSES = (
    "Assumed: the draft's best guess is right at the given rate wherever all before it was, and each next best one in "
    "half of the cases left. In answers the plan learns what is so, and goes by the draft's confidence."
)
LENGTHS = "Tokens a round are emitted per target forward, bonus included; plain decoding is 1.00."


@spread
def plan(
    video_tokens: Annotated[int, typer.Option(min=0, help="Video tokens of the prompt.")] = 3000,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of the answer.")] = 128,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again, whatever is on disk.")] = False,
    predict: Annotated[
        bool,
        typer.Option(
            "--predict",
            help="No models and no measuring: predict, from published bandwidths, what the pairs of the SpecVLM paper "
            "would reach.",
        ),
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="No weights and no measuring: show what the models and their caches will take, what is free here, and "
            "where they would go.",
        ),
    ] = False,
    rounds: Annotated[
        RoundPolicy | None,
        typer.Option(
            help="Where rounds would be played: on the `device` or on the `host` (default: the device where the target "
            "is on CUDA).",
        ),
    ] = None,
    json: Json = False,
    *,
    models: Models,
) -> None:
    """Show what forwards cost on this machine, and the trees that `--plan auto` would grow at several acceptance rates.

    Where rounds are the device's, also what whole rounds cost, among which it chooses there. What is measured is kept
    on disk, and read from there the next time.

    \b
    Examples:
      specvlm plan --video-tokens 6000
      specvlm plan --predict
    """
    out = console(stderr=json)
    if memory:
        record = _weigh(video_tokens + TEXT_TOKENS + new_tokens, models, out)
    elif predict:
        record = _predict(video_tokens, new_tokens, out)
    else:
        record = _plan(video_tokens, new_tokens, fresh, rounds, models, out)
    if json:
        from specvlm.machine import machine, versions

        write_record(record | {"machine": machine(), "versions": versions()})


def _plan(
    video_tokens: int, new_tokens: int, fresh: bool, rounds: RoundPolicy | None, models: Models, out: Console
) -> dict[str, Any]:
    if not models.have_draft:
        raise OptionError("a plan is for a target with a draft: give --draft, or `self`")
    with waiting("Loading"):
        options = Options(plan="auto", rounds=rounds)
    vlm = models.load()
    with waiting("Measuring what forwards cost on this machine"):
        from specvlm.answering.placing import place
        from specvlm.families import Family
        from specvlm.planning.measuring import ROWS, pair_costs
        from specvlm.planning.prediction import RATES, outlook
        from specvlm.planning.ratios import FIRST
        from specvlm.planning.rounds.measuring import round_costs

        played, placed, two = None, place(vlm.pair, options), isinstance(vlm.draft, Family)
        most = 1 + two + (two and placed.stage is not None)
        tell, measured = counting("plan", "measurements"), count(1)
        tell(0, most)
        costs = pair_costs(vlm.target, vlm.draft, fresh=fresh, on_model=lambda: tell(next(measured), most))
        if placed.stage is not None and isinstance(vlm.draft, Family):
            captured = placed.stage.arena.captures
            played = round_costs(vlm.target, vlm.draft, placed.stage, captured=captured, fresh=fresh)
            tell(most, most)
    prompt, seen = video_tokens + TEXT_TOKENS, round(video_tokens * (1 - FIRST)) + TEXT_TOKENS
    forwards = [
        {
            "rows": rows,
            "target_seconds": costs.target.forward(rows, prompt),
            "draft_seconds": costs.draft.forward(rows, seen),
        }
        for rows in ROWS
    ]
    outlooks = [outlook(rate, costs, prompt, video_tokens, new_tokens) for rate in RATES]
    _show_forwards(forwards, prompt, seen, out)
    _show_outlooks(outlooks, costs, seen, out)
    plans: list[dict[str, Any]] = [asdict(each) for each in outlooks]
    record = {"forwards": forwards, "plans": plans, "costs": asdict(costs)}
    if played is None:
        return record | {"rounds_on_host_because": placed.reason}
    _show_rounds(played, prompt, seen, out)
    return record | {"rounds": asdict(played)}


def _weigh(context: int, models: Models, out: Console) -> dict[str, Any]:
    """Errors: ModelError for models that can't fit, once it is shown what they would take."""
    from rich.table import Table

    survey = models.look(context).survey
    from specvlm.families.room.placement import gib

    placed = survey.placement
    rows = [
        {"role": role, "dtype": str(weight.dtype).removeprefix("torch."), "quantised": weight.quantised}
        | {"weight_bytes": weight.weights, "cache_bytes": weight.cache(context), "device_map": where or "cpu"}
        for role, weight, where in (
            ("target", survey.target_weight, placed.target),
            ("draft", survey.draft_weight, placed.draft),
        )
        if weight is not None
    ]
    table = Table("model", "dtype", "weights", f"{context:,} tokens", "where")
    for row in rows:
        dtype = f"{row['dtype']}, quantised" if row["quantised"] else row["dtype"]
        table.add_row(row["role"], dtype, gib(row["weight_bytes"]), gib(row["cache_bytes"]), str(row["device_map"]))
    out.print(table)
    free = [f"{gib(gpu.free)} on cuda:{gpu.index} ({gpu.name})" for gpu in survey.memory.gpus]
    free += [] if survey.memory.ram is None else [f"{gib(survey.memory.ram)} of RAM"]
    out.print(f"Free: {', '.join(free) or 'nobody knows'}.\nDevice: {placed.reason}.")
    survey.require_room()
    return {"models": rows, "device": placed.reason, "free_ram_bytes": survey.memory.ram, "context": context}


def _show_forwards(forwards: list[dict[str, Any]], prompt: int, seen: int, out: Console) -> None:
    plain = forwards[0]["target_seconds"]
    rows = [
        (
            str(each["rows"]),
            _time(each["target_seconds"]),
            f"{each['target_seconds'] / plain:.2f} x",
            _time(each["draft_seconds"]),
            f"{each['draft_seconds'] / plain:.2f} x",
        )
        for each in forwards
    ]
    _show(("rows", "target", "of one row", "draft", "of the target's one row"), rows, out)
    out.print(
        f"Forwards over so many tokens at once, the target behind {prompt:,} tokens and the draft behind {seen:,}.\n"
    )


def _show_outlooks(outlooks: list[Outlook], costs: PairCosts, seen: int, out: Console) -> None:
    names = (
        *("rate", "depth", "guesses", "tokens a round", "tokens/s", "decode speedup", "with the draft's prompt"),
        "ratio",
    )
    rows = [
        (
            f"{each.rate:.2f}",
            str(each.round.depth or "plain"),
            str(each.round.num_nodes),
            f"{each.round.tokens:.2f}",
            f"{each.round.tokens_per_second:.1f}",
            f"{each.round.speedup:.2f} x",
            f"{each.speedup_with_reading:.2f} x",
            f"{each.pruning_ratio:g}",
        )
        for each in outlooks
    ]
    _show(names, rows, out)
    out.print(f"{GUESSES}\n{LENGTHS} Speedups are over plain decoding by the same costs.")
    if costs.draft_reads:
        out.print(f"The draft's prompt: {_time(costs.reading(seen))} for {seen:,} tokens. Ratio: the one to try next.")


def _show_rounds(costs: RoundCosts, prompt: int, seen: int, out: Console) -> None:
    names = ("depth", "width", "guesses", "drafting", "verifying", "a round", "of one without guesses")
    rows, plain = [], costs.plain.at(prompt)
    for each in costs.rounds:
        drafting, verifying, shape = each.grow.at(seen), each.settle.at(prompt), each.shape
        counts = (str(shape.depth), str(shape.width), str(shape.num_nodes))
        whole = drafting + verifying
        rows.append((*counts, _time(drafting), _time(verifying), _time(whole), f"{whole / plain:.2f} x"))
    out.print()
    _show(names, rows, out)
    out.print(
        f"Rounds on the device, behind as many tokens; one without guesses: {_time(plain)}. A round pays that emits "
        "more tokens, bonus included, than it takes rounds without guesses: answers learn which ones do."
    )


def _predict(video_tokens: int, new_tokens: int, out: Console) -> dict[str, Any]:
    with waiting("Predicting"):
        from specvlm.bench.on_paper import CARD_BYTES, REPORTED, predict
        from specvlm.planning.prediction import RATES
        from specvlm.planning.ratios import FIRST

        middle = TEXT_TOKENS + new_tokens // 2
        seen = round(video_tokens * (1 - FIRST)) + middle
        found = [
            predict(rate, pair, card, video_tokens + middle, seen)
            for pair in REPORTED
            for card in CARD_BYTES
            for rate in RATES
        ]
    out.print("PREDICTIONS by published bandwidths. None of this was measured by us.\n", style="bold")
    for pair, reported in REPORTED.items():
        _show_predictions([each for each in found if each.pair == pair], out)
        out.print(f"Reported by others (arXiv:2508.16201), for comparison: {reported:.2f} x.\n")
    out.print(f"{GUESSES}\n{LENGTHS} Decoding only, bfloat16, {FIRST:.0%} of {video_tokens:,} video tokens pruned.")
    out.print(
        "A forward takes as long as its weights, keys and values need from memory at the data sheet's bandwidth, which "
        "no kernel reaches. Cards that share a model take turns, each with its own layers, so their bandwidth is "
        "counted once. Speedups don't hang on the bandwidth as long as memory bounds both models; tokens a second do."
    )
    return {"predictions": [asdict(each) for each in found]}


def _show_predictions(found: list[Predicted], out: Console) -> None:
    names = (
        *("cards", "rate", "tokens, paper's tree", "speedup, paper's tree", "depth, planned", "guesses, planned"),
        *("tokens, planned", "speedup, planned", "tokens/s, planned"),
    )
    rows, before = [], ""
    for each in found:
        cards, paper, planned = f"{each.num_cards} x {each.machine}", each.paper_tree, each.planned_tree
        rows.append(
            (
                "" if cards == before else cards,
                f"{each.rate:.2f}",
                f"{paper.tokens:.2f}",
                f"{paper.speedup:.2f} x",
                str(planned.depth),
                str(planned.num_nodes),
                f"{planned.tokens:.2f}",
                f"{planned.speedup:.2f} x",
                f"{planned.tokens_per_second:.1f}",
            )
        )
        before = cards
    out.print(found[0].pair, style="bold")
    _show(names, rows, out, named=2)


def _show(head: Sequence[str], rows: Sequence[Sequence[str]], out: Console, named: int = 1) -> None:
    from specvlm.cli.columns import fitted

    for table in fitted(head, rows, out.width, named=named):
        out.print(table)
        out.print()


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.2f} ms"
