# Everything runs in .venv. The first target that needs it makes it, with pip and nothing else; later ones start at once.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
ARGS   ?=

# What the benches ask. A prefill of 3,000 tokens by 7 billion parameters takes minutes on two cores: hence few arms there,
# which share one in each turn.
POCKET_BENCH ?= --video-tokens 144,288 --new-tokens 64,128 --ratios 0.5,0.9
HOSTILE      ?= --arms paper,auto --repeats 9
LLAVA_BENCH  ?= --video-tokens 3000 --new-tokens 128 --arms sd,specvlm,auto --cached 300,6000 --share-reading
QWEN_BENCH   ?= --video-tokens 300 --new-tokens 40 --arms specvlm,auto --share-reading
EXACTNESS    ?= --prompts 8
QUESTIONS    ?= --pair llava-onevision-7b+0.5b --video-tokens 3000 --tokens 8 --repeats 1

# A prefill of 3,000 tokens makes and drops gigabytes; given back to the system each time, they are zeroed page by page
# when they are wanted again. With this malloc keeps them.
KEEPING ?= GLIBC_TUNABLES=glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184

bin   := $(VENV)/bin
ready := $(VENV)/.ready
log   := $(VENV)/install.log
lmms  := $(VENV)-lmms-eval
# One thread a worker: the tests' models are tiny, and threads of several workers would only fight for the cores.
pytest := OMP_NUM_THREADS=1 $(bin)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help install demo test parity lmms-eval lint format pocket pocket-eval vision pictures bench bench-quick clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Extra arguments: make test ARGS="tests/engine -x". Another Python: make test PYTHON=python3.12.'

install: $(ready) ## make .venv and install specvlm into it, editable, with the tools of development
	@echo 'specvlm is installed in $(VENV)'

demo: $(ready) ## answer a held-out video four ways and compare: stock generate, plain speculation, SpecVLM, and planned
	@$(bin)/specvlm demo $(ARGS)

test: $(ready) ## the tests, but for the long parity grid
	@$(pytest) $(ARGS)

parity: $(ready) ## the long grid of whole generations against stock Hugging Face generate
	@$(pytest) -m "parity or not parity" tests/parity $(ARGS)

lmms-eval: $(lmms)/.ready ## the plugin in the real lmms-eval, which gets an environment of its own
	@OMP_NUM_THREADS=1 $(lmms)/bin/python -m pytest -m lmms_eval tests/integrations/test_lmms_eval.py $(ARGS)

lint: $(ready) ## ruff (rules and format) and pyright
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/pyright --pythonpath $(bin)/python

format: $(ready) ## mend what ruff can mend
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

pocket: $(ready) ## train a pocket pair anew, from where it was left (ARGS="--family qwen2_5_vl")
	$(bin)/python -m specvlm.pocket.train $(ARGS)

pocket-eval: $(ready) ## how well a pocket pair sees, and how pruning changes what is accepted
	$(bin)/python -m specvlm.pocket.evaluate $(ARGS)

vision: $(ready) ## what it brings to share or to spare the draft's vision: the table of docs/vision.md
	$(bin)/python -m specvlm.bench.vision --page docs/vision.md $(ARGS)

pictures: $(ready) ## the pictures of docs/explain.md, docs/sweep.md and docs/evals.md; wants Chromium (ARGS="--chrome google-chrome")
	$(bin)/python -m specvlm.bench.pictures $(ARGS)

bench-quick: $(ready) ## measure the embedded pairs against stock generate and its helpers: docs/performance.md, in minutes
	$(bin)/specvlm bench --pair pocket-llava_onevision $(POCKET_BENCH) --out docs/bench
	$(bin)/specvlm bench --pair pocket-qwen2_5_vl $(POCKET_BENCH) --out docs/bench
	$(bin)/specvlm bench --pair pocket-hostile $(HOSTILE) --out docs/bench
	$(bin)/python -m specvlm.bench.exactness --pair pocket-llava_onevision $(EXACTNESS) --out docs/bench
	$(bin)/python -m specvlm.bench.exactness --pair pocket-qwen2_5_vl $(EXACTNESS) --out docs/bench
	$(bin)/python -m specvlm.bench.performance

bench: bench-quick ## and pairs of published shapes: 24 GB of memory, and 35 to 60 minutes on two cores
	$(KEEPING) $(bin)/specvlm bench --pair llava-onevision-7b+0.5b $(LLAVA_BENCH) --out docs/bench
	$(bin)/specvlm bench --pair qwen2.5-vl-7b+3b $(QWEN_BENCH) --out docs/bench
	$(KEEPING) $(bin)/python -m specvlm.bench.questions $(QUESTIONS) --out docs/bench
	$(bin)/python -m specvlm.bench.performance

clean: ## remove .venv, caches and built packages
	rm -rf $(VENV) $(lmms) build dist .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(ready): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo 'There is no "$(PYTHON)" here. specvlm needs Python 3.10 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is Python %d.%d. specvlm needs 3.10 or newer; name one: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo 'Installing specvlm and what it needs into $(VENV). The first time takes minutes, PyTorch being large; progress: $(log)'
	@$(PYTHON) -m venv $(VENV)
	@$(bin)/python -m pip install --disable-pip-version-check -e '.[dev]' >$(log) 2>&1 || \
		{ tail -n 30 $(log) >&2; echo 'pip failed; all that it said is in $(log)' >&2; exit 1; }
	@touch $@

# lmms-eval wants an older PyAV than we do: it is installed first, and pip, asked for specvlm, then warns and upgrades.
$(lmms)/.ready: pyproject.toml
	@echo 'Installing lmms-eval and specvlm into $(lmms). It takes minutes; progress: $(lmms)/install.log'
	@$(PYTHON) -m venv $(lmms)
	@{ $(lmms)/bin/python -m pip install --disable-pip-version-check 'lmms-eval==0.7.3' && \
		$(lmms)/bin/python -m pip install --disable-pip-version-check -e '.[eval]' pytest hypothesis beartype; } \
		>$(lmms)/install.log 2>&1 || { tail -n 30 $(lmms)/install.log >&2; exit 1; }
	@touch $@
