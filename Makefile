# Everything runs in .venv, in the versions of constraints.txt. The first target that needs it makes it, with pip and
# nothing else, and installs what that target needs; later ones start at once.

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
GPU_BENCH    ?=
QUESTIONS    ?= --pair llava-onevision-7b+0.5b --video-tokens 3000 --tokens 8 --repeats 1

# A prefill of 3,000 tokens makes and drops gigabytes; given back to the system each time, they are zeroed page by page
# when they are wanted again. With this malloc keeps them.
KEEPING ?= GLIBC_TUNABLES=glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184

bin  := $(VENV)/bin
log  := $(VENV)/install.log
lmms := $(VENV)-lmms-eval
clients := $(VENV)-clients
uv   := $(VENV)-lock/bin/uv
core  := $(VENV)/.core
bench := $(VENV)/.bench
tests := $(VENV)/.tests
lint  := $(VENV)/.lint
# One thread a worker: the tests' models are tiny, and threads of several workers would only fight for the cores. Each
# gets a run of tests in their order, so that what a file's tests share is made once; who is done early takes from another.
pytest := OMP_NUM_THREADS=1 $(bin)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo test parity compat serve-load clients lmms-eval lint format lock pocket pocket-eval vision kernels fuzz soak pictures bench \
	bench-quick bench-gpu clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Extra arguments: make test ARGS="tests/engine -x". Another Python: make test PYTHON=python3.12.'

install: $(tests) $(lint) ## make .venv and install specvlm into it, editable, with the tools of development
	@echo 'specvlm is installed in $(VENV)'

demo: $(core) ## answer a held-out video four ways and compare: stock generate, plain speculation, SpecVLM, and planned
	@$(bin)/specvlm demo $(ARGS)

test: $(tests) ## the tests, but for the long grids, of which it tries a part
	@$(pytest) $(ARGS)

parity: $(tests) ## the long grids: whole generations against stock Hugging Face generate, and what else is marked slow
	@$(pytest) -m "parity or slow" $(ARGS)

compat: ## drop-in, parity and families on the oldest and newest transformers: docs/compatibility.md (RELEASES="5.21 5.22")
	@$(PYTHON) tests/compatibility.py $(RELEASES)

clients: $(clients)/.ready ## langchain-openai and litellm against the server, in an environment of their own
	@OMP_NUM_THREADS=1 $(clients)/bin/python -m pytest -m clients tests/serve/test_clients.py $(ARGS)

lmms-eval: $(lmms)/.ready ## the plugin in the real lmms-eval, which gets an environment of its own
	@OMP_NUM_THREADS=1 $(lmms)/bin/python -m pytest -m lmms_eval tests/integrations/test_lmms_eval.py $(ARGS)

lint: $(lint) ## ruff (rules and format), pyright, and which room imports which
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/pyright --pythonpath $(bin)/python
	$(bin)/lint-imports --no-cache

format: $(lint) ## mend what ruff can mend
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

lock: $(uv) ## resolve every version anew, for all platforms at once: constraints.txt and constraints-lmms-eval.txt
	$(resolve) --extra dev pyproject.toml -o constraints.txt
	echo 'av>=17' >$(VENV)-lock/overrides.txt
	printf 'lmms-eval==0.7.3\n.[eval,tests]\n' | $(resolve) --no-emit-package specvlm --overrides $(VENV)-lock/overrides.txt \
		-o constraints-lmms-eval.txt -

pocket: $(core) ## train a pocket pair anew, from where it was left (ARGS="--family qwen2_5_vl")
	$(bin)/python -m specvlm.pocket.recipe.train $(ARGS)

pocket-eval: $(core) ## how well a pocket pair sees, and how pruning changes what is accepted
	$(bin)/python -m specvlm.bench.pocket_pairs $(ARGS)

serve-load: $(tests) ## 100 clients at once for two minutes, twice, some of whom hang up: answers, times, memory
	$(bin)/python -m specvlm.serve.measuring.load $(ARGS)

vision: $(core) ## what it brings to share or to spare the draft's vision: the table of docs/vision.md
	$(bin)/python -m specvlm.bench.vision --page docs/vision.md $(ARGS)

