# make help      what there is
# make world     raw video → … → report.html      (SEED=0, SCRATCH=1 to train from nothing)
# make test      the whole test suite

PYTHON ?= python3.11
SEED ?= 0
WORLD ?= world/seed$(SEED)$(if $(SCRATCH),-scratch)
WORKERS ?= 2
BIN := .venv/bin
OPENWFM := $(BIN)/openwfm
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export OMP_WAIT_POLICY := passive

TOKENIZER_FROM := $(if $(SCRATCH),null,experiments/001_nano_tokenizer/weights)
WORLD_FROM := $(if $(SCRATCH),null,experiments/002_nano_video2world/weights)

.PHONY: help setup world test check bench notebooks dup clean experiment-001 experiment-002

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: .venv/.installed ## make .venv and install, pinned by constraints.txt

.venv/.installed: setup.cfg constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 (apt-get install python3.11 python3.11-venv) or name one: make PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11)' 2>/dev/null || { echo "error: $(PYTHON) lacks venv or is older than 3.11: apt-get install python3.11-venv"; exit 1; }
	@echo "== set-up: installing into .venv (two to four minutes the first time)"
	@start=$$(date +%s); test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt; \
	echo $$(( $$(date +%s) - start )) > $@

# $(call stage,NAME,COMMAND): run COMMAND and note how long it took
define stage
@echo "== $(1)"; start=$$(date +%s.%N); $(2); \
$(BIN)/python -m openwfm.stages $(WORLD) "$(1)" $$(echo "$$(date +%s.%N) - $$start" | awk '{print $$1 - $$3}')
endef

test: setup ## the whole test suite
	@$(BIN)/python -m pytest -n 2 --dist worksteal

check: setup ## format, lint, types
	@$(BIN)/ruff format --check src tests
	@$(BIN)/ruff check src tests
	@$(BIN)/mypy

notebooks: setup ## run every notebook
	@for book in notebooks/*.ipynb; do echo "== $$book"; \
	$(BIN)/python -m nbconvert --to notebook --execute --stdout $$book > /dev/null; done

dup: ## share of code that is written twice
	@$(BIN)/python tests/test_duplicates.py

clean: ## remove the world, not the set-up
	rm -rf world
