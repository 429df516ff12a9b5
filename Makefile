# `make quickstart` walks the whole way, `make test` tests it; each installs what it needs, once, into .venv. Only `make web`
# and `make test-web` need Node.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

WEB := sparse_circuits/report/web
CHROMIUM ?= /usr/bin/chromium

.PHONY: quickstart test test-slow lint kernels web test-web wheel clean

quickstart: $(INSTALLED)
	$(BIN)/sparse-circuits quickstart

test: $(INSTALLED)
	$(BIN)/pytest -m "not slow"

# Runs that are killed, several processes, the whole walk, a thousand requests.
test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Every kernel compiled for GPUs that are not there, and every branch of the benchmark under Triton's interpreter.
kernels: $(INSTALLED)
	$(BIN)/python -m sparse_circuits.kernels.aot
	$(BIN)/python -m experiments.bench_kernels --device cpu --interpret --repeats 1 --out build/dry_run.json

# The page of a run: its asset is built from TypeScript, and committed, so that whoever uses it needs no Node.
web: $(WEB)/node_modules
	npm --prefix $(WEB) run build

# The asset is the build of its source; pages are opened in a browser and used.
test-web: $(INSTALLED) $(WEB)/node_modules
	test -x $(CHROMIUM) || (apt-get update && apt-get install -y chromium) || (sudo apt-get update && sudo apt-get install -y chromium)
	cd $(WEB) && PYTHON=$(abspath $(BIN))/python CHROMIUM=$(CHROMIUM) npm test

$(WEB)/node_modules: $(WEB)/package-lock.json
	npm --prefix $(WEB) ci
	touch $@

wheel: $(INSTALLED)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info $(WEB)/node_modules $(WEB)/build

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
