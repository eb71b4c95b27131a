# r1lab: `make run` executes the lessons, `make test` checks everything, `make help` lists the rest.
# Each target sets up .venv from pinned versions first, when it is not there or not up to date;
# only that step needs the network. (test-engines has an environment of its own.)

PYTHON  ?= python3
PROFILE ?= cpu
SEEDS   ?= 0 1 2
STUDENTS ?= 5
ARGS    ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.r1lab-installed
ENGINES := .venv-engines

# Nothing here asks a server anything once .venv is made; the larger profiles may fetch models, and
# so may whoever tries things in JupyterLab.
ifeq ($(filter gpu cluster,$(PROFILE))$(filter lab,$(MAKECMDGOALS)),)
export HF_HUB_OFFLINE ?= 1
endif
export HF_HUB_DISABLE_TELEMETRY ?= 1
export TOKENIZERS_PARALLELISM ?= false
export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport PYTHONDONTWRITEBYTECODE # or each of a hundred processes compiles the package again

.DEFAULT_GOAL := help
.PHONY: help setup run test test-engines browser lab book bench figures hosted class downloads lint lock clean

help: ## this list
	@echo "r1lab: DeepSeek-R1 from scratch, in notebooks"
	@echo
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | \
	  while IFS='|' read -r name text; do printf '%-20s %s\n' "$$name" "$$text"; done
	@echo
	@echo "  PYTHON=python3.12    the interpreter that .venv is made with (3.10 or newer)"
	@echo "  PROFILE=smoke        for make run, lab and book: smoke, cpu (default), gpu, cluster"
	@echo "  SEEDS='0 1 2'        for make figures"
	@echo "  STUDENTS=5           for make class"
	@echo "  ARGS='--only 05'     more options for the r1lab command that a target runs"
	@echo "  TORCH_INDEX=URL      where torch comes from (default: CPU builds where there is no GPU)"

setup: $(STAMP) ## .venv with pinned versions, nothing more

run: $(STAMP) ## execute the lessons on two CPU cores; book in runs/cpu/book/index.html
	@$(BIN)/python -m r1lab run --profile $(PROFILE) $(ARGS)

test: $(STAMP) lint ## lint and all tests, the notebooks on the smoke profile included
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-engines: $(ENGINES)/.installed ## vLLM, FSDP2 and ZeRO-3 on CPUs, in .venv-engines; no part of make test
	@OMP_NUM_THREADS=1 PYTHONPATH=. $(ENGINES)/bin/python -m pytest tests/engines $(ARGS)

lab: $(STAMP) ## JupyterLab on copies of the notebooks in runs/PROFILE/lab; what you change stays
	@$(BIN)/python -m r1lab run --profile $(PROFILE) --prepare
	@$(BIN)/python -m jupyterlab --notebook-dir=runs/$(PROFILE)/lab $(ARGS)

book: $(STAMP) ## of what has run: book, slides and course.pdf in runs/PROFILE
	@$(BIN)/python -m r1lab book runs/$(PROFILE) --slides --pdf $(ARGS)

bench: $(STAMP) ## speed against TRL; writes benchmarks/results/cpu.json
	@$(BIN)/python -m r1lab bench $(ARGS)

figures: $(STAMP) ## the results over three seeds; writes benchmarks/results/figures-cpu.json
	@$(BIN)/python -m r1lab successors --measure --quiet
	@$(BIN)/python -m r1lab figures --seeds $(SEEDS) $(ARGS)

hosted: $(STAMP) ## the set-up cell of the hosted lessons in a bare Python, from a local clone (slow)
	@R1LAB_BARE=1 $(BIN)/python -m pytest -q tests/test_hosted.py -k bare $(ARGS)

class: $(STAMP) ## rehearse: STUDENTS servers here, lesson 05 on smoke in each, progress, all taken down
	@R1LAB_STUDENTS=$(STUDENTS) $(BIN)/python -m pytest -qs tests/test_classroom.py -k works_through $(ARGS)

downloads: $(STAMP) ## real rows and a real model from the Hugging Face hub, tried (network)
	@HF_HUB_OFFLINE=0 R1LAB_HUB=1 $(BIN)/python -m pytest -q tests/test_hub.py -k from_the_hub $(ARGS)

browser: $(STAMP) ## every lesson by Run All in JupyterLab, in a headless Chromium (15 minutes)
	@R1LAB_BROWSER=1 $(BIN)/python -m pytest tests/test_browser.py $(ARGS)

lint: $(STAMP) ## ruff on code and notebooks
	@$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check .

lock: ## make constraints.txt again from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.10 --extra test --extra figures --extra wasm --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links pyproject.toml -o constraints.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --override tests/engines/overrides.txt tests/engines/requirements.in | \
	  grep -vE '^(torch|triton|cuda-|nvidia-)' > tests/engines/constraints.txt

clean: ## remove .venv, .venv-engines and caches; runs/ and everything measured stay
	rm -rf $(VENV) $(ENGINES) build *.egg-info .pytest_cache .import_linter_cache .ruff_cache .hypothesis
	find r1lab tests -name __pycache__ -type d -prune -exec rm -rf {} +

# What the age of STAMP does not show: torch is wanted from elsewhere, or with CUDA (setup_venv.sh).
WITHOUT_CUDA := $(wildcard $(VENV)/lib/python*/site-packages/torch-*+cpu.dist-info)
ifneq ($(TORCH_INDEX)$(and $(WITHOUT_CUDA),$(shell command -v nvidia-smi 2>/dev/null)),)
$(STAMP): FORCE
endif
FORCE:

$(STAMP): pyproject.toml constraints.txt scripts/setup_venv.sh
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" bash scripts/setup_venv.sh "$(VENV)" "$(STAMP)"

$(ENGINES)/.installed: tests/engines/constraints.txt scripts/setup_engines.sh
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" bash scripts/setup_engines.sh "$(ENGINES)" "$@"
