#!/usr/bin/env bash
# transformers 5.24.0: asked about an image and a video in one prompt, the processor of SmolVLM2 makes place-holders for both
# and pixels of the video alone. No warning, no error.
#
# Both processors call what they make `pixel_values`, and the video's are written over the image's. Each alone is right.
# Whoever hands that to the model has asked about an image that it never gets.
#
# Seen on 2026-11-28 with torch 2.14.1, for an image of 5 squares and a video of 4 frames:
#   place-holders for an image 5, for a video 4, for both 9; squares of pixels for an image 5, for a video 4, for both 4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'torch==2.14.1' 'torchvision==0.29.1' 'transformers==5.24.0' \
    'num2words==0.5.14'

cat >"$folder/both.py" <<'PYTHON'
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

IMAGE, VIDEO, TOKENS = "<image>", "<video>", 4
words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
named = dict(
    image_token=IMAGE, video_token=VIDEO, fake_image_token="<fake>", global_image_token="<global>",
    end_of_utterance_token="<end>",
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?", extra_special_tokens=named)
whole, square = {"longest_edge": 32}, {"longest_edge": 16}
processor = SmolVLMProcessor(
    image_processor=SmolVLMImageProcessor(size=whole, max_image_size=square),
    tokenizer=tokenizer,
    video_processor=SmolVLMVideoProcessor(
        size=whole, max_image_size=square, video_sampling={"max_frames": 16, "fps": 1, "video_size": whole}
    ),
    image_seq_len=TOKENS,
    chat_template="unused",
)
times = dict(total_num_frames=4, fps=1.0, duration=4.0, frames_indices=[0, 1, 2, 3], height=32, width=32)
image = dict(images=[np.zeros((32, 32, 3), np.uint8)])
video = dict(videos=[np.zeros((4, 32, 32, 3), np.uint8)], video_metadata=[times], do_sample_frames=False)


def look(text: str, **given: object) -> tuple[int, int]:
    made = processor(text=[text], return_tensors="pt", **given)
    places = int((made["input_ids"] == tokenizer.convert_tokens_to_ids(IMAGE)).sum()) // TOKENS
    return places, made["pixel_values"].shape[1]


found = look(IMAGE, **image), look(VIDEO, **video), look(IMAGE + VIDEO, **image, **video)
for what, numbers in zip(("place-holders", "squares of pixels"), zip(*found)):
    print(f"{what}: for an image %d, for a video %d, for both %d" % numbers)
assert found == ((5, 5), (4, 4), (9, 4)), "an image beside a video has pixels now, or is refused"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/both.py" 2>/dev/null || { echo 'CHANGED'; exit 1; }
echo 'as described'
