"""The recipe of the pocket pair, from nothing to two checkpoints: `python -m specvlm.pocket.recipe.train --out DIR`.

1. `see`: the vision tower and projector learn to name what single frames show, token by token.
2. `draft`: a language model of two layers learns to talk about films.
3. `target`: it is deepened, with layers that do nothing yet, to six and then to fourteen, and learns on.
4. `echo`: two of the target's layers, with its eyes, become the draft, and learn to say what the target would say.

The LLaVA-OneVision pair is made from nothing in this way. The Qwen2.5-VL pair takes over that pair's language models:
its `see` also learns to show them what they are used to, there is no `draft` stage, and its eyes rest from then on, so
that target and draft have the same.

Every batch is a function of its number, every stage can be interrupted and resumed. The seeds of `HELD_OUT` in
`specvlm.pocket` are never drawn.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Qwen2Tokenizer

from specvlm.pocket.recipe.architecture import CELLS, LAYERS, Architecture, Role
from specvlm.pocket.recipe.courses import COURSES, Course, Stage
from specvlm.pocket.recipe.data import LABELS, Batch, Conversations, StillLife
from specvlm.pocket.recipe.inheritance import Inheritance
from specvlm.pocket.recipe.models import ARCHITECTURES, architecture
from specvlm.pocket.recipe.optim import MasterAdamW

Model = Any
"""One of the stock model classes."""

log = logging.getLogger("specvlm.pocket.recipe.train")

LIKENESS = 5.0
"""Weight of looking like the lender's features beside that of each label."""


