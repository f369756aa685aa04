# make run: set up and run the flagship app. make test: set up, then checks and all tests. make check: lint and types.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PORT ?= 8787

.PHONY: run test check bench clean

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	touch $(READY)

run: $(READY)
	$(BIN)/python apps/llm_offload/run.py --port $(PORT)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check # two at a time, as on a machine of two cores, each in order so that a file's servers start once
	$(BIN)/pytest -n 2 --dist worksteal

bench: $(READY)
	$(BIN)/python -m bench

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
