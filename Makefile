# make help      what there is
# make world     raw video → … → report.html      (SEED=0, SCRATCH=1 to train from nothing)
# make test      the whole test suite

PYTHON ?= python3.11
SEED ?= 0
WORLD ?= world/seed$(SEED)$(if $(SCRATCH),-scratch)
TAKES ?= 16
BIN := .venv/bin
OPENWFM := $(BIN)/openwfm
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export OMP_WAIT_POLICY := passive

# With published weights both trainings are short post-trainings on the fresh shards; the encoder
# stays as it is, so that the latents remain those the world model was pre-trained on.
TOKENIZER := $(if $(SCRATCH),trainer.max_steps=700,\
  model.weights=experiments/001_nano_tokenizer/weights model.freeze_encoder=true \
  model.optimizer.lr=2.0e-4 trainer.max_steps=150 trainer.val_check_interval=75)
WORLD_MODEL := $(if $(SCRATCH),trainer.max_steps=1000,\
  model.weights=experiments/002_nano_video2world/weights \
  model.optimizer.lr=2.0e-4 trainer.max_steps=300 trainer.val_check_interval=100)

.PHONY: help setup world test check bench lerobot notebooks dup clean experiment-001 experiment-002 experiment-005 experiment-006

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

world: setup ## raw video → curation → shards → two trainings → futures → evaluation → report.html
	@mkdir -p $(WORLD)
	@$(BIN)/python -m openwfm.stages $(WORLD) "set-up" $$(cat .venv/.installed)
	$(call stage,film raw takes,$(OPENWFM) simulate footage out=$(WORLD)/footage num_takes=$(TAKES) seed=$(SEED) natural=true)
	$(call stage,curate,$(OPENWFM) curate in=$(WORLD)/footage/raw out=$(WORLD)/shards)
	$(call stage,train the tokenizer,$(OPENWFM) train experiment=001_nano_tokenizer \
	  run=$(WORLD)/tokenizer seed=$(SEED) data.config.shards=$(WORLD)/shards $(TOKENIZER))
	$(call stage,evaluate the tokenizer,$(OPENWFM) evaluate run=$(WORLD)/tokenizer kinds=[simulated] seed=$(SEED))
	$(call stage,train the world model,$(OPENWFM) train experiment=002_nano_video2world \
	  run=$(WORLD)/world_model seed=$(SEED) data.config.shards=$(WORLD)/shards \
	  model.tokenizer=$(WORLD)/tokenizer/weights $(WORLD_MODEL))
	$(call stage,evaluate the world model,$(OPENWFM) evaluate run=$(WORLD)/world_model kinds=[simulated] seed=$(SEED))
	$(call stage,generate a future,$(OPENWFM) generate run=$(WORLD)/world_model seed=$(SEED) \
	  frames=$(WORLD)/world_model/evaluation/examples/00_given.mp4 out=$(WORLD)/future.mp4)
	@$(OPENWFM) report in=$(WORLD)

# Footage and shards of the recorded experiments; `make world` films other takes (another seed).
data/shards/index.json: | setup
	$(OPENWFM) simulate footage out=data/footage num_takes=96 seed=1001 natural=true
	$(OPENWFM) curate in=data/footage/raw out=data/shards

# More scenes for the world model, straight into shards; held-out clips are those of data/shards.
data/table/index.json: | setup
	$(OPENWFM) simulate world=table out=data/table num_clips=3000 seed=2001

experiment-001: data/shards/index.json ## the published nano tokenizer again (about an hour)
	$(OPENWFM) train experiment=001_nano_tokenizer run=runs/001 data.config.shards=data/shards
	$(OPENWFM) evaluate run=runs/001 kinds=[simulated] num_clips=256

experiment-002: data/shards/index.json data/table/index.json ## the published nano world model again (about two hours)
	$(OPENWFM) train experiment=002_nano_video2world run=runs/002 \
	  data.config.shards=[data/shards,data/table]
	$(OPENWFM) evaluate run=runs/002 shards=data/shards kinds=[simulated] num_clips=256

# Groups of equal bodies, whose colour and number a prompt names and a reader counts.
data/groups/index.json: | setup
	$(OPENWFM) simulate world=groups out=data/groups num_clips=1600 seed=5001

experiment-005: data/groups/index.json ## the nano text2world model, and how often it obeys
	$(OPENWFM) train experiment=005_nano_text2world run=runs/005 num_threads=1 \
	  data.config.shards=data/groups
	$(OPENWFM) evaluate run=runs/005 condition_latents=0 num_clips=256

experiment-006: data/shards/index.json data/table/index.json ## the few-step student of 002 again, and its table
	$(OPENWFM) train experiment=006_nano_few_steps run=runs/006 data.config.shards=[data/shards,data/table]
	$(BIN)/python experiments/006_nano_few_steps/compare.py data/shards \
	  experiments/002_nano_video2world/weights runs/006/weights out=runs/006/evaluation
	$(BIN)/python experiments/006_nano_few_steps/long_video.py data/shards \
	  experiments/002_nano_video2world/weights out=runs/006/long split=val clips=32

test: setup ## the whole test suite
	@$(BIN)/python -m pytest -n 2 --dist worksteal

check: setup ## format, lint, types
	@$(BIN)/ruff format --check src tests
	@$(BIN)/ruff check src tests
	@$(BIN)/mypy

bench: setup ## speed and memory of filming, on an otherwise idle machine
	$(OPENWFM) bench simulation

lerobot: setup ## export to LeRobot, read with its own package (in a venv of its own), import back
	@test -x .venv-lerobot/bin/python || $(PYTHON) -m venv .venv-lerobot
	@.venv-lerobot/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 lerobot-dataset==0.4.4
	@OPENWFM_LEROBOT_V30=.venv-lerobot/bin/python $(BIN)/python -m pytest tests/data/importers

notebooks: setup ## run every notebook
	@for book in notebooks/*.ipynb; do echo "== $$book"; \
	$(BIN)/python -m nbconvert --to notebook --execute --stdout $$book > /dev/null; done

dup: ## share of code that is written twice
	@$(BIN)/python tests/test_duplicates.py

clean: ## remove the world, not the set-up
	rm -rf world
