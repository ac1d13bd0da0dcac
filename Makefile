# The few commands a person needs. Each makes .venv itself where it is missing.
PYTHON ?= python3
CONSTRAINTS ?= constraints-cpu.txt
PIP_FLAGS ?= --quiet
PROMPT ?= a blue circle, a yellow star and a red square
BIN := .venv/bin
OLDEST := 0.40.*

WORKERS ?= auto
# Each process compiles every test anew where Python may keep nothing: nine seconds of it.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: install demo test test-fast check bench families matrix screenshots

install: .venv/installed

.venv/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP_FLAGS) -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: install  ## the bundled model, by itself and after a search: runs/demo/before-after.png
	rm -rf runs/demo
	$(BIN)/noisewright generate "$(PROMPT)" --budget "64 images" --dtype auto --out runs/demo

.venv-oldest/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv-oldest
	grep -v '^diffusers' $(CONSTRAINTS) > .venv-oldest/constraints.txt || true
	.venv-oldest/bin/pip install $(PIP_FLAGS) -c .venv-oldest/constraints.txt -e ".[dev]" "diffusers==$(OLDEST)"
	touch $@

test: install  ## everything; a process a core
	$(PYTEST)

test-fast: install  ## some of every room, in a minute
	$(PYTEST) -m "not slow"

families: install .venv-oldest/installed  ## every family of pipelines, with the newest and the oldest diffusers
	$(PYTEST) tests/families
	.venv-oldest/bin/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal tests/families

matrix: install  ## what the families of pipelines do now, written into the package and into docs/pipelines.md
	PYTHONPATH=src:tests $(BIN)/python tests/families/write_matrix.py $(FAMILIES)

screenshots: install  ## the pictures of the page in docs/images, of runs that are made for them; needs chromium
	$(BIN)/python benchmarks/screenshots.py

check: install  ## lint, types, and the direction of the imports
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_imports.py

# Not here: sections 7, 10 and the drafts' rows, which take hours (their commands stand in the documents), and a GPU's.
bench: install  ## figures of docs/figures.md, sections 1 to 5, 8, 9 and 11; over an hour on two cores
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/success.py
	$(BIN)/python benchmarks/seconds.py --seconds 5 10
	$(BIN)/python benchmarks/candidates.py
	$(BIN)/python benchmarks/overlap.py
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/busy.py --repeats 2
	$(BIN)/python benchmarks/prompt_file.py --budget "1 images" --repeats 1
	$(BIN)/python benchmarks/scale.py workers
	$(BIN)/python benchmarks/scale.py driver
	$(BIN)/python benchmarks/scale.py prompts --repeats 1
	$(BIN)/python benchmarks/verifiers.py
	$(BIN)/python benchmarks/fid_oracle.py
	$(BIN)/python benchmarks/page.py
