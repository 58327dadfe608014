# Two commands matter: `make run` takes one turn of the wheel, `make test` checks everything.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export GX_ANALYTICS_ENABLED := false
export PYTHONDONTWRITEBYTECODE := 1
BENCH ?=
CONFIRM ?=

.PHONY: help setup run test test-all lint types ui bench headline seeds clean clean-all constraints

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

seeds: setup  ## the claims of the sample world over five seeds (about a quarter of an hour)
	@$(BIN)/python -m flywheel.sample.seeds

headline: setup  ## a small aligned policy against an unaligned base 100 times its size
	@$(BIN)/python -m flywheel.sample.headline

constraints: setup  ## pin what .venv holds now
	@{ echo "# Every package of the default installation with its tests, pinned. Regenerate with \`make constraints\`."; \
	  $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu$$//'; } > constraints.draft && mv constraints.draft constraints.txt

clean:  ## remove what set-up and builds made; var, with feedback and models, stays
	rm -rf .venv dbt_project/target dbt_project/logs dbt_project/.user.yml build *.egg-info flywheel/dedup/_kernel* flywheel/ingest/_lines*
	rm -rf .hypothesis .pytest_cache .mypy_cache .ruff_cache
	@[ ! -e var ] || echo "var stays: feedback, lake, models, ledger; \`make clean-all CONFIRM=1\` removes it too"

clean-all:  ## remove var too, with everything that was landed, trained and decided; needs CONFIRM=1
	@[ "$(CONFIRM)" = 1 ] || { echo "this removes var, with feedback, lake, models and ledger: make clean-all CONFIRM=1" >&2; exit 1; }
	@$(MAKE) --no-print-directory clean
	rm -rf var
