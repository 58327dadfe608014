# Two commands matter: `make run` takes one turn of the wheel, `make test` checks everything.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export GX_ANALYTICS_ENABLED := false
export PYTHONDONTWRITEBYTECODE := 1
BENCH ?=

.PHONY: help setup run test test-all lint types ui bench headline seeds clean constraints

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup:  ## create .venv and install the pinned dependencies; safe to repeat, offline once done
	@$${PYTHON:-python3} tools/setup.py

run: setup  ## land the sample feedback and take one whole turn of the wheel
	@$(BIN)/flywheel run

test: setup lint types  ## lint, types and the tests (what CI runs)
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: setup lint types  ## the slow tests too
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not gpu and not network"

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy

ui: setup  ## the Dagster UI on http://127.0.0.1:3000
	@$(BIN)/flywheel ui

bench: setup  ## benchmarks; BENCH=turn|training|data|gate for one group
	@$(BIN)/python -m tests.benchmarks $(BENCH)

seeds: setup  ## the claims of the sample world over five seeds (about half an hour)
	@$(BIN)/python -m flywheel.sample.seeds

headline: setup  ## a small aligned policy against an unaligned base 100 times its size (hours)
	@$(BIN)/python -m flywheel.sample.headline

constraints: setup  ## pin what .venv holds now
	@{ echo "# Every package of the default installation with its tests, pinned. Regenerate with \`make constraints\`."; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' | sort -f; } > constraints.draft && mv constraints.draft constraints.txt

clean:  ## remove what these commands made
	rm -rf .venv var dbt_project/target dbt_project/logs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