kernels: $(tests) ## what the compiler makes of the CUDA kernels, without a GPU: the table of docs/kernels.md
	$(bin)/python -m specvlm.engine.kernels.tree_compiled --page docs/kernels.md $(ARGS)

fuzz: $(tests) ## a thousand inputs that nobody should have given, in minutes: docs/reliability.md (ARGS="--only NAME")
	@PYTHONPATH=tests $(bin)/python -m fuzz $(ARGS)

soak: $(tests) ## what a process keeps that answers all day: memory, files and threads
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(bin)/python -m fuzz.soak $(ARGS)

pictures: $(tests) ## the race of the README, all plots, and screenshots of all pages; wants Chromium (ARGS="--chrome google-chrome")
	$(bin)/python -m specvlm.bench.showing.pictures $(ARGS)

bench-quick: $(bench) ## measure the embedded pairs against stock generate and its helpers: docs/performance.md, in minutes
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

bench-gpu: $(core) ## the same on an NVIDIA GPU, for docs/gpu.md: under nine minutes on one H100 (GPU_BENCH="--only 32b")
	$(bin)/python -m specvlm.bench.gpu $(GPU_BENCH)

clean: ## remove .venv, caches and built packages
	rm -rf $(VENV) $(VENV)-* build dist .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

resolve = $(uv) pip compile -q --universal --upgrade --fork-strategy fewest --python-version 3.11 --no-annotate \
	--custom-compile-command 'make lock'

# On Linux PyPI's PyTorch brings CUDA with it, 5 GB. Where there is no NVIDIA driver, the build for CPUs of the same
# version is taken from PyTorch's own index, if that answers.
CPU_BUILDS ?= https://download.pytorch.org/whl/cpu
define take_cpu_builds
if [ "$$(uname -sm)" = 'Linux x86_64' ] && [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then \
	$(pip) --retries 0 --timeout 15 --index-url $(CPU_BUILDS) --no-deps torch torchvision >$(log) 2>&1 || true; \
fi
endef

pip := $(bin)/python -m pip install --disable-pip-version-check -c constraints.txt
# $(call install,EXTRAS): specvlm, editable, and what these extras need.
define install
	@echo 'Installing $(if $(1),what $(1) takes,specvlm and what it needs) into $(VENV); progress: $(log)'
	@$(pip) -e '.$(if $(1),[$(1)])' >>$(log) 2>&1 || \
		{ tail -n 30 $(log) >&2; echo 'pip failed; all that it said is in $(log)' >&2; exit 1; }
	@touch $@
endef

tested := bench,eval,ray,serve,tests

$(core): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo 'There is no "$(PYTHON)" here. specvlm needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python %d.%d. specvlm needs 3.11 or newer; name one: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo 'The first time takes minutes, PyTorch being large.'
	@$(PYTHON) -m venv $(VENV)
	@$(take_cpu_builds)
	$(call install)

$(uv):
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install --disable-pip-version-check -q uv

$(bench): $(core)
	$(call install,bench)

$(tests): $(core)
	$(call install,$(tested))

$(lint): $(tests)
	$(call install,lint)

# These pin what others must not be bound to.
$(clients)/.ready: pyproject.toml constraints.txt
	@echo 'Installing langchain-openai, litellm and specvlm into $(clients). It takes minutes; progress: $(clients)/install.log'
	@$(PYTHON) -m venv $(clients)
	@$(clients)/bin/python -m pip install --disable-pip-version-check -e '.[serve,tests]' langchain-openai litellm \
		>$(clients)/install.log 2>&1 || { tail -n 30 $(clients)/install.log >&2; exit 1; }
	@touch $@

# lmms-eval wants an older PyAV than we do, so pip could not choose both: a complete list needs no choosing.
$(lmms)/.ready: pyproject.toml constraints-lmms-eval.txt
	@echo 'Installing lmms-eval and specvlm into $(lmms). It takes minutes; progress: $(lmms)/install.log'
	@$(PYTHON) -m venv $(lmms)
	@{ $(lmms)/bin/python -m pip install --disable-pip-version-check --no-deps -r constraints-lmms-eval.txt && \
		$(lmms)/bin/python -m pip install --disable-pip-version-check --no-deps -e .; } \
		>$(lmms)/install.log 2>&1 || { tail -n 30 $(lmms)/install.log >&2; exit 1; }
	@touch $@
