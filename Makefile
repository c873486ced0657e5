# make demo: install and run the main job on clips made here.   make test: the test suite.   make check: lint, types, layers.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: demo test check clean

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'extract needs Python >= 3.11; this is ' + sys.version.split()[0] + ': make PYTHON=python3.12 demo')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/extract demo
	$(BIN)/extract run manifests/demo.csv --weights random:0
	$(BIN)/extract status features/demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup

clean:
	rm -rf $(VENV) build *.egg-info
