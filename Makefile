# make setup | demo | test | lint: each builds .venv first if need be, and needs no network after that.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## build .venv with the tested versions

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"Python 3.10 or newer is needed, this is {v[0]}.{v[1]}; try: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints.txt)"
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## train for a few minutes on pictures that the project paints itself, then translate some
	$(BIN)/python train.py experiment=demo hydra.run.dir=outputs/demo
	$(BIN)/python -m monet_cyclegan.data.synthetic output=outputs/demo/photos count=6 size=128
	$(BIN)/python predict.py ckpt=outputs/demo/checkpoints/best.ckpt input=outputs/demo/photos \
	  output=outputs/demo/paintings grid=outputs/demo/before_after.png

test: $(READY)  ## run all tests
	$(BIN)/python -m pytest -n 2

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and caches, never outputs/ or data/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
