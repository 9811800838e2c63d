PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

# Caches stay inside the checkout, too.
export UV_CACHE_DIR := $(CURDIR)/$(VENV)/.cache/uv
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/.cache/matplotlib
export WEATHER_SCNN_TABLES := $(CURDIR)/$(VENV)/.cache/tables

.PHONY: setup demo test test-all lint clean

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

test: setup
	$(BIN)/python -m pytest -n 2

test-all: setup
	$(BIN)/python -m pytest -n 2 -m ""

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo build dist *.egg-info
