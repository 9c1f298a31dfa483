# make demo           trains on the embedded digits: a curve and a report in output/demo
# make test           runs the tests
# make test-fast      runs those that start no script, for the edit loop
# make test-numerics  runs those that a processor's kernels could change, on other kinds of kernels
# make test-slow      runs the long ones: attacks, a kill at every point of an epoch, and 300 at random
# make bench          measures speed beside stock Keras, and JAX and PyTorch where they are installed
# make lint           checks style
# All of them set everything up in .venv first; PYTHON names another interpreter than python3.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

PYTEST := $(BIN)/python -m pytest
IN_PARALLEL := --numprocesses 2 --dist worksteal

.PHONY: demo test test-fast test-numerics test-slow bench lint clean

demo: $(VENV)/installed
	rm -rf output/demo
	$(BIN)/python resnet_cifar10_decay.py --dataset digits --stages 1 1 1 --filters 16 16 32 64 \
		--batch-size 64 --epochs 30 --output output/demo

test: $(VENV)/installed-dev
	$(PYTEST) $(IN_PARALLEL)

test-fast: $(VENV)/installed-dev
	$(PYTEST) $(IN_PARALLEL) -m "not slow and not thorough and not numerics"

# Without oneDNN, and with it as on a processor that has AVX2 and nothing newer; `make test` has it as
# it is here.
test-numerics: $(VENV)/installed-dev
	TF_ENABLE_ONEDNN_OPTS=0 $(PYTEST) $(IN_PARALLEL) -m numerics
	ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) $(IN_PARALLEL) -m numerics

test-slow: $(VENV)/installed-dev
	$(PYTEST) -m slow

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
