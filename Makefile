# `make demo` alone sets everything up and runs the main job; `make test` alone sets up and tests.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: demo test check setup weights clean

demo: setup
	$(BIN)/qcanet demo

test: setup
	$(BIN)/python -m pytest -q

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

setup: $(VENV)/.ready

# torch first and alone: an open requirement would bring gigabytes of CUDA packages
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Retrain the shipped weights from nothing but simulated embryos and tissues; see bundles/*/docs/README.md.
# Two rounds: the second begins with the first's weights, on other volumes, at half the learning rate.
WEIGHTS := runs/weights
ROUND = $(BIN)/python -m monai.bundle run --bundle_root bundles/$* \
	--config_file "['bundles/$*/configs/train.yaml','bundles/$*/configs/simulated.yaml']" \
	--logging_file bundles/$*/configs/logging.conf --epochs 10 --val_interval 2
weights: $(WEIGHTS)/nsn.done $(WEIGHTS)/ndn.done

$(WEIGHTS)/%.done: | $(VENV)/.ready
	$(ROUND) --output_dir $(WEIGHTS)/$*-1
	$(ROUND) --output_dir $(WEIGHTS)/$*-2 --initial $(WEIGHTS)/$*-1/models/model.pt --seed 1 --learning_rate 1.5e-3
	cp $(WEIGHTS)/$*-2/models/model.pt bundles/$*/models/model.pt
	touch $@

clean:
	rm -rf demo runs build dist *.egg-info
