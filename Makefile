# `make demo` and `make test` need nothing but git, make and Python 3.12 or newer.
PYTHON ?= python3
VENV ?= .venv
STORE ?= mnist.zarr
BIN := $(VENV)/bin
# The versions of Python that pyproject.toml names.
PYTHONS := 3.12 3.13 3.14
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help demo test test-bits test-slow dist-check lint docs docs-links bench tables-age clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       train on handwritten digits on a local cluster, and draw the curves"
	@echo "make test       run the tests"
	@echo "make test-bits  run the tests that compare bits, under each of OpenBLAS' kernels that make test does not use"
	@echo "make test-slow  run the tests that take long or kill processes"
	@echo "make dist-check build sdist and wheel, and try the wheel in an empty environment"
	@echo "make lint       check style, types and docstrings"
	@echo "make docs       build the documentation in build/docs; make docs-links also checks its links"
	@echo "make bench      compare the methods on MNIST (STORE=mnist.zarr, built if it is not there)"
	@echo "make tables-age  list the tables of the pages whose code has changed since they were made"
	@echo "make clean      delete the environment and what tools have left"

# Stamp files make the second time quick: each is as old as the installation it stands for.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { \
	    echo "hfnumba needs Python 3.12 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "Name another one, such as: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@echo "Creating an environment in $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) cannot make environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml
	@echo "Installing hfnumba and what it needs; the first time this takes a minute or two."
	@$(PIP) install -e ".[all]"
	@touch $@

# All of the above as well, in one go.
$(VENV)/installed-dev: $(VENV)/created pyproject.toml
	@echo "Installing hfnumba and what the tests and checks need; the first time this takes some minutes."
	@$(PIP) install -e ".[dev]"
	@touch $(VENV)/installed $@

demo: $(VENV)/installed
	@$(BIN)/hfnumba demo
	@echo "The command hfnumba is in $(BIN); to have it at hand: source $(BIN)/activate"

# Neighbours run in one process, since modules have fixtures and compile oracles; an idle one takes over tests.
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-bits: $(VENV)/installed-dev
	$(BIN)/python -m tests.every_blas

# Three processes for two processors, since much of the time is waited for processes to start or to be given up.
test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 3 --dist worksteal -m slow

dist-check: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m dist tests/test_dist.py

# What a version of Python adds the later ones have, and what one removes they lack: the oldest and the newest stand
# for all.
lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@printf '%s\n' $(firstword $(PYTHONS)) $(lastword $(PYTHONS)) | xargs -t -P 2 -I VERSION $(BIN)/mypy --python-version VERSION
	$(BIN)/numpydoc lint $$(git ls-files 'hfnumba/*.py')
	$(BIN)/python -m tests.docstrings

# The sources are all pages of the repository, so that links between them are the same on a code host.
SPHINX = $(BIN)/python -m sphinx -c docs -d build/doctrees --fail-on-warning --keep-going --quiet

docs: $(VENV)/installed-dev
	@rm -rf docs/reference/api  # pages of names that are no longer public
	$(SPHINX) -b html . build/docs
	$(BIN)/python docs/extensions/links.py build/docs
	@echo "The documentation is in build/docs/index.html."

docs-links: docs
	@$(BIN)/python -c 'import urllib.request as r; r.urlopen("https://arxiv.org", timeout=30)' 2>/dev/null \
	    || { echo "There is no network here: links to other sites are not checked."; exit 0; } \
	    && $(SPHINX) -b linkcheck . build/links

bench: $(VENV)/installed
	@test -e "$(STORE)" || $(BIN)/hfnumba data build mnist --out "$(STORE)"
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benchmarks/methods.py "$(STORE)"

tables-age: $(VENV)/installed
	@$(BIN)/python benchmarks/tables.py

clean:
	rm -rf $(VENV) build dist docs/reference/api .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
