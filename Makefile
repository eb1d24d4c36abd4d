# Three commands need nothing but make and Python 3.11 or newer with its venv module:
#   make quickstart    data, tokenizer, two trainings, their comparison and a report
#   make compare       the same for every memory of the paper, in its tables
#   make test          lint, format check, tests
# All make .venv and install into it, again only when setup.py or requirements.txt have changed.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart compare test lint format clean

# The first Python that is new enough and can make environments; choose another with PYTHON=...
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2])
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(USABLE)' 2>/dev/null && echo $$p && break; done)
# Where the runs go; by default runs/quickstart and runs/maze_toy.
RUNS ?=
# More arguments for quickstart and compare, such as ARGS="--config.train.steps=100"
ARGS ?=

# Files of tests side by side; most of their time is compiling, which uses one core.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile

BIN := .venv/bin
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: $(INSTALLED)  ## two models with memory and their twin without: 18 minutes on two cores
	$(BIN)/python -m rad_jax.main --config experiments/quickstart.py --mode compare --variants atlas-f,lstm-f,df --no-ablations \
		--workdir $(or $(RUNS),runs/quickstart) $(ARGS)

compare: $(INSTALLED)  ## every memory in the tables of the paper, on toy mazes: 15 minutes on two cores
	$(BIN)/python -m rad_jax.main --config experiments/maze_toy.py --mode compare --workdir $(or $(RUNS),runs/maze_toy) $(ARGS)

test: lint  ## lint, format check and all tests
	$(BIN)/python -m pytest $(PARALLEL)

lint: $(INSTALLED_DEV)  ## what the linter and the formatter would change; imports that point up
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(INSTALLED_DEV)  ## let them change it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches; environment, data sets and runs stay
	rm -rf .jax_cache .pytest_cache .ruff_cache build dist *.egg-info
	find rad_jax data_prep experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.py requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(INSTALLED_DEV): setup.py requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(INSTALLED)

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv found: install one, or name it with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
