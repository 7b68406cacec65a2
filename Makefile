# Written for GNU make 3.81, which is what a Mac has.

.DEFAULT_GOAL := help
.PHONY: help setup system-packages demo test chaos lint bench

BIN := .venv/bin
INSTALLED := .venv/.installed

help:
	@awk -F ' *## ' '/^[a-z]+:.*##/ { sub(/:.*/, "", $$1); printf "  make %-6s %s\n", $$1, $$2 }' Makefile

setup: system-packages $(INSTALLED) ## install what is missing: mosquitto, and .venv with everything in it

demo: setup ## a broker, a hub and three sites at work (ONCE=1: run the scenario, check it, exit)
	@$(BIN)/edge-hub demo $(if $(filter 1,$(ONCE)),--once)

test: setup ## all tests
	@$(BIN)/pytest -q

chaos: setup ## breaks everything while work goes on, then checks (CHAOS_SECONDS=60, CHAOS_SEED=…)
	@$(BIN)/python -m tests.chaos

lint: setup ## ruff and mypy
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy

bench: setup ## benchmarks, beside peers
	@$(BIN)/python -m bench

system-packages:
	@scripts/system-packages.sh

# The environment is made anew only when it has no working pip: there is none, it was begun without python3-venv,
# or its Python has been removed.
$(INSTALLED): pyproject.toml constraints.txt | system-packages
	@echo "Installing Holdfast and its tools into .venv"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		{ python=$$(scripts/find-python.sh) && "$$python" -m venv --clear .venv; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
