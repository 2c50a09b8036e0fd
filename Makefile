# make run   sets everything up and measures the embedded model, before and after fine-tuning
# make test  sets everything up and passes the tests
PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3 || echo python3)
VENV := $(or $(HARNESS_VENV),.venv)
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup setup-dev run test lint clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup:
	@$(PYTHON) tools/setup.py

run: setup
	@$(BIN)/python -m harness run --profile smollm2-135m --models base,base-fewshot,tuned $(ARGS)

setup-dev:
	@$(PYTHON) tools/setup.py --extras dev

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest $(ARGS)

# make clean removes the virtual environment; caches and reports stay
clean:
	rm -rf $(VENV)
