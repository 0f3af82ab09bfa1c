# What a contributor types. `make` alone lists it; every target sets up what it needs, once.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.made
JOBS ?= 4
DATA_DIR ?= $(if $(MODELPORT_DATA_DIR),$(MODELPORT_DATA_DIR),$(HOME)/.local/share/modelport)
export MODELPORT_TEST_DATA_DIR := $(DATA_DIR)
test test-clients test-az bench-full: export MODELPORT_DATA_DIR := $(DATA_DIR)
# Hundreds of processes start: each would compile the package anew where this is set.
test test-clients test-az: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help ready serve test test-clients test-az check format bench bench-mix bench-full bench-peers bench-gate bench-ledger bench-soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

ready: $(STAMPS)/dev $(STAMPS)/weights ## set up everything and do nothing else

serve: $(STAMPS)/local $(STAMPS)/weights ## set up and run the endpoint with the embedded models
	@$(BIN)/modelport serve

test: $(STAMPS)/dev $(STAMPS)/weights ## set up and run every test but the client matrix, JOBS files at a time (TESTS='tests/failures -x' JOBS=0)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

test-clients: $(STAMPS)/dev $(STAMPS)/weights ## run the genuine clients, each in its own environment; writes CONFORMANCE.md
	$(BIN)/python -m tests.clients.matrix $(MATRIX)

test-az: $(STAMPS)/dev ## run the genuine az against a server and the development issuer; installs azure-cli (733 MB) into .venvs/az
	$(BIN)/python -m tests.clients.matrix --only az

check: $(STAMPS)/dev ## format, lint, types and layers
	$(BIN)/ruff format --check src tests bench scripts
	$(BIN)/ruff check src tests bench scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMPS)/dev ## rewrite the files as `check` wants them
	$(BIN)/ruff format src tests bench scripts
	$(BIN)/ruff check --fix src tests bench scripts

bench: $(STAMPS)/dev ## measure, ten minutes: what a request costs, against nginx and a plain relay; then the mix
	$(BIN)/python -m bench $(BENCH)
	$(BIN)/python -m bench.mix $(MIX)

bench-mix: $(STAMPS)/dev ## measure the mix alone: what programs of a team send (MIX='--only tool --no-load')
	$(BIN)/python -m bench.mix $(MIX)

bench-full: $(STAMPS)/dev $(STAMPS)/weights ## measure every scenario, a quarter of an hour (BENCH='--python /usr/bin/python3')
	$(BIN)/python -m bench --full --name full $(BENCH)

bench-peers: $(STAMPS)/dev ## measure other gateways beside ours; installs them into .venvs on first use (BENCH='--peers envoy')
	$(BIN)/python -m bench --peers --name peers $(BENCH)

bench-gate: $(STAMPS)/dev ## count instructions per request; fails above the limit, or the baseline of this Python
	$(BIN)/python -m bench.gate $(BENCH)

bench-ledger: $(STAMPS)/dev ## measure metering, shipping and reports over up to ten million records, ten minutes
	$(BIN)/python -m bench.metering
	$(BIN)/python -m bench.shipping
	$(BIN)/python -m bench.reports

bench-soak: $(STAMPS)/dev ## ten minutes of load with hang-ups and upstream faults; memory, files, errors (BENCH='--minutes 120')
	$(BIN)/python -m bench.soak $(BENCH)

clean: ## remove what the targets made (pulled weights stay)
	rm -rf $(VENV) .venvs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "modelport needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "== making the environment $(VENV) (a few seconds)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/local: pyproject.toml constraints.txt | $(STAMPS)/venv
	@echo "== installing modelport and what runs models here (494 MB on disk; one to three minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]'
	@touch $@

$(STAMPS)/dev: pyproject.toml constraints.txt $(STAMPS)/local | $(STAMPS)/venv
	@echo "== installing what tests and checks need (a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet -c constraints.txt --group dev
	@touch $@

$(STAMPS)/weights: $(STAMPS)/local src/modelport/engine/weights/catalogue.py
	@echo "== fetching the default models into $(DATA_DIR) (131 MB)"
	@$(BIN)/modelport models pull default --data-dir '$(DATA_DIR)'
	@touch $@
