# make run   sets everything up and measures the embedded model, before and after fine-tuning
# make test  sets everything up and passes the tests
# the first Python that starts and is new enough; tools/setup.py says so where there is none
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && exit; done; echo python3)
VENV := $(or $(HARNESS_VENV),.venv)
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup setup-dev run test test-all lint clean

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
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

# the long ones too: thousands of pages, many kills
test-all: lint
	$(BIN)/python -m pytest $(ARGS)

# make clean removes the virtual environment; caches and reports stay
clean:
	rm -rf $(VENV)
