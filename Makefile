# The two commands of the README are `make search` and `make test`. Each sets up .venv first.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
ARGS ?=

.PHONY: install search test lint typecheck bench docs clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,dev,export,openvino,ray,sweep]'
	@mkdir -p $(VENV)/typecheck && ln -sfn "$(CURDIR)" $(VENV)/typecheck/espalier
	@touch $@

search: install
	$(BIN)/espalier search $(ARGS)

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

typecheck: install
	cd $(VENV)/typecheck && MYPYPATH=. ../bin/mypy --config-file espalier/pyproject.toml --explicit-package-bases -p espalier

bench: install
	$(BIN)/python benchmarks/environment.py $(ARGS)

docs: install
	$(BIN)/python docs/catalogue.py

clean:
	rm -rf $(VENV) build *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
