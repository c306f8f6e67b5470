"""LLaVA-OneVision over a tiny model of every kind of text that transformers can put there."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
)

import tiny
from tiny.words import END, PAD, token_id

ANSWERED = (
    "afmoe", "apertus", "apertus1p5_text", "arcee", "aria_text", "axk1", "beam", "biogpt", "bitnet", "codegen",
    "cohere", "cohere2", "cohere2_moe", "cohere_compass_text", "cwm", "deepseek_v2", "deepseek_v3", "diffllama", "dory",
    "dots1", "ernie4_5", "ernie4_5_moe", "exaone", "exaone4", "exaone_moe", "flex_olmo", "gemma", "gemma3_text",
    "gemma3n_text", "gemma4_unified_text", "glm", "glm4", "glm4_moe", "glm4_moe_lite", "gpt_neox", "gptj", "granite",
    "granitemoe", "granitemoeshared", "helium", "hrm_text", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3",
    "hyperclovax", "internlm3", "iquestcoder", "jais2", "jetmoe", "kolibri1", "laguna", "lfm2", "lfm2_moe", "llama",
    "longcat_flash", "mellum", "minicpm3", "minimax_m2", "ministral", "ministral3", "mistral", "mixtral", "moshi",
    "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "persimmon", "phi", "phi3", "phimoe", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "sarvam_mla", "sarvam_moe", "seed_oss",
    "smollm3", "solar_open", "stablelm", "starcoder2", "youtu",
)  # fmt: skip
"""Their tokens are stock generate's."""

REFUSED = {
    "doge": "can't be run over a tree",  # it makes masks of what it reads
    "dots3_note_text": "layers of type 'indexed_attention'",
    "falcon_h1": "layers of type 'hybrid'",
    "flint": "FlintAttention wants s_aux",
    "gemma2": "Gemma2Attention wants softcap",
    "gemma4_text": "call `forward` from `inputs_embeds` without providing `input_ids`",  # as stock says of any video
    "git": "can't be run over a tree",
    "gpt_oss": "GptOssAttention wants s_aux",
    "granite_swa": "GraniteSWAAttention wants s_aux",
    "granitemoe_swa": "GraniteMoeSWAAttention wants s_aux",
    "hy_v4": "layers of type 'indexed_attention'",
    "lara_mini": "layers of type 'linear_attention'",
    "lfm3": "layers of type 'conv'",
    "llama4_text": "layers of type 'chunked_attention'",
    "mimo_v2_flash": "MiMoV2FlashAttention wants s_aux",
    "minimax_m3_vl_text": "layers of type 'minimax_m3_sparse'",
    "nemotron_h": "layers of type 'linear_attention'",
    "olmo_hybrid": "layers of type 'linear_attention'",
    "qwen3_next": "layers of type 'linear_attention'",
    "recurrent_gemma": "layers of type 'linear_attention'",
    "rembert": "can't be run over a tree",
    "rwkv": "takes no cache",
    "vaultgemma": "VaultGemmaAttention wants softcap",
    "xglm": "can't be run over a tree",
    "xlstm": "can't be run over a tree",
    "zamba2": "layers of type 'hybrid'",
    "zaya": "layers of type 'hybrid'",
}
"""And why. Those that aren't in either list can't be put into LLaVA-OneVision, by stock transformers either."""

SIZES: dict[str, Any] = {
    "vocab_size": tiny.VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096,
    "initializer_range": 0.4, "bos_token_id": None, "eos_token_id": token_id(END), "pad_token_id": token_id(PAD),
    # experts
    "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_k": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "n_shared_experts": 1, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1,
    # latent attention, states
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_d_ssm": 64,
    # other names of the same
    "d_model": 32, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 4096, "ffn_dim": 64, "n_ctx": 4096,
    "attention_heads": 4, "num_layers": 4,
    "attention_dropout": 0.0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout": 0.0,
    "is_decoder": True,
}  # fmt: skip

LATENT = {"num_key_value_heads": 4}

OF_ITS_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "minicpm3", "sarvam_mla", "youtu"), LATENT),
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")
        }
    },
    "cwm": {"bos_token_id": 1},
    "dory": {"n_input_layers": 1, "n_output_layers": 1},
    "dots3_note_text": {**LATENT, "head_dim": 16},
    "gemma3n_text": {
        "num_hidden_layers": 6, "num_kv_shared_layers": 2, "layer_types": ["full_attention", "sliding_attention"] * 3,
        "vocab_size_per_layer_input": tiny.VOCABULARY, "hidden_size_per_layer_input": 4,
        "activation_sparsity_pattern": None,
    },
    "gemma4_text": {"vocab_size_per_layer_input": tiny.VOCABULARY, "hidden_size_per_layer_input": 4},
    "gptj": {"rotary_dim": 4},
    # 32 layers one after the other, with weights as large, make chaos of rounding.
    "hrm_text": {"initializer_range": 0.1},
    "jetmoe": {"kv_channels": 8},
    "laguna": {"num_attention_heads_per_layer": [4, 8, 4, 8]},
    "lfm2": {"layer_types": ["full_attention"] * 4},
    "lfm2_moe": {"layer_types": ["full_attention"] * 4},
    "longcat_flash": {**LATENT, "num_layers": 2},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"] * 2, "index_n_heads": 2, "index_head_dim": 8,
        "rotary_dim": 8,
    },
    "recurrent_gemma": {"lru_width": 32},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip


def text_config(kind: str, **more: Any) -> PreTrainedConfig:
    """A small config of a kind of text model, of those settings that it has."""
    config = CONFIG_MAPPING[kind]
    names = inspect.signature(config.__init__).parameters.keys() | config.attribute_map.keys()
    given = {name: value for name, value in (SIZES | OF_ITS_OWN.get(kind, {}) | more).items() if name in names}
    for other, name in config.attribute_map.items():
        if name in given:
            given.pop(other, None)
    return config(**given)


def text_model(kind: str, **more: Any) -> PreTrainedModel:
    """LLaVA-OneVision, with the tower of the tiny one, over a text model of this kind."""
    config = LlavaOnevisionConfig(
        vision_config=tiny.llava_model(0, layers=1).config.vision_config,
        text_config=text_config(kind, **more),
        image_token_index=token_id("<image>"),
        video_token_index=token_id("<video>"),
        image_grid_pinpoints=[[16, 16]],
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = LlavaOnevisionForConditionalGeneration(config).float().eval()
    model.generation_config.eos_token_id = token_id(END)
    model.generation_config.pad_token_id = token_id(PAD)
    return model
