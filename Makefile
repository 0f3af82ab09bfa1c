# What a contributor types. `make` alone lists it; every target sets up what it needs, once.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.made
DATA_DIR ?= $(if $(MODELPORT_DATA_DIR),$(MODELPORT_DATA_DIR),$(HOME)/.local/share/modelport)
export MODELPORT_TEST_DATA_DIR := $(DATA_DIR)
test test-clients bench: export MODELPORT_DATA_DIR := $(DATA_DIR)

.PHONY: help serve test test-clients check format bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(STAMPS)/local $(STAMPS)/weights ## set up and run the endpoint with the embedded models
	@$(BIN)/modelport serve

test: $(STAMPS)/dev $(STAMPS)/weights ## set up and run every test but the client matrix
	$(BIN)/python -m pytest

test-clients: $(STAMPS)/dev $(STAMPS)/weights ## run the genuine clients, each in its own environment; writes CONFORMANCE.md
	$(BIN)/python -m tests.clients.matrix

check: $(STAMPS)/dev ## format, lint, types and layers
	$(BIN)/ruff format --check src tests bench scripts
	$(BIN)/ruff check src tests bench scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMPS)/dev ## rewrite the files as `check` wants them
	$(BIN)/ruff format src tests bench scripts
	$(BIN)/ruff check --fix src tests bench scripts

bench: $(STAMPS)/dev $(STAMPS)/weights ## measure: cost per request against nginx, tokens/s against the worker alone
	$(BIN)/python -m bench

clean: ## remove what the targets made (pulled weights stay)
	rm -rf $(VENV) .venvs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "modelport needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/local: pyproject.toml constraints.txt | $(STAMPS)/venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]'
	@touch $@

$(STAMPS)/dev: pyproject.toml constraints.txt $(STAMPS)/local | $(STAMPS)/venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev
	@touch $@

$(STAMPS)/weights: $(STAMPS)/local src/modelport/engine/weights/catalogue.py
	$(BIN)/modelport models pull default --data-dir '$(DATA_DIR)'
	@touch $@
