"""What people's scripts hold on to: public names, what they are called with, commands and their options.

More may come. What is here may not go, or get another meaning by another order.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

import specvlm
from specvlm.cli import app

NAMES = """
    Arm Comparison DraftTree DynamicTree Generation ModelError OptionError Options SpecVLM SpecVLMError Stats
    TreeTemplate VideoError WatchList Watched __version__ custom_generate load
"""

CALLS = {
    "load": "target draft dtype device_map attn processor",
    "pocket.path": "family role",
    "pocket.demo_video": "destination number",
    "SpecVLM": "target draft",
    "SpecVLM.generate": "self video question options overrides",
    "SpecVLM.stream": "self video question options overrides",
    "SpecVLM.autoregressive": "self video question options overrides",
    "SpecVLM.watch": "self video options overrides",
    "SpecVLM.load_video": "self source options overrides",
    "SpecVLM.compare": "self video question options repeats overrides",
    "SpecVLM.without_draft": "self",
    "WatchList": "vlm max_bytes",
    "WatchList.watch": "self video options overrides",
    "Watched.ask": "self question options overrides",
    "Watched.stream": "self question options overrides",
    "Watched.autoregressive": "self question options overrides",
    "Watched.forget": "self",
    "Generation": "token_ids text finish_reason stats",
    "Options": """
        num_frames fps min_pixels max_pixels total_pixels more_videos images system history pruner pruning_ratio
        positions prune_images vision self_scope plan tree depth num_nodes width max_new_tokens do_sample temperature
        top_k top_p min_p repetition_penalty stop seed strict prefill_chunk
    """,
    "custom_generate": "model input_ids logits_processor stopping_criteria generation_config draft_model",
}

MODELS = "--target --draft --dtype --device-map --attn --threads"
ANSWER = """
    --num-frames --fps --min-pixels --max-pixels --total-pixels --more-videos --images --system --pruner --pruning-ratio
    --positions --prune-images --vision --self-scope --plan --tree --depth --num-nodes --width --max-new-tokens
    --do-sample --temperature --top-k --top-p --min-p --repetition-penalty --stop --seed --strict --prefill-chunk
"""
DATA = "--task --data --videos --subset --split --prompt --num-samples --order-seed --retry-broken"

COMMANDS = {
    "generate": f"video question --text-only --chat --stats --json {MODELS} {ANSWER}",
    "chat": f"video {MODELS} {ANSWER}",
    "compare": f"video question --arms --repeats --json {MODELS} {ANSWER}",
    "demo": "--family --film --repeats --save --device-map --json",
    "explain": f"video question --out --png {MODELS} {ANSWER}",
    "plan": f"--video-tokens --new-tokens --fresh --predict --json {MODELS}",
    "pruners": "--json",
    "bench": """
        --pair --target --draft --device-map --compile --video-tokens --new-tokens --ratios --arms --dtype --repeats
        --cached --exact-length --share-reading --threads --plot --html --out --json
    """,
    "eval": f"--out {DATA} --arms --engine --ray-address --num-actors --num-gpus --json {MODELS} {ANSWER}",
    "sweep": f"--out {DATA} --pruners --ratios --trees --frames --json {MODELS} {ANSWER}",
    "report": "runs --html --json",
    "convert": "run --to --out",
    "serve": """
        target draft --host --port --name --api-key --allowed-media-path --allowed-media-domain --fetch --allowed-origin
        --parallel --max-waiting --request-seconds --max-video-mib --max-new-tokens --memory-mib --log-requests --dtype
        --device --device-map --attn --threads
    """,
}


def test_every_public_name_is_there_and_known_to_dir():
    assert set(NAMES.split()) <= set(specvlm.__all__) <= set(dir(specvlm))
    assert all(getattr(specvlm, name) is not None for name in specvlm.__all__)


@pytest.mark.parametrize("call", CALLS)
def test_what_it_is_called_with_stays_in_order(call):
    found: Any = specvlm
    for part in call.split("."):
        found = getattr(found, part)
    known = CALLS[call].split()
    assert [name for name in inspect.signature(found).parameters if name in known] == known


def test_no_command_is_gone():
    assert COMMANDS.keys() <= get_command(app).commands.keys()  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_its_arguments_and_options(command):
    parameters = get_command(app).commands[command].params  # type: ignore[attr-defined]
    names = {name for each in parameters for name in each.opts}
    assert set(COMMANDS[command].split()) <= names


def test_the_version_is_told_without_pytorch():
    program = "import sys, specvlm, specvlm.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_whoever_loads_a_pair_needs_no_extra_and_no_tool_of_ours():
    """What draws, grades, trains or widens may be asked for later: by its own command."""
    program = """
import sys, specvlm
specvlm.load, specvlm.pocket, specvlm.custom_generate
others = ("matplotlib", "datasets", "pandas", "pyarrow", "sacrebleu", "ray", "peft", "bitsandbytes", "typer")
ours = ("specvlm.bench", "specvlm.evals", "specvlm.explain", "specvlm.pocket.recipe", "specvlm.drawing", "specvlm.cli")
print(sorted(name for name in sys.modules if name in others or name.startswith(ours)))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
