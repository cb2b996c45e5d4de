# Every target sets up what it needs: a .venv in the checkout with everything pyproject.toml names.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help python setup demo test test-fast test-compose test-faults test-python coverage lint format hooks bench-kddcup99 bench-quality bench-drift bench-speed bench-gpu trace-record package constraints clean

EXTRAS := broker,training,avro,dev,bench
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[$(EXTRAS)]'
UNIT := tests --ignore=tests/faults -m 'not broker and not slow and not compose'
OTHERS := tests --ignore=tests/faults -m '(broker or slow) and not compose'
# `make test MEASURED=1` counts the lines that unit tests run. On Python 3.11 that costs a sixth more of their CPU time.
COUNTED := $(if $(MEASURED),--cov --cov-report=term:skip-covered)
# A name on the PATH proves little: version managers leave shims that only print an error, and some systems
# ship Python without venv. So the candidate is run.
PYTHON_WORKS := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
CANDIDATES := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)

help: ## what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-16s %s\n", $$1, $$2 }'

python:
	@for name in $(CANDIDATES); do \
	  if "$$name" -c '$(PYTHON_WORKS)' >/dev/null 2>&1; then command -v "$$name"; exit 0; fi; done; \
	echo "make: no Python >= 3.11 with venv among: $(CANDIDATES). Install one (on Debian or Ubuntu: apt-get install" \
	  "python3 python3-venv), or name it: make PYTHON=/path/to/python3 ..." >&2; exit 1

setup: .venv/installed ## the environment in .venv, redone when pyproject.toml or constraints.txt change

.venv/installed: pyproject.toml constraints.txt
	@python=$$($(MAKE) -s --no-print-directory python) || exit 1; \
	test -x $(BIN)/python || "$$python" -m venv .venv
	$(BIN)/python $(INSTALL)
	@echo 'Compiling the scoring kernel; one to two minutes, once on this machine.'
	@$(BIN)/python docker/compile.py
	@touch $@

demo: setup ## a local Kafka, telemetry with faults, a fit, alerts: all in this terminal
	$(BIN)/stream-detector demo

# One thread a process: tests run several workers at once, and threads that share a core are ten times slower.
test test-fast test-compose test-faults test-python coverage: export OMP_NUM_THREADS = 1

test: setup ## unit tests, then those on a real broker, then compose where a Docker engine answers
	$(PYTEST) $(UNIT) $(COUNTED)
	$(PYTEST) $(OTHERS)
	@if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory test-compose; \
	else \
	  echo '!!! NOT RUN: the compose tests. No Docker engine with the compose plugin answers here.'; fi

test-fast: setup ## in under three minutes: unit tests without the longest, and ten telling ones on a real broker
	$(PYTEST) tests --ignore=tests/faults -m '(not broker and not slow and not compose and not thorough) or telling'

test-compose: setup ## the whole stack in containers: build, start, scale, stop
	$(PYTEST) tests -m compose

test-faults: setup ## brokers and workers killed in mid-flight
	$(PYTEST) tests/faults

test-python: ## the unit tests on another Python, in build/: make test-python PYTHON=python3.13
	@python=$$($(MAKE) -s --no-print-directory python) || exit 1; \
	home=build/python$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	"$$python" -m venv "$$home" && "$$home/bin/python" $(INSTALL) && "$$home/bin/python" -m pytest $(UNIT)

coverage: setup ## the share of lines that the tests run, those on a broker included; build/coverage/index.html
	$(PYTEST) $(UNIT) --cov --cov-report=
	$(PYTEST) $(OTHERS) --cov --cov-append --cov-report=term:skip-covered --cov-report=html:build/coverage

hooks: setup ## style, formatting and types before every commit in this checkout
	$(BIN)/pre-commit install

lint: setup ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## put the style right where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-kddcup99: setup ## KDDCUP99 in file order through Kafka; the data is found by STREAM_DETECTOR_DATA
	$(BIN)/python -m benchmarks.kddcup99

bench-quality: setup ## the detector and its peers on public data sets; goes on where it stopped
	$(BIN)/python -m benchmarks.quality

bench-drift: setup ## drift, retraining and a hot swap under load, on a real broker; about five minutes
	$(BIN)/python -m benchmarks.drift

bench-speed: export OMP_NUM_THREADS = 1

bench-speed: setup ## the worker against its ceiling, the scorer, peers, latency, memory, formats: what has no result yet
	$(BIN)/python -m benchmarks.speed

bench-gpu: setup ## the scorer and the pipeline on a GPU
	$(BIN)/python -m benchmarks.speed --parts h --again

trace-record: setup ## the files of the engine that a flagged record visits between its poll and its commit
	$(BIN)/python scripts/trace_record.py

package: setup ## the wheel and the source archive, in dist/
	$(BIN)/python -m build --no-isolation

constraints: ## take the newest version of everything into constraints.txt
	@python=$$($(MAKE) -s --no-print-directory python) || exit 1; "$$python" -m venv --clear build/newest
	build/newest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	{ grep '^#' constraints.txt; build/newest/bin/python -m pip freeze --exclude-editable \
	  | grep -v -i -E '^(nvidia-|cuda-|triton==|#)| @ '; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## remove everything that was made here
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
