# Two commands: `make quickstart` and `make test`. `make help` lists the rest.
#   PYTHON=/path/to/python3.11  another interpreter for the virtual environment
#   VENV=dir                    another place for it
#   ARGS='...'                  arguments for tools/quickstart.py or pytest

VENV ?= .venv
BIN := $(VENV)/bin
SETUP := PYTHON='$(PYTHON)' sh tools/misc/setup_env.sh --venv '$(VENV)'

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev quickstart test lint format types clean clean-all

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | \
		awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: ## make .venv and install the pinned stack, operators included
	@$(SETUP)

setup-dev: ## setup, and what lint, types and tests need
	@$(SETUP) --dev

quickstart: setup ## generate ToyVIS, train from boxes only, test, score, draw
	@$(BIN)/python tools/quickstart.py $(ARGS)

lint: setup-dev ## ruff check, and ruff format as a check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev ## mypy
	$(BIN)/mypy

format: setup-dev ## let ruff fix and format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup-dev ## lint, types, then every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)

clean: ## remove caches and build products (not .venv, .wheels, data, work_dirs)
	@rm -rf build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find mmboxvis tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## also remove .venv and the compiled operators in .wheels
	@rm -rf '$(VENV)' .wheels
