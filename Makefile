# Everything a developer or a first-time user does. Each target sets up what it lacks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.edgeclaw-ready
export EDGECLAW_HOME ?= $(CURDIR)/.edgeclaw

.PHONY: setup run test check bench soak

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
	$(BIN)/pytest

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
	$(BIN)/pytest -m soak

.PHONY: graph
graph: setup
	$(BIN)/python docs/graph.py
