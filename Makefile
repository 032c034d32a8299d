# `make` lists the targets. PYTHON chooses the interpreter that .venv is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup quickstart test test-fast fuzz guard lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the project into it; does nothing when that is up to date

$(STAMP): pyproject.toml q2d2/__init__.py
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: no '$(PYTHON)' found: install Python 3.11 or newer, or name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $$($(PYTHON) --version 2>&1) is too old: Python 3.11 or newer is needed;" \
			"name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (the first time: a few minutes and about 6 GB) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -c 'import torchaudio' || { \
		echo "make: torchaudio does not load with the installed torch" \
			"($$($(BIN)/python -m pip -qq list --format=freeze | grep '^torch==')):" \
			"it needs a CUDA 13.0 build of torch 2.11 to 2.14 (the registry's default), also where there is no GPU." \
			"If 'pip config list' shows find-links or another index offering a different build, take it out," \
			"remove $(VENV) and run make setup again." >&2; exit 1; }
	@touch $@

quickstart: $(STAMP) ## set up, train and compare the bottlenecks on the sample corpus, write the report
	@$(BIN)/evalkit run quick
	@$(BIN)/evalkit report runs/quick

test: $(STAMP) ## run the tests, in one process a core; needs no network
	@$(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist worksteal

test-fast: $(STAMP) ## run all but the slow tests
	@$(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist worksteal -m 'not slow'

fuzz: $(STAMP) ## damage every kind of file that is read, and count what goes wrong; some minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz

# One thread: sums of floats do not depend on how many processors there are.
guard: $(STAMP) ## train and score the experiment guard, and compare it with results/guard
	@rm -rf runs/guard
	@OMP_NUM_THREADS=1 $(BIN)/evalkit run guard --out runs/guard --no-cache --device cpu >/dev/null
	@$(BIN)/evalkit compare results/guard runs/guard --gate results/guard/gate.yaml

lint: $(STAMP) ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## repair style where that can be done by machine
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove caches and build results; keeps .venv and runs/
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
