#!/usr/bin/env bash
# tokenizers 0.23.3: a stream of tokens with byte fallback (Llama, Mistral, Gemma) raises where the whole decodes.
#
# ByteFallback takes a run of bytes together: is all of it UTF-8, it is text, and else every byte of it is a question mark
# in a diamond, the sound ones too. So <0x61> is "a", and is two diamonds once <0xC3> has come: what a stream has given
# away is no beginning of the text any more, and `DecodeStream.step` raises "Invalid prefix encountered" at the next token.
# All ids are of the vocabulary: nothing forbids a model to write a letter as its byte.
#
# Seen on 2026-11-28, for <0x61> <0xC3> b:
#   whole '\ufffd\ufffdb'
#   stream ['a', None, 'Invalid prefix encountered while decoding stream']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'tokenizers==0.23.3'

cat >"$folder/stream.py" <<'PYTHON'
from tokenizers import Tokenizer, decoders, models
from tokenizers.decoders import DecodeStream

vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"b": 256}
tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
ids = [0x61, 0xC3, 256]
whole = tokenizer.decode(ids)
print("whole", ascii(whole))

stream, given = DecodeStream([], False), []
try:
    for token in ids:
        given.append(stream.step(tokenizer, token))
except Exception as error:
    given.append(str(error).partition(".")[0])
print("stream", given)
assert whole == "\ufffd\ufffdb"
assert given == ["a", None, "Invalid prefix encountered while decoding stream"], "streams go on over such bytes now"
PYTHON
"$folder/venv/bin/python" "$folder/stream.py" || { echo 'CHANGED'; exit 1; }
echo 'as described'
