# `make demo` and `make test` need nothing but Python >= 3.11 and make: each sets up its own virtual environment first.
PYTHON ?= $(shell command -v python3.11 python3.12 python3.13 python3 | head -n 1)
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench reference docs clean

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
	$(BIN)/python -m pytest

check: install ## format, lint, layers, strict types, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m 'not peer and not slow'

format: install ## rewrite in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## load figures on loopback
	$(BIN)/python -m bench

reference: install ## generate config/relay.toml, its page, and the manual pages
	$(BIN)/python -m tools.reference

docs: install ## the docs as a site, links checked
	$(BIN)/python -m pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean: ## remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site
