# Two commands do everything on a machine with Python 3.11 and make:
#
#   make demo     virtual environment, locked dependencies, the main job from raw lines to a model
#   make test     the same set-up, then lint, types, contracts and tests
#
# `make` alone lists the targets; docs/install.md explains the variables.

PYTHON ?= python3
BACKEND ?= cpu
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
PIP_ARGS ?=
INPUT ?=
OUTPUT ?= demo
PYTEST_ARGS ?=
UPGRADE ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := requirements/$(BACKEND).lock

ifeq ($(filter $(BACKEND),cpu cuda),)
$(error BACKEND=$(BACKEND), expected cpu or cuda; try: make setup BACKEND=cpu)
endif

CHROMIUM = command -v chromium >/dev/null || { apt-get update && \
  apt-get install -y --no-install-recommends chromium fonts-inter fonts-dejavu-core; }

POSTGRES = ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { apt-get update && \
  apt-get install -y --no-install-recommends postgresql; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev demo dashboards lint types contracts test test-slow test-slurm \
  test-browser test-docs test-image test-postgres test-prometheus screenshots format locks clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(VENV)/.installed ## Build .venv with the locked dependencies and put mixdim into it

setup-dev: setup $(VENV)/.dev ## The same, and the tools that the tests need

demo: setup ## Raw lines -> two-rank training -> one table of results (INPUT=train.txt OUTPUT=demo)
	$(BIN)/mixdim demo $(if $(INPUT),--input "$(INPUT)") --output "$(OUTPUT)"

test: setup-dev lint types contracts ## Set up, then lint, types, contracts and tests
	$(BIN)/python -m pytest -m "not slow and not browser and not image and not docs" $(PYTEST_ARGS)

test-prometheus: setup-dev ## A real Prometheus beside the service and two ranks (installs it by apt)
	@command -v prometheus >/dev/null || { apt-get update && \
	  apt-get install -y --no-install-recommends prometheus; }
	$(BIN)/python -m pytest -m prometheus $(PYTEST_ARGS)

test-slow: setup-dev ## The tests that take minutes
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-slurm: setup-dev ## Jobs on a throw-away Slurm of two nodes (Debian, root; installs Slurm)
	tests/slurm/cluster.sh install
	$(BIN)/python -m pytest -m slurm $(PYTEST_ARGS)

test-image: setup-dev ## Build the image and run a job in it (Debian 12, root; installs buildah and podman)
	tests/image/image.sh install
	$(BIN)/python -m pytest -m image $(PYTEST_ARGS)

test-docs: setup-dev ## Type every page of the documentation from its top, in a small world (minutes, root)
	$(BIN)/python -m pytest -m docs $(PYTEST_ARGS)

test-postgres: setup-dev ## The service's records on PostgreSQL, which apt-get installs if it is missing
	$(POSTGRES)
	$(BIN)/python -m pytest -m postgres $(PYTEST_ARGS)

test-browser: setup-dev ## The status page in headless Chromium, which apt-get installs if it is missing
	$(CHROMIUM)
	$(BIN)/python -m pytest -m browser $(PYTEST_ARGS)

screenshots: setup-dev ## Pictures of the status page for the docs, of made-up jobs (minutes)
	$(CHROMIUM)
	$(BIN)/python -m tests.service.api.page.screenshots

dashboards: setup-dev ## Write Grafana's dashboards from deploy/grafana/*.py, and the runbook's page
	$(BIN)/python -m deploy.grafana
	$(BIN)/python -m deploy.runbook

lint: setup-dev ## Style of the code (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev ## Static types (mypy --strict)
	$(BIN)/mypy

contracts: setup-dev ## Which package may import which (import-linter)
	$(BIN)/lint-imports --no-logo

format: setup-dev ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv, caches and build leftovers; datasets and runs stay
	rm -rf $(VENV) .venv-locks build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	rm -rf .hypothesis .import_linter_cache

# The stamps in .venv make a second `make setup` instant and redo only what a changed file asks for.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); expected Python 3.11 or newer;" \
	    "name one: make setup PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch comes first and with its dependencies, everything else without: pip would otherwise fetch
# the CUDA build of fbgemm-gpu over the CPU one, for torchrec asks for it by name.
$(VENV)/.locked-$(BACKEND): $(LOCK) | $(VENV)/.created
	@for other in $(filter-out $@,$(wildcard $(VENV)/.locked-*)); do \
	  echo "$$other exists, expected no backend but $(BACKEND) in $(VENV); run make clean" >&2; \
	  exit 2; done
	$(PIP) install $(PIP_ARGS) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	  --constraint $(LOCK) "$(TORCH)"
	$(PIP) install $(PIP_ARGS) --no-deps --requirement $(LOCK)
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.locked-$(BACKEND)
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.locked-$(BACKEND)
	$(PIP) install $(PIP_ARGS) --no-deps --requirement $<
	@touch $@

# Compiled against a CPU wheel of torch (PIP_FIND_LINKS or TORCH_INDEX names where it is), because
# the wheels on the public index would drag CUDA libraries into the locks. Versions stay as they
# are where they can; `make locks UPGRADE=--upgrade` takes the newest of everything.
COMPILE = .venv-locks/bin/uv pip compile --quiet --python-version 3.11 --no-emit-package torch \
  --annotation-style line --custom-compile-command "make locks" $(UPGRADE) \
  $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) \
  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) --index-strategy unsafe-best-match)

locks: ## Recompile requirements/*.lock from requirements/*.in (UPGRADE=--upgrade for the newest)
	$(PYTHON) -m venv .venv-locks
	.venv-locks/bin/python -m pip --disable-pip-version-check --quiet install uv
	$(COMPILE) requirements/cpu.in --override requirements/override.txt -o requirements/cpu.lock
	$(COMPILE) requirements/cuda.in -c requirements/cpu.lock -o requirements/cuda.lock
	$(COMPILE) requirements/dev.in -c requirements/cpu.lock -o requirements/dev.lock
