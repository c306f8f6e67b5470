"""The whole recipe of the pocket pair, from nothing to two checkpoints: `python -m specvlm.pocket.train --out DIR`.

1. `see`: the vision tower and projector learn to name what single frames show, token by token.
2. `draft`: a language model of two layers learns to talk about films.
3. `target`: it is deepened, with layers that do nothing yet, to six and then to fourteen, and learns on.
4. `echo`: two of the target's layers, with its eyes, become the draft, and learn to say what the target would say.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import LlavaOnevisionForConditionalGeneration as Model
from transformers import Qwen2Tokenizer

from specvlm.pocket.data import LABELS, Batch, Conversations, StillLife
from specvlm.pocket.models import LAYERS, build_model, build_processor, build_tokenizer
from specvlm.pocket.optim import MasterAdamW

log = logging.getLogger("specvlm.pocket.train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stretch of training on films. The learning rate warms up, then falls in a straight line."""

    name: str
    steps: int
    rows: int
    frames: tuple[int, ...]
    learning_rate: tuple[float, float]
    layers: int = 2
    """Layers of the language model; a shallower one from the stage before is deepened first."""
    max_things: int = 3
    warmup: int = 100
    sees: bool = False
    """Whether the vision tower learns too: it is half of a small model's work, and knows most of its trade by now."""
    taught: bool = False
    """Whether the loss is mostly the distance from the finished target's predictions."""
    seed: int

    def rate(self, step: int) -> float:
        first, last = self.learning_rate
        return (first + (last - first) * step / self.steps) * min(1.0, (step + 1) / self.warmup)


SEE_STEPS = 500
DRAFT = (
    Stage(
        name="draft-1", steps=250, rows=32, frames=(8,), learning_rate=(6e-4, 6e-4), max_things=2, sees=True, seed=11
    ),
    Stage(name="draft-2", steps=500, rows=32, frames=(8, 16, 8), learning_rate=(6e-4, 5.4e-4), seed=12),
)
TARGET = (
    Stage(
        name="target-1", layers=6, steps=900, rows=32, frames=(8, 16, 8), learning_rate=(5e-4, 5e-4), warmup=50, seed=21
    ),
    Stage(name="target-2", layers=14, steps=350, rows=16, frames=(16, 8, 32, 8), learning_rate=(4e-4, 1e-5), seed=22),
)
ECHO = (
    Stage(name="echo-1", steps=850, rows=32, frames=(8, 16, 8, 32), learning_rate=(6e-4, 3.7e-4), seed=31),
    Stage(name="echo-2", steps=160, rows=24, frames=(16, 8, 32, 8), learning_rate=(3e-4, 1e-5), taught=True, seed=32),
)


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


def see(model: Model, steps: int, seed: int = 7) -> None:
    """Teach the vision tower and projector, in place, with linear heads that are thrown away afterwards."""
    heads = nn.ModuleDict({key: nn.Linear(256, classes) for key, classes in LABELS.items()}).to(torch.bfloat16)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_2.weight *= 20
    modules = (model.model.vision_tower, model.model.multi_modal_projector, heads)
    optimiser = MasterAdamW(p for module in modules for p in module.parameters())
    for step, batch in enumerate(batches(StillLife(rows=128, seed=seed), 0, steps)):
        seen = video_features(model, batch.pixels.to(torch.bfloat16))[:, :-1].float()
        seen = (seen * torch.rsqrt(seen.square().mean(-1, keepdim=True) + 1e-6)).to(torch.bfloat16)
        losses = {
            key: nn.functional.cross_entropy(head(seen).float().flatten(0, 1), batch.labels[key].flatten())
            for key, head in heads.items()
        }
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step(1e-3 * min(1.0, (step + 1) / 50) * min(1.0, 2 * (steps - step) / steps))
        if step % 50 == 0:
            log.info("see %d %s", step, {key: round(float(loss.detach()), 3) for key, loss in losses.items()})


