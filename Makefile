PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

# Caches stay inside the checkout, too; that of wheels is not kept.
export UV_NO_CACHE := 1
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/.cache/matplotlib
export WEATHER_SCNN_TABLES := $(CURDIR)/$(VENV)/.cache/tables
export WEATHER_SCNN_COMPILED := $(CURDIR)/$(VENV)/.cache/compiled

.PHONY: setup demo test test-all lint docs wheel-test clean

setup: $(VENV)/.installed

# uv sits inside the environment, so nothing outside the checkout is touched.
$(VENV)/.installed: requirements.lock setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --no-cache-dir uv==0.13.9
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/weather-scnn demo --workdir demo

# Each worker begins with a half, so that files stay together with what they share, and takes of the other's at the end.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: setup
	$(PYTEST)

# All tests, of programs compiled as users have them.
test-all: setup
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(PYTEST) -m ""

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/site; a reference that leads nowhere is an error.
docs: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python 'mkdocs-material>=9.5' 'mkdocstrings[python]>=1.0' 'mkdocs-jupyter>=0.25'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The wheel, in an environment of its own outside the checkout, used as a user would.
wheel-test: setup
	$(BIN)/uv build --quiet --wheel --out-dir build/wheel --python $(BIN)/python
	$(BIN)/python tests/wheel.py build/wheel

clean:
	rm -rf $(VENV) demo build dist *.egg-info
