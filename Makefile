# `make quickstart` walks the whole way, `make test` tests it; each installs what it needs, once, into .venv.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: quickstart test lint kernels wheel clean

quickstart: $(INSTALLED)
	$(BIN)/sparse-circuits quickstart

test: $(INSTALLED)
	$(BIN)/pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Every kernel compiled for GPUs that are not there, and every branch of the benchmark under Triton's interpreter.
kernels: $(INSTALLED)
	$(BIN)/python -m sparse_circuits.kernels.aot
	$(BIN)/python -m experiments.bench_kernels --device cpu --interpret --repeats 1 --out build/dry_run.json

wheel: $(INSTALLED)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
