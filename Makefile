# make demo    set up and run the main job against a real Label Studio (ARGS=--exit to stop at once)
# make test    set up and run lint, types, import contracts and every test
.PHONY: help setup dev demo lint test unit constraints clean
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
export VENV

help:
	@sed -n 's/^# make/make/p' Makefile

setup:
	@scripts/setup run

dev:
	@scripts/setup dev

demo: setup
	@$(BIN)/labelbridge demo $(ARGS)

lint: dev
	@echo "==> ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "==> mypy --strict"; $(BIN)/mypy
	@echo "==> import contracts"; $(BIN)/lint-imports

test: lint
	@echo "==> tests"; $(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

unit: dev
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not live and not browser and not slow" $(ARGS)

# The versions that were tested together. Run in a fresh environment when a dependency changes.
constraints: dev
	@$(BIN)/pip freeze --all --exclude pip --exclude-editable | grep -v ' @ ' | LC_ALL=C sort -f > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
