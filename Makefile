# `make demo` and `make test` need nothing but Python >= 3.11 and make: each sets up its own virtual environment first.
PYTHON ?= $(shell command -v python3.11 python3.12 python3.13 python3.14 python3 | head -n 1)
VENV   ?= .venv
BIN    := $(VENV)/bin
# Mutants to try: all that changed, or those of given names, as 'relay.srs.*'.
MUTANTS ?=
# Processes that run tests side by side: a number, or auto for one on each core.
JOBS   ?= auto
PYTEST := $(BIN)/python -m pytest -n $(JOBS)
FAST   := -q -m 'not peer and not slow'

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint coverage mutants matrix dist format bench reference samples docs clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(BIN)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (make PYTHON=/path/to/python3.11)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "this Python has no venv: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

install: $(BIN)/.installed ## make the virtual environment

demo: install ## the whole way of one message, on loopback
	$(BIN)/srs-relay demo

test: install ## every test, with the real peers that are installed
	$(PYTEST)

check: lint ## format, lint, layers, strict types, fast tests
	$(PYTEST) $(FAST)

lint: install ## format, lint, layers, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

coverage: install ## lines and branches that the fast tests reach
	$(PYTEST) $(FAST) --cov --cov-report=term

mutants: install ## whether the tests of the pure core notice changes (docs/testing.md)
	$(BIN)/python -m pip install --quiet --group mutation
	PATH='$(abspath $(BIN))':"$$PATH" mutmut run $(if $(filter-out auto,$(JOBS)),--max-children $(JOBS)) $(MUTANTS)

matrix: ## the fast tests on each supported Python that is found
	JOBS=$(JOBS) .ci/matrix

dist: install ## sdist and wheel, tried in an empty environment
	.ci/dist $(BIN)/python

format: install ## rewrite in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## load figures on loopback
	$(BIN)/python -m bench

reference: install ## generate config/relay.toml, its page, and the manual pages
	$(BIN)/python -m tools.reference

samples: install ## put what the demo and `aliases` print into README.md and docs/operating.md
	$(BIN)/python -m tools.samples

docs: install ## the docs as a site, links checked
	$(BIN)/python -m pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean: ## remove what make made
	rm -rf $(VENV) .venv-matrix .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* build dist mutants site
