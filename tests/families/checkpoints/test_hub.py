"""The Hub, there or not: what can't be had is refused at once and with the reason, and what was kept is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from specvlm.errors import ModelError
from specvlm.families.checkpoints.hub import reached

NAME = "some/checkpoint"
COMMIT = "0" * 40


def keep(cache: Path, name: str = NAME, files: tuple[str, ...] = ("config.json",)) -> Path:
    """A folder in the cache of huggingface_hub, as a download leaves it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in files:
        (snapshot / file).write_text("{}")
    return snapshot


def test_a_folder_is_nobodys_business(tmp_path):
    assert reached(str(tmp_path), {"token": "t"}) == {"token": "t"}


def test_without_a_network_what_was_kept_is_enough(tmp_path):
    keep(tmp_path)
    hub = {"cache_dir": tmp_path}
    assert reached(NAME, hub) == {"cache_dir": tmp_path, "local_files_only": True}
    assert hub == {"cache_dir": tmp_path}


def test_an_adapter_that_was_kept_is_enough_too(tmp_path):
    keep(tmp_path, files=("adapter_config.json",))
    assert reached(NAME, {"cache_dir": tmp_path})["local_files_only"]


@pytest.mark.parametrize("hub", [{"revision": "v2"}, {"subfolder": "draft"}])
def test_another_revision_or_folder_of_it_is_not(tmp_path, hub):
    keep(tmp_path)
    with pytest.raises(ModelError, match="isn't in the cache"):
        reached(NAME, {"cache_dir": tmp_path, **hub})


def test_the_whole_reason_is_told(tmp_path):
    with pytest.raises(ModelError) as caught:
        reached(NAME, {"cache_dir": tmp_path})
    for words in (NAME, "no such folder", str(tmp_path), "HF_HUB_OFFLINE"):
        assert words in str(caught.value)


SCRIPT = """
import http.server, json, sys, threading, time
from pathlib import Path

class Hub(http.server.BaseHTTPRequestHandler):
    seen = []
    def do_HEAD(self):
        self.seen.append(self.path)
        if self.path.startswith("/silent/"):
            time.sleep(30)
        self.send_response(503 if self.path.startswith("/broken/") else 404)
        self.end_headers()
    do_GET = do_HEAD
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
import os
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_address[1]}"

from specvlm.families.checkpoints import hub
from specvlm.families.checkpoints.keywords import Keywords
from specvlm.families.loading import Checkpoint

hub.SECONDS = 1.0
told = {}

def ask(name, cache):
    start = time.perf_counter()
    try:
        Checkpoint.find(name, Keywords.of("target_kwargs", {"cache_dir": cache})).load()
        said = "loaded"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    told[name] = [said, time.perf_counter() - start]

for name in ("silent/one", "broken/one", "missing/one"):
    ask(name, sys.argv[1])
told["requests"] = sum("broken" in path and "/resolve/" in path for path in Hub.seen)
server.shutdown()
server.server_close()
for name in ("closed/one", "kept/one"):
    ask(name, sys.argv[1])
print(json.dumps(told))
"""


def test_a_hub_that_does_not_answer_takes_a_moment_and_not_a_minute(tmp_path):
    snapshot = keep(tmp_path, "kept/one", ())
    tiny.llava_model(0, layers=1).save_pretrained(snapshot)
    tiny.llava_processor().save_pretrained(snapshot)
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment["PYTHONPATH"] = ":".join(sys.path)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True, env=environment
    )
    told = json.loads(run.stdout.splitlines()[-1])
    assert told.pop("requests") == 1  # and no second try
    for name, words in {
        "silent/one": "can't be reached: ",
        "broken/one": "answers with 503",
        "closed/one": "can't be reached: [Errno",
    }.items():
        said, seconds = told[name]
        assert said.startswith(
            f"ModelError: can't load {name} as a checkpoint: there is no such folder, it isn't in the"
        )
        assert words in said
        assert seconds < 20  # of 23 for each file
    assert told["missing/one"][0].startswith("ModelError: can't load missing/one as a checkpoint: ")
    assert told["missing/one"][1] < 20
    assert told["kept/one"][0] == "loaded", told
    assert told["kept/one"][1] < 20


def test_a_name_that_is_longer_than_any_is_refused():
    with pytest.raises(ModelError, match="as a checkpoint: File name too long"):
        reached("a" * 5000, {})
