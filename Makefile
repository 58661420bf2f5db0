# Every target sets itself up on a fresh machine: a virtual environment in .venv, pinned by constraints.txt, no other step by hand.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO_FRAME := stemzoo/demo/sr3fe2o7_100.tif
DEMO_OUT := demo-out
PYTEST_ARGS ?=
# Test files run at a time; more gain nothing on a machine of two cores.
JOBS ?= 2
# The networks of the tests are so small that a second thread costs more in waiting than it gains, the more so on a busy machine.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND := Agg

.PHONY: demo test test-slow check clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo       analyse the simulated Sr3Fe2O7 frame that ships with stemzoo (installs no torch)"
	@echo "make test       the test suite; PYTEST_ARGS='tests/io -k dm3' picks some"
	@echo "make test-slow  the slow tests too"
	@echo "make check      ruff (lint, format) and mypy --strict"

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "stemzoo needs Python 3.11 or newer and found none; install one or pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than the files they were made from, so a second run installs nothing.
$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.base
	$(PIP) --editable '.[io,serve,train,dask,dev]'
	@touch $@

demo: $(VENV)/.base
	@$(BIN)/stemzoo analyze $(DEMO_FRAME) --out $(DEMO_OUT)
	@echo "report: $(CURDIR)/$(DEMO_OUT)/report.html"

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO_OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
