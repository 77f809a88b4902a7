# Everything a developer types, on plain venv and pip. `make help` lists it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
STAMP := $(VENV)/.installed

# pyright comes from PyPI with its own Node.js; a Node.js that happens to be on the PATH is left alone.
PYRIGHT := PYRIGHT_PYTHON_GLOBAL_NODE=off PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
PYTEST := $(BIN)/python -m pytest
# The tests of a file stay in one process, so that they share what they build.
PARALLEL := -n $(WORKERS) --dist loadfile

SCHEDULES ?= 500
SEED ?=
KILLS ?=
APP ?= examples/quickstart
BENCH ?= hello --clients 256 --count 20000
BENCH_CHECK ?=

.DEFAULT_GOAL := help
.PHONY: help venv lint format types test test-all conformance simulate kill-test bench bench-check regression demo run dist clean

help: ## List what can be made
	@echo "usage: make TARGET [PYTHON=python3.12] [VENV=.venv]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "  %-12s %s\n", $$1, $$2 }'

venv: $(STAMP) ## Make the virtual environment, with Perdure installed in it

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## Format the code and mend what can be mended mechanically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## Check types, for Linux and for Windows
	$(PYRIGHT) --pythonplatform Linux
	$(PYRIGHT) --pythonplatform Windows

test: lint types ## Lint, types and tests: what must pass before a change is taken
	$(PYTEST) $(PARALLEL)

test-all: $(STAMP) ## Run the tests on each Python from 3.10 to 3.13 that is here
	$(BIN)/python scripts/test_all.py --workers $(WORKERS)

conformance: $(STAMP) ## Run the suite that every store must pass
	$(PYTEST) $(PARALLEL) tests/conformance

simulate: $(STAMP) ## Run simulated schedules with faults: SCHEDULES=500 SEED=
	PERDURE_SCHEDULES=$(SCHEDULES) $(if $(SEED),PERDURE_SEED=$(SEED)) $(PYTEST) $(PARALLEL) tests/simulation

kill-test: $(STAMP) ## Kill a real host again and again, and check that nothing is lost: KILLS=50 SEED=
	$(if $(KILLS),PERDURE_KILLS=$(KILLS)) $(if $(SEED),PERDURE_SEED=$(SEED)) $(PYTEST) -s -m kill tests

bench: $(STAMP) ## Measure: BENCH="hello --clients 256 --count 20000"
	$(BIN)/perdure bench $(BENCH)

bench-check: $(STAMP) ## Check every figure that must hold on this machine: BENCH_CHECK="--quick --only hello"
	$(BIN)/python scripts/bench_check.py $(BENCH_CHECK)

regression: $(STAMP) ## Compare the CPU of a small run with where this branch left main; on main, with the parent commit
	$(BIN)/python scripts/regression.py

demo: $(STAMP) ## Count the words of over a thousand files, with the host killed half-way
	$(BIN)/python examples/wordcount/demo.py

run: $(STAMP) ## Serve an app: APP=examples/quickstart
	$(BIN)/perdure start $(APP)

dist: $(STAMP) ## Build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation

clean: ## Remove what was made
	rm -rf $(VENV) .venvs build dist .pytest_cache .ruff_cache .hypothesis
	find src tests examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +
