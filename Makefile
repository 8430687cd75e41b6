# make run: everything from a fresh clone to a running Junebug. `make` alone lists the targets.
#
# ARGS=... is passed on:  make run ARGS="--port 8000"    make test ARGS="-k telnet"
# PYTHON=... chooses the interpreter (3.11 or newer) of a new .venv; without it etc/choose-python does.

PYTHON ?= $(shell etc/choose-python)
ARGS ?=
LEASE ?= 20
BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Compiled files are kept whatever the environment says: hundreds of processes start in the tests.
export PYTHONDONTWRITEBYTECODE :=

.NOTPARALLEL:
.PHONY: help install run demo test test-cluster lint bench soak docs clean FORCE

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile

install: $(INSTALLED) ## make .venv, with the system packages that are missing
	@PYTHON=$(BIN)/python etc/install-system-packages

# A copied or moved tree has a .venv whose paths lead elsewhere: the stamp says for which directory it was made.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
$(INSTALLED): FORCE
endif
$(INSTALLED): requirements.txt requirements-dev.txt setup.cfg setup.py pyproject.toml
	@PYTHON=$(PYTHON) etc/install-system-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Junebug needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making .venv with $(PYTHON) ..."
	@test "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" || $(PYTHON) -m venv --clear .venv
	@$(PIP) install --requirement requirements-dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" > $@

run: install ## Junebug with a Redis and a RabbitMQ of its own, on http://localhost:8080
	@exec $(BIN)/jb --embedded $(ARGS)

demo: install ## a message to a phone and back, through a simulated SMSC
	@exec $(BIN)/python docs/demo.py

test: install ## all tests, on servers that they start themselves; what ruff and mypy say comes first
	@PYTHON=$(BIN)/python etc/install-system-packages tests
	@$(BIN)/python -m pytest --collect-only -qq > /dev/null & $(MAKE) --no-print-directory lint && wait  # tests are compiled once
	@$(BIN)/python -m pytest -n 7 --dist loadscope --no-loadscope-reorder $(ARGS)

test-cluster: install ## three hosts killed, paused and cut off under traffic: ten minutes (LEASE=4: five)
	@PYTHON=$(BIN)/python etc/install-system-packages tests
	@JUNEBUG_TEST_CLUSTER=$(LEASE) $(BIN)/python -m pytest -q -s tests/cluster $(ARGS)

lint: $(INSTALLED) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: install ## measure it
	@$(BIN)/python -m bench $(ARGS)

soak: install ## ten minutes of traffic while things break: fails on a loss, or when memory grows (ARGS="--seconds 60")
	@$(BIN)/python -m bench.soak $(ARGS)

docs: $(INSTALLED) ## write anew the pages that are generated
	@$(BIN)/python docs/generate.py

clean: ## remove what was made; var/ and logs/ (your data) stay
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
