# Everything here works from a fresh checkout with only python3, its venv module, make and access to PyPI.
PYTHON ?= python3
BIN = .venv/bin
CODE = $(wildcard src tests docs/reference.py examples benchmarks conformance fuzzing)
ARGS =
ONLY =
SECONDS = 60

.PHONY: help demo test check docs conformance fuzz bench format clean

help:                              ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: .venv/demo.done              ## run a chat made of Django and the gateway; ARGS="--port 9000" and other flags
	$(BIN)/python examples/django_api/run.py $(ARGS)

test: .venv/test.done              ## run all tests, with real processes and a real browser
	$(BIN)/pytest $(ARGS)

check: .venv/test.done             ## format, lint, types, layers and unit tests, in about a minute
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/pytest -m "not slow and not browser" --ignore tests/e2e

conformance: .venv/test.done       ## RFC 6455 and hostile clients: 15 minutes; CONFORMANCE=--ci three
	$(BIN)/python -m conformance $(CONFORMANCE)

fuzz: .venv/fuzz.done              ## each fuzzing target for SECONDS=60, or ARGS="messages --runs 10000000"
	$(BIN)/python -m fuzzing $(or $(ARGS),--seconds $(SECONDS))

bench: .venv/bench.done            ## server CPU per operation, beside other servers; ONLY=fanout; ARGS=--full
	$(BIN)/python benchmarks $(if $(ONLY),--only $(ONLY)) $(ARGS)

docs: .venv/test.done              ## write docs/reference.md from the docstrings
	$(BIN)/python docs/reference.py

format: .venv/test.done            ## format, and mend what the linter can
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

# One environment; each target adds what it needs, and again when pyproject.toml changes.
.venv/%.done: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

clean:                             ## remove what the others made
	rm -rf .venv .fuzzing .mypy_cache .ruff_cache .hypothesis
