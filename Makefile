# Each command works in a fresh clone: it makes .venv, installs, and runs.
.PHONY: demo quick test test-all check reference docs release clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# A small study on simulated images, and its report.
demo: $(INSTALLED)
	@$(BIN)/sonosynth demo --out demo

# The tests for every save: without those that train, start processes or take half a second.
quick: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow and not long"

# All tests but the slow ones; test-all has these too.
test: $(INSTALLED)
	$(BIN)/python -m pytest

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m ""

# Linter, format, types.
check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Pages of docs/reference that are made from the code.
reference: $(INSTALLED)
	$(BIN)/python tools/reference.py

# The documentation site, in site/; any warning is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Wheel and sdist in dist/, checked, and the wheel tried in an environment of its own.
release: $(INSTALLED)
	rm -rf dist build
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(PYTHON) tools/try_wheel.py dist/*.whl
	rm -rf build

# Not compiled: Python does that itself with what is imported, a part of all that is installed.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

clean:
	rm -rf $(VENV) demo build dist site .mypy_cache .ruff_cache .pytest_cache
