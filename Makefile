# `make demo` alone sets everything up and runs the main job; `make test` alone sets up and tests.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# one thread a process: the tests run side by side, and more threads than cores wait for each other
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --dist loadfile --no-loadscope-reorder

.PHONY: bundles demo test test-all check readme docs dist release setup weights clean

demo: setup
	$(BIN)/qcanet demo

test: setup
	$(PYTEST) -n 2 -m "not slow"

# three at a time: slow tests often wait for a process to start
test-all: setup
	$(PYTEST) -n 3

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python .ci/prose.py

# every command of README.md, as it stands there
readme: setup
	.ci/readme

docs: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --builder html --conf-dir docs . build/docs

# the bundles' configurations, from bundles/_source
bundles: setup
	$(BIN)/python .ci/bundles.py

dist: setup
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

# Raise the version, close the changelog's "Unreleased", commit and tag: make release PART=minor
release: setup
	$(BIN)/bump-my-version bump $(PART)

setup: $(VENV)/.ready

# torch first and alone: an open requirement would bring gigabytes of CUDA packages
$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "1 of 3: a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@echo "2 of 3: torch, the largest package"
	$(BIN)/pip install --constraint constraints.txt torch
	@echo "3 of 3: qcanet-monai and about 200 packages that it needs; a few minutes"
	$(BIN)/pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

# Retrain the shipped weights from nothing but simulated embryos and tissues; see bundles/*/docs/README.md.
# Every round but the first begins with the weights of the one before, on other volumes, at half the rate.
WEIGHTS := runs/weights
ROUND = $(BIN)/python -m monai.bundle run --bundle_root bundles/$* \
	--config_file "['bundles/$*/configs/train.yaml','bundles/$*/configs/simulated.yaml']" \
	--logging_file bundles/$*/configs/logging.conf --epochs 10 --val_interval 2 --output_dir $(@D)
AGAIN = $(ROUND) --learning_rate 1.5e-3 --pretrained $(<D)/models/model.pt
.SECONDARY:

weights: $(WEIGHTS)/nsn-3/.done $(WEIGHTS)/ndn-2/.done
	cp $(WEIGHTS)/nsn-3/models/model.pt bundles/nsn/models/model.pt
	cp $(WEIGHTS)/ndn-2/models/model.pt bundles/ndn/models/model.pt

$(WEIGHTS)/%-1/.done: | $(VENV)/.ready
	$(ROUND)
	touch $@

$(WEIGHTS)/%-2/.done: $(WEIGHTS)/%-1/.done
	$(AGAIN) --seed 1
	touch $@

$(WEIGHTS)/%-3/.done: $(WEIGHTS)/%-2/.done
	$(AGAIN) --seed 2
	touch $@

clean:
	rm -rf demo runs build dist *.egg-info
