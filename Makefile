# make run   sets everything up and measures the embedded model, before and after fine-tuning
# make test  sets everything up and passes the tests
#
# Where the virtual environment lies (HARNESS_VENV, else .venv) is decided by tools/setup.py alone: no path of it stands
# in here, so that none has to be quoted.
ifeq ($(strip $(PYTHON)),)
# the first Python that starts and is new enough; tools/setup.py says so where there is none
override PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && exit; done; echo python3)
endif
SETUP := "$(PYTHON)" tools/setup.py
ARGS ?=
# what is set in many images: every process would compile all that it imports once more
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-dev run test test-all lint clean raise schemas

help:
	@sed -n 's/^# make/make/p' Makefile

setup:
	@$(SETUP)

run: setup
	@$(SETUP) --exec python -m harness run --profile smollm2-135m --models base,base-fewshot,tuned $(ARGS)

setup-dev:
	@$(SETUP) --extras dev

lint: setup-dev
	$(SETUP) --exec ruff check .
	$(SETUP) --exec ruff format --check .
	$(SETUP) --exec mypy --num-workers 2
	$(SETUP) --exec lint-imports
	$(SETUP) --exec python tools/check_scripts.py

# three at a time: while one waits for a browser or a process that starts, two cores have work
test: lint
	$(SETUP) --exec python -m pytest -m "not slow" -n 3 --dist worksteal $(ARGS)

# the long ones too: thousands of pages, many kills
test-all: lint
	$(SETUP) --exec python -m pytest $(ARGS)

# make raise  writes today's versions of all dependencies into constraints.txt (with Python 3.11, the oldest there is)
raise: setup-dev
	@$(SETUP) --exec python tools/raise_constraints.py

# make schemas  writes docs/*.schema.json anew from the types in harness/runs
schemas:
	@$(SETUP) --exec python tools/json_schemas.py

# make clean removes the virtual environment that set-up made; caches and reports stay
clean:
	@$(SETUP) --clean
