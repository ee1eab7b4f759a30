# `make demo` alone sets everything up and runs the main job; `make test` alone sets up and tests.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: demo test check setup weights clean

demo: setup
	$(BIN)/qcanet demo

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder

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
# Every round but the first begins with the weights of the one before, on other volumes, at half the rate.
WEIGHTS := runs/weights
ROUND = $(BIN)/python -m monai.bundle run --bundle_root bundles/$* \
	--config_file "['bundles/$*/configs/train.yaml','bundles/$*/configs/simulated.yaml']" \
	--logging_file bundles/$*/configs/logging.conf --epochs 10 --val_interval 2 --output_dir $(@D)
AGAIN = $(ROUND) --learning_rate 1.5e-3 --initial $(<D)/models/model.pt
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