def batches(source: Any, start: int, stop: int) -> Iterator:
    """Batches `start` to `stop` of a source, made ahead of time by a process of its own."""
    loader = DataLoader(
        source,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=1,
        prefetch_factor=6,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    return iter(loader)


def resume(optimiser: MasterAdamW, saved: Path) -> int:
    """How many steps have been done already; the weights are set to what they were then."""
    if not saved.exists():
        return 0
    state = torch.load(saved)
    optimiser.load_state_dict(state["optimiser"])
    return state["step"]


def keep(optimiser: MasterAdamW, step: int, saved: Path) -> None:
    """Write what `resume` reads, or nothing at all if it is interrupted."""
    torch.save({"step": step, "optimiser": optimiser.state_dict()}, saved.with_suffix(".new"))
    saved.with_suffix(".new").replace(saved)


def see(made: Architecture, model: Model, course: Course, saved: Path, seed: int = 7) -> None:
    """Teach the vision tower and projector, in place, with linear heads that are thrown away; resumes from `saved`.

    With an inheritance, features also come close to those that the inherited language models know.
    """
    frames = made.frames_per_token
    heads = nn.ModuleDict({key: nn.Linear(256, classes * frames) for key, classes in LABELS.items()}).to(torch.bfloat16)
    with torch.no_grad():
        made.outlet(model).weight *= 20
    steps, inheritance = course.see, course.inheritance
    lender = None if inheritance is None else inheritance.model("target")
    optimiser = MasterAdamW(p for module in (*made.eyes(model), heads) for p in module.parameters())
    done = resume(optimiser, saved)
    for step, batch in enumerate(batches(StillLife(made, rows=course.see_rows, seed=seed), done, steps), done):
        pixels = batch.pixels.to(torch.bfloat16)
        seen = made.features(model, pixels)[:, :CELLS].float()
        even = (seen * torch.rsqrt(seen.square().mean(-1, keepdim=True) + 1e-6)).to(torch.bfloat16)
        losses = {
            key: nn.functional.cross_entropy(
                head(even).float().unflatten(-1, (frames, -1)).flatten(0, 2), batch.labels[key].flatten()
            )
            for key, head in heads.items()
        }
        if inheritance is not None:
            wanted = inheritance.features(lender, pixels).float()
            losses["unlike"] = LIKENESS * (seen - wanted).square().mean() / wanted.var()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step(1e-3 * min(1.0, (step + 1) / 50) * min(1.0, 2 * (steps - step) / steps))
        if step % 50 == 0 or step + 1 == steps:
            log.info("see %d %s", step, {key: round(float(loss.detach()), 3) for key, loss in losses.items()})
        if step % 50 == 49:
            keep(optimiser, step + 1, saved)


def answer_logits(
    made: Architecture, model: Model, batch: Batch, dtype: torch.dtype = torch.bfloat16
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `[A, vocab]` float32 at the places before the A answer tokens of a batch, and those tokens `[A]`."""
    core = model.model
    seen = made.features(model, batch.pixels.to(dtype))
    embeds = core.language_model.embed_tokens(batch.ids)
    embeds = embeds.masked_scatter((batch.ids == made.video_id(model.config))[:, :, None], seen)
    hidden = core.language_model(
        inputs_embeds=embeds,
        attention_mask=batch.attention(dtype),
        position_ids=batch.positions.squeeze(0),  # a decoder with one row of positions has no axis for it
        use_cache=False,
    ).last_hidden_state
    asked = batch.labels[:, 1:] >= 0
    return model.lm_head(hidden[:, :-1][asked]).float(), batch.labels[:, 1:][asked]


def tell(
    made: Architecture,
    model: Model,
    stage: Stage,
    tokenizer: Qwen2Tokenizer,
    out: Path,
    teacher: Model | None = None,
) -> None:
    """Train in place on films, resuming from `out/<stage>.pt` if there is one."""
    saved = out / f"{stage.name}.pt"
    made.eyes(model)[0].requires_grad_(stage.sees)
    optimiser = MasterAdamW(model.parameters())
    done = resume(optimiser, saved)
    source = Conversations(
        made, tokenizer, rows=stage.rows, frames=stage.frames, max_things=stage.max_things, seed=stage.seed
    )
    began, waited = time.monotonic(), 0.0
    stream = batches(source, done, stage.steps)
    for step in range(done, stage.steps):
        before = time.monotonic()
        batch = next(stream)
        waited += time.monotonic() - before
        logits, labels = answer_logits(made, model, batch)
        loss = nn.functional.cross_entropy(logits, labels)
        if teacher is not None:
            with torch.no_grad():
                wanted = answer_logits(made, teacher, batch)[0].softmax(-1)
            loss = 0.2 * loss + 0.8 * nn.functional.cross_entropy(logits, wanted)
        loss.backward()
        norm = optimiser.step(stage.rate(step))
        if step % 25 == 0:
            right = (logits.argmax(-1) == labels).float().mean()
            log.info(
                "%s %d loss %.4f right %.4f norm %.2f, %.0f s, %.0f s waiting for data",
                *(stage.name, step, loss.detach(), right, norm, time.monotonic() - began, waited),
            )
        if step % 50 == 49 or step + 1 == stage.steps:
            keep(optimiser, step + 1, saved)
            save(made, model, tokenizer, out / stage.name)


def deepen(model: Model, num_layers: int) -> Model:
    """The same model with more layers, spread evenly between the old ones, which add nothing until they are trained."""
    deep = copy.deepcopy(model)
    old = deep.model.language_model.layers
    places = {index * num_layers // len(old): layer for index, layer in enumerate(old)}
    layers = []
    for index in range(num_layers):
        layer = places.get(index)
        if layer is None:
            layer = type(old[0])(deep.config.text_config, 0).to(torch.bfloat16)
            for name, weight in layer.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight", "bias")):
                    nn.init.zeros_(weight)
                elif weight.dim() > 1:
                    nn.init.normal_(weight, std=0.02)
        layers.append(layer)
    return _with_layers(deep, layers)


def slim(model: Model, num_layers: int) -> Model:
    """The same model with fewer layers: every n-th of the old ones, which were the first to be trained."""
    thin = copy.deepcopy(model)
    old = thin.model.language_model.layers
    return _with_layers(thin, [old[index * len(old) // num_layers] for index in range(num_layers)])


def _with_layers(model: Any, layers: list[Any]) -> Model:
    for index, layer in enumerate(layers):
        layer.self_attn.layer_idx = index
    model.model.language_model.layers = nn.ModuleList(layers)
    config = model.config.text_config
    config.num_hidden_layers = len(layers)
    config.layer_types = ["full_attention"] * len(layers)
    return model


def save(made: Architecture, model: Model, tokenizer: Qwen2Tokenizer, path: Path) -> None:
    model.save_pretrained(path)
    made.processor(tokenizer).save_pretrained(path)


def run(family: str, out: Path, upto: str = "") -> None:
    """Every stage that has not been finished in `out`, in order; stops after the stage named `upto`."""
    made, course = architecture(family), COURSES[family]
    tokenizer, inheritance = made.tokenizer(), course.inheritance
    if not (out / "see").exists():
        model = made.build("draft", tokenizer).bfloat16()
        see(made, model, course, out / "see.pt")
        save(made, model, tokenizer, out / "see")
    model = made.load(out / "see")
    if inheritance is None:
        with torch.no_grad():  # both kinds of token enter the language model about equally loud
            for weight in made.outlet(model).parameters():
                weight *= 0.25
            model.model.language_model.embed_tokens.weight *= 3
        target = model
    else:
        target = heir(made, model, "target", tokenizer, inheritance)
    for stage in course.target:
        if stage.layers > len(target.model.language_model.layers):
            target = deepen(target, stage.layers)
        tell(made, target, stage, tokenizer, out)
        if stage.name == upto:
            return
    if inheritance is None:
        draft = slim(target, LAYERS["draft"])
    else:
        draft = heir(made, target, "draft", tokenizer, inheritance)
    for stage in course.echo:
        tell(made, draft, stage, tokenizer, out, teacher=target if stage.taught else None)
        if stage.name == upto:
            return
    save(made, target, tokenizer, out / "target")
    save(made, draft, tokenizer, out / "draft")


def heir(made: Architecture, seeing: Model, role: Role, tokenizer: Qwen2Tokenizer, inheritance: Inheritance) -> Model:
    """A model with the eyes of `seeing` and an inherited language model."""
    model = made.build(role, tokenizer).bfloat16()
    inheritance.language(role, model, tokenizer)
    for ours, theirs in zip(made.eyes(model), made.eyes(seeing), strict=True):
        ours.load_state_dict(theirs.state_dict())
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=ARCHITECTURES, default="llava_onevision", help="the architecture")
    parser.add_argument("--out", type=Path, help="where checkpoints go, finished and not (default runs/pocket/FAMILY)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--upto", default="", help="stop after this stage")
    options = parser.parse_args()
    out = options.out or Path("runs/pocket") / options.family
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    out.mkdir(parents=True, exist_ok=True)
    run(options.family, out, options.upto)


if __name__ == "__main__":
    main()
