# Each target sets itself up in .venv; nothing else needs to be installed first but python3 (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test test-all fuzz kill mutants lint types bench docs build clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $(STAMP)

demo: install
	$(BIN)/mmalign demo --out runs/demo --json runs/demo.json

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

test: lint types
	$(BIN)/python -m pytest -n 2 --dist worksteal

# With the slow studies, of which `make test` runs a part.
test-all: lint types
	$(BIN)/python -m pytest -n 2 --dist worksteal -m ''

# Damaged and hostile inputs for every registered reader; reproducers of faults are kept in fuzz-faults.
CASES ?= 10000
SEED ?= 0
fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --cases $(CASES) --seed $(SEED)

# Kills training, saving, embedding, evaluating and a cache at many points; each must go on to the same bits.
POINTS ?= 100
kill: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.kill --points $(POINTS) --seed $(SEED)

# Deliberate errors, each of which a test must notice.
mutants: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants

bench: install
	$(BIN)/python tests/benchmarks/openclip_train.py
	$(BIN)/python tests/benchmarks/losses.py
	$(BIN)/python tests/benchmarks/transport.py

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

build: install
	$(BIN)/python -m build

clean:
	rm -rf .venv dist build site .mypy_cache .ruff_cache .pytest_cache
