# Everything a developer or a first-time user does. Each target sets up what it lacks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.edgeclaw-ready
# Tests at a time: twice the cores of a small machine, since a third of the suite waits for venues, brokers and clocks.
WORKERS ?= 4
export EDGECLAW_HOME ?= $(CURDIR)/.edgeclaw
# The tests start hundreds of processes, each of which would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run test quick check bench soak

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[sample,llamacpp,remote,live,service,review,research,analysis,mcp,cluster,postgresql,dev]'
	@touch $@

run: setup
	$(BIN)/edgeclaw install edge-runtime
	$(BIN)/edgeclaw run --feed sample --speed max

test: setup
	$(BIN)/edgeclaw install edge-runtime --engine openvino
	$(BIN)/pytest -n $(WORKERS) --durations=30 --durations-min=0

# What to run while working: no model, no network, under a minute.
quick: check
	$(BIN)/pytest -n 2 -m 'not soak and not model' tests/unit

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/edgeclaw install edge-runtime --engine openvino
	$(BIN)/python -m benchmarks

soak: setup
	$(BIN)/edgeclaw install edge-runtime
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -m 'soak or hypothesis'

.PHONY: graph
graph: setup
	$(BIN)/python docs/graph.py
