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
WEIGHTS := runs/weights
WEIGHTS_EPOCHS := 12
weights: $(WEIGHTS)/nsn.done $(WEIGHTS)/ndn.done

$(WEIGHTS)/%.done: | $(VENV)/.ready
	$(BIN)/python -m monai.bundle run --bundle_root bundles/$* \
		--config_file "['bundles/$*/configs/train.yaml','bundles/$*/configs/simulated.yaml']" \
		--logging_file bundles/$*/configs/logging.conf --output_dir $(WEIGHTS)/$* \
		--epochs $(WEIGHTS_EPOCHS) --val_interval 2
	cp $(WEIGHTS)/$*/models/model.pt bundles/$*/models/model.pt
	touch $@

clean:
	rm -rf demo runs build dist *.egg-info
