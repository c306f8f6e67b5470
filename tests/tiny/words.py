"""The one tokenizer of all tiny models, and the ids that their configs name."""

from __future__ import annotations

from functools import lru_cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 320
"""Length of the tokenizer; models have as many rows unless they are padded on purpose."""

END = "<|im_end|>"
PAD = "<pad>"
QWEN_TOKENS = (
    "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
    "<|box_start|>", "<|box_end|>",
)  # fmt: skip


@lru_cache
def tokenizer(renamed: tuple[tuple[str, str], ...] = (), **named: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE over all bytes and a few words, so that any text can be asked and any answer decoded.

    `renamed` puts other tokens in the place of some of QWEN_TOKENS; `named` are those that processors ask for by name.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    words = [
        "what happens in the video ?",
        "a red ball rolls to the left and stops",
        "describe it in detail, größer 深い",
    ]
    learner.train_from_iterator(
        words * 4,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - len(QWEN_TOKENS),
            special_tokens=[PAD, "<|im_start|>", END, "<image>", "<video>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    learner.add_special_tokens([AddedToken(dict(renamed).get(token, token), special=True) for token in QWEN_TOKENS])
    assert learner.get_vocab_size() == VOCABULARY
    return PreTrainedTokenizerFast(tokenizer_object=learner, eos_token=END, pad_token=PAD, extra_special_tokens=named)


def token_id(token: str) -> int:
    number = tokenizer().convert_tokens_to_ids(token)
    assert isinstance(number, int)
    return number
