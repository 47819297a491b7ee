# Everything runs from a virtual environment of the project's own; `scripts/setup` makes it.
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo test check bench bench-guard format clean

demo:
	@scripts/setup base
	@$(PY) scripts/demo.py

test: 
	@scripts/setup dev
	@$(MAKE) --no-print-directory check
	@$(PY) -m pytest -n auto

check:
	@scripts/setup dev
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check -q
	@$(VENV)/bin/mypy
	@$(PY) -m pytest tests/test_structure.py

bench:
	@scripts/setup dev
	@$(PY) benchmarks/agent_overhead.py
	@$(PY) benchmarks/journal.py

# Needs the extra `train`: the models that have not seen a source are made here.
bench-guard:
	@scripts/setup dev
	@$(VENV)/bin/pip install -q -e '.[train]'
	@$(PY) benchmarks/guard_topical.py
	@$(PY) benchmarks/guard_benign_block.py
	@$(PY) benchmarks/guard_acts.py

format:
	@scripts/setup dev
	@$(VENV)/bin/ruff check --fix -q; $(VENV)/bin/ruff format -q

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench
