# Everything here works from a fresh checkout with only python3, its venv module and make.
PYTHON ?= python3
BIN = .venv/bin
CODE = $(wildcard src tests examples benchmarks)

.PHONY: demo test check bench format clean

demo: .venv/demo.done
	$(BIN)/python examples/django_api/run.py

test: .venv/test.done
	$(BIN)/pytest

check: .venv/test.done
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/pytest -m "not slow and not browser" --ignore tests/e2e

bench: .venv/bench.done
	for each in fanout echo idle_memory handshake; do $(BIN)/python benchmarks/$$each.py || exit 1; done

format: .venv/test.done
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

# One environment; each target adds what it needs, and again when pyproject.toml changes.
.venv/%.done: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis
