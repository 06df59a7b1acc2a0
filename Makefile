# make setup | demo | test | test-web | test-xla | lint: each builds its environment first if need be, and needs no network after.
# make kaggle-bundle fetches what Kaggle lacks, each time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
XLA := .venv-xla

.DEFAULT_GOAL := help
# torch_xla's last release is for torch 2.9, older than what all else needs: libraries besides it are as tested.
XLA_PINS := 'torch==2.9.*' 'torch_xla==2.9.*' 'torchvision==0.24.*'

.PHONY: help setup demo test test-web test-xla lint format kaggle-bundle clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## build .venv with the tested versions

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"Python 3.10 or newer is needed, this is {v[0]}.{v[1]}; try: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints.txt)"
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## train for a few minutes on pictures that the project paints itself, then paint photos with the package's weights
	$(BIN)/python train.py experiment=demo hydra.run.dir=outputs/demo
	$(BIN)/python -m monet_cyclegan.data.synthetic output=outputs/demo/photos count=6 size=128
	$(BIN)/python predict.py ckpt=outputs/demo/checkpoints/best.ckpt input=outputs/demo/photos \
	  output=outputs/demo/paintings grid=outputs/demo/before_after.png
	$(BIN)/python predict.py ckpt=monet input=docs/photos output=outputs/demo/monets grid=outputs/demo/monets.png

test: $(READY)  ## run all tests but those in a browser
	$(BIN)/python -m pytest --ignore tests/web -n 2 --dist worksteal

# What it can't have (no root, no network, no npm) it does without: those tests are skipped and say so.
test-web: $(READY)  ## open both pages in a real browser, which it installs where it may
	@for needed in chromedriver:'chromium chromium-driver' npm:'nodejs npm'; do \
	  command -v $${needed%%:*} > /dev/null || ! command -v apt-get > /dev/null || [ "$$(id -u)" != 0 ] || \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $${needed#*:} > /dev/null; } || true; \
	done
	$(BIN)/python -m pytest tests/web -n 2 --dist loadfile

test-xla: $(XLA)/.ready  ## train and resume on an XLA device, which the CPU stands in for
	$(XLA)/bin/python -m pytest tests/xla -W ignore::DeprecationWarning

$(XLA)/.ready: $(READY)
	$(PYTHON) -m venv $(XLA)
	grep -vE '^(torch|torchvision|triton|nvidia|cuda)' constraints.txt > $(XLA)/constraints.txt
	$(BIN)/python -c 'import tomllib; print(*(line for line in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"] if not line.startswith(("torch>", "torchvision"))), "pytest", sep="\n")' > $(XLA)/requirements.txt
	$(BIN)/uv pip install --python $(XLA)/bin/python --constraint $(XLA)/constraints.txt $(XLA_PINS) --requirement $(XLA)/requirements.txt
	$(BIN)/uv pip install --python $(XLA)/bin/python --no-deps --editable .
	@touch $@

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make kaggle-bundle ckpt=best.ckpt inception=FILE pythons=3.12 output=FOLDER: all of them may be left out
kaggle-bundle: $(READY)  ## all that notebooks/kaggle.ipynb needs without a network, as dist/kaggle_bundle.zip
	$(BIN)/python -m notebooks.bundle $(foreach key,ckpt inception pythons output,$(if $($(key)),$(key)='$($(key))'))

clean:  ## remove .venv and caches, never outputs/ or data/
	rm -rf $(VENV) $(XLA) .mypy_cache .ruff_cache .pytest_cache *.egg-info