def video_features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels `[B, T, 3, H, W]` as the decoder gets them, `[B, 9 T + 1, 256]`, newline last."""
    return model.model.get_video_features(pixels).pooler_output


def answer_logits(model: Model, batch: Batch, dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `[A, vocab]` float32 at the places before the A answer tokens of a batch, and those tokens `[A]`."""
    core = model.model
    seen = video_features(model, batch.pixels.to(dtype))
    embeds = core.language_model.embed_tokens(batch.ids)
    embeds = embeds.masked_scatter((batch.ids == model.config.video_token_index)[:, :, None], seen)
    hidden = core.language_model(
        inputs_embeds=embeds,
        attention_mask=batch.attention(dtype),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    asked = batch.labels[:, 1:] >= 0
    return model.lm_head(hidden[:, :-1][asked]).float(), batch.labels[:, 1:][asked]


def tell(model: Model, stage: Stage, tokenizer: Qwen2Tokenizer, out: Path, teacher: Model | None = None) -> None:
    """Train in place on films, resuming from `out/<stage>.pt` if there is one."""
    done, saved = 0, out / f"{stage.name}.pt"
    model.model.vision_tower.requires_grad_(stage.sees)
    optimiser = MasterAdamW(model.parameters())
    if saved.exists():
        state = torch.load(saved)
        done = state["step"]
        optimiser.load_state_dict(state["optimiser"])
    source = Conversations(
        tokenizer, rows=stage.rows, frames=stage.frames, max_things=stage.max_things, seed=stage.seed
    )
    began, waited = time.monotonic(), 0.0
    stream = batches(source, done, stage.steps)
    for step in range(done, stage.steps):
        before = time.monotonic()
        batch = next(stream)
        waited += time.monotonic() - before
        logits, labels = answer_logits(model, batch)
        loss = nn.functional.cross_entropy(logits, labels)
        if teacher is not None:
            with torch.no_grad():
                wanted = answer_logits(teacher, batch)[0].softmax(-1)
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
            torch.save({"step": step + 1, "optimiser": optimiser.state_dict()}, saved.with_suffix(".new"))
            saved.with_suffix(".new").replace(saved)
            save(model, tokenizer, out / stage.name)


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


def save(model: Model, tokenizer: Qwen2Tokenizer, path: Path) -> None:
    model.save_pretrained(path)
    build_processor(tokenizer).save_pretrained(path)


def load(path: Path) -> Model:
    kwargs: dict[str, Any] = {"dtype": torch.bfloat16, "attn_implementation": "eager"}
    return Model.from_pretrained(path, **kwargs)


def run(out: Path, upto: str = "") -> None:
    """Every stage that has not been finished in `out`, in order; stops after the stage named `upto`."""
    tokenizer = build_tokenizer()
    if not (out / "see").exists():
        model = build_model("draft", tokenizer).bfloat16()
        see(model, SEE_STEPS)
        save(model, tokenizer, out / "see")
    model = load(out / "see")
    with torch.no_grad():  # both kinds of token enter the language model about equally loud
        for weight in model.model.multi_modal_projector.linear_2.parameters():
            weight *= 0.25
        model.model.language_model.embed_tokens.weight *= 3
    for stage in DRAFT:
        tell(model, stage, tokenizer, out)
        if stage.name == upto:
            return
    target = model
    for stage in TARGET:
        if stage.layers > len(target.model.language_model.layers):
            target = deepen(target, stage.layers)
        tell(target, stage, tokenizer, out)
        if stage.name == upto:
            return
    model = slim(target, LAYERS["draft"])
    for stage in ECHO:
        tell(model, stage, tokenizer, out, teacher=target if stage.taught else None)
    save(target, tokenizer, out / "target")
    save(model, tokenizer, out / "draft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="where checkpoints go, finished and not")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--upto", default="", help="stop after this stage")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    run(options.out, options.upto)


if __name__ == "__main__":
    main()
