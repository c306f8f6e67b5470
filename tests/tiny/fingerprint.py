"""All of a model in which its owner could notice a change."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from transformers import PreTrainedModel


def fingerprint(model: PreTrainedModel) -> dict[str, Any]:
    """Compares by value: weights, modules and their attributes, configs, and the `rope_deltas` that Qwen-VL keeps."""
    tensors = {**model.state_dict(), **dict(model.named_buffers())}
    configs = [model.config, model.config.text_config, model.config.vision_config, model.get_decoder().config]
    rope_deltas = getattr(model.model, "rope_deltas", None)
    return {
        "tensors": {
            name: hashlib.sha256(tensor.view(torch.uint8).numpy()).hexdigest() for name, tensor in tensors.items()
        },
        "modules": {
            name: (module.training, sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, module in model.named_modules()
        },
        "rope_deltas": None if rope_deltas is None else rope_deltas.tolist(),
        "configs": [(config.to_dict(), config._attn_implementation, sorted(vars(config))) for config in configs],
        "generation": model.generation_config.to_dict(),
        "gradients": [(weight.requires_grad, weight.grad) for weight in model.parameters()],
    }
