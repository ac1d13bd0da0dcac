# The few commands a person needs. Each makes .venv itself where it is missing.
PYTHON ?= python3
CONSTRAINTS ?= constraints-cpu.txt
PIP_FLAGS ?= --quiet
PROMPT ?= a blue circle, a yellow star and a red square
BIN := .venv/bin

WORKERS ?= auto
# Each process compiles every test anew where Python may keep nothing: nine seconds of it.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: install demo test test-fast check bench

install: .venv/installed

.venv/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP_FLAGS) -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: install  ## the bundled model, by itself and after a search: runs/demo/before-after.png
	rm -rf runs/demo
	$(BIN)/noisewright generate "$(PROMPT)" --budget "64 images" --out runs/demo

test: install  ## everything; a process a core
	$(PYTEST)

test-fast: install  ## some of every room, in a minute
	$(PYTEST) -m "not slow"

check: install  ## lint, types, and the direction of the imports
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_imports.py

bench: install  ## every figure of docs/figures.md, about half an hour on two cores
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/success.py
