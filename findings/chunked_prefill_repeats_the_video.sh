#!/usr/bin/env bash
# transformers 5.20 to 5.22: `generate(prefill_chunk_size=...)` over a prompt with a video answers about another video.
#
# The features that `generate` has encoded beforehand are handed whole to each chunk, which takes as many of the first
# ones as it has place-holders. So the second chunk sees the beginning of the video again. No warning, no error, and the
# logits are off by far more than rounding. 5.23.0 hands each chunk its own rows; there both answers are the same.
#
# Seen on 2026-11-27 with transformers 5.22.0 and 5.23.0, torch 2.14.1, CPU, float32, a random model of two layers:
#   5.22.0 same prompt, whole and in chunks: off by 2.367 of the logits' spread
#   5.23.0 same prompt, whole and in chunks: off by 0.000 of the logits' spread
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'torch==2.14.1' 'torchvision==0.29.1' 'transformers==5.22.0'

cat >"$folder/chunks.py" <<'PYTHON'
import sys

import torch
import transformers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

VIDEO, START, END = 91, 92, 93
text = dict(
    vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    bos_token_id=1, eos_token_id=None, pad_token_id=0,
)
vision = dict(depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=32, fullatt_block_indexes=[1])
config = Qwen2_5_VLConfig(
    text_config=text, vision_config=vision, video_token_id=VIDEO, image_token_id=90,
    vision_start_token_id=START, vision_end_token_id=END,
)
torch.manual_seed(0)
model = Qwen2_5_VLForConditionalGeneration(config).eval()
for weight in model.parameters():
    torch.nn.init.normal_(weight, std=0.3)

grid = torch.tensor([[4, 4, 4]])  # four frames of two by two merged patches: 16 place-holders
ids = torch.tensor([[1, 5, START, *[VIDEO] * 16, END, 7, 8, 9]])
given = dict(
    input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == VIDEO).long() * 2,
    pixel_values_videos=torch.randn(64, 1176), video_grid_thw=grid,
)


def logits(**how):
    torch.manual_seed(0)
    said = model.generate(
        **given, max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_logits=True, **how
    )
    return said.logits[0][0]


whole, chunks = logits(), logits(prefill_chunk_size=8)
off = float((whole - chunks).abs().max() / whole.std())
print(transformers.__version__, f"same prompt, whole and in chunks: off by {off:.3f} of the logits' spread")
sys.exit(0 if (off > 0.1) == (sys.argv[1] == "off") else 1)
PYTHON

"$folder/venv/bin/python" "$folder/chunks.py" off || { echo 'CHANGED: 5.22.0 reads a video in chunks as it reads it whole'; exit 1; }
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'transformers==5.23.0'
"$folder/venv/bin/python" "$folder/chunks.py" same || { echo 'CHANGED: 5.23.0 no longer reads a video in chunks as it reads it whole'; exit 1; }
echo 'as described'
