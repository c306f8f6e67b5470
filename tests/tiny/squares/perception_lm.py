"""PerceptionLM: 4 tokens a square, of which an image has a small one and tiles."""

from __future__ import annotations

from transformers import (
    LlamaConfig,
    PerceptionLMConfig,
    PerceptionLMForConditionalGeneration,
    PerceptionLMImageProcessor,
    PerceptionLMProcessor,
    PerceptionLMVideoProcessor,
    PreTrainedModel,
    ProcessorMixin,
    TimmWrapperConfig,
)

from tiny.sizes import Sizes
from tiny.squares import common
from tiny.words import token_id, tokenizer

PATCH = 4


def processor() -> ProcessorMixin:
    return PerceptionLMProcessor(
        video_processor=PerceptionLMVideoProcessor(size={"height": common.SIDE, "width": common.SIDE}, **common.LOOK),
        image_processor=PerceptionLMImageProcessor(
            vision_input_type="thumb+tile", tile_size=common.SIDE, max_num_tiles=2, **common.LOOK
        ),
        tokenizer=tokenizer(image_token="<image>", video_token="<video>"),
        patch_size=PATCH,
        pooling_ratio=2,
        chat_template=common.chat_template("<video>", "<image>"),
    )


def model(sizes: Sizes) -> PreTrainedModel:
    vision = TimmWrapperConfig(
        architecture="vit_pe_lang_large_patch14_448",
        do_pooling=False,
        initializer_range=0.4,
        model_args={
            "img_size": [common.SIDE, common.SIDE], "patch_size": PATCH, "ref_feat_shape": [4, 4], "embed_dim": 16,
            "depth": 2, "num_heads": 2, "global_pool": "",
        },
    )  # fmt: skip
    config = PerceptionLMConfig(
        vision_config=vision,
        text_config=LlamaConfig(**common.text_config(sizes)),
        image_token_id=token_id("<image>"),
        video_token_id=token_id("<video>"),
        projector_pooling_ratio=2,
        tie_word_embeddings=sizes.tied,
    )
    return PerceptionLMForConditionalGeneration(config)
