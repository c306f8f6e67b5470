"""Checkpoints of the families of a file each, by their path."""

from __future__ import annotations

import pytest
from transformers import GptOssConfig, InternVLConfig, InternVLForConditionalGeneration

import specvlm
import tiny
from specvlm.errors import ModelError
from tiny.sizes import Sizes
from tiny.squares import common

FILM = tiny.film(4)


@pytest.mark.part(2)
@pytest.mark.parametrize("name", tiny.MORE)
def test_a_pair_of_paths_answers_as_stock_generate_does(name: str, tmp_path) -> None:
    small = {"layers": 1, "hidden": 16, "heads": 2, "kv_heads": 1, "vocabulary": 352, "tied": True}
    for seed, (role, sizes) in enumerate((("target", {}), ("draft", small))):
        tiny.model(name, seed, **sizes).save_pretrained(tmp_path / role)
        tiny.processor(name).save_pretrained(tmp_path / role)
    own = tiny.pair(tiny.model(name), None).generate(FILM, "what happens?", max_new_tokens=16)
    for draft in (tmp_path / "draft", tmp_path / "target", "self"):
        vlm = specvlm.load(tmp_path / "target", draft)
        assert vlm.target.model_type == name
        answer = vlm.generate(FILM, "what happens?", max_new_tokens=16, pruning_ratio=0.0)
        assert answer.token_ids == own.token_ids
        assert answer.token_ids == vlm.autoregressive(FILM, "what happens?", max_new_tokens=16).token_ids
        assert answer.stats.num_drafted > 0
        assert draft == tmp_path / "draft" or answer.stats.num_accepted > 0


def test_a_text_model_with_sinks_is_refused_by_name() -> None:
    """InternVL 3.5's 20B has GPT-OSS inside, whose attention ours isn't."""
    text = GptOssConfig(
        **common.text_config(Sizes()), head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=4096
    )
    config = tiny.model("internvl").config
    made = InternVLForConditionalGeneration(
        InternVLConfig(vision_config=config.vision_config, text_config=text, image_token_id=config.image_token_id)
    )
    with pytest.raises(ModelError, match="s_aux"):
        tiny.pair(made.eval(), None)
