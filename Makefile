# The job in one verb per line; `make` alone lists them.
#
#   make train DATA=~/faces OUT=out EPOCHS=30 MODEL=resnet18     any flag of the verb works as NAME=value
#   make train ARGS="--epochs 30 --resize 224 224"               or as it would be typed
#
# train, infer and evaluate run in Docker where Docker answers, else in .venv on this machine; RUNTIME=docker|host decides.

.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/bash

DATA    ?=
OUT     ?= out
DEMO    ?= demo
ARGS    ?=
RUNTIME ?= $(shell docker info >/dev/null 2>&1 && echo docker || echo host)
IMAGE   ?= mask-classifier

# Python 3.11 and 3.12 are what the lock files hold hashes for.
PYTHON  ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$python && break; done)
BIN     := .venv/bin

# What was given as NAME=value on the command line and is not a variable of this file becomes --name value.
OURS    := DATA OUT DEMO ARGS RUNTIME IMAGE PYTHON BASE_IMAGE BUILD_ARGS
lower    = $(shell echo '$(1)' | tr 'A-Z_' 'a-z-')
GIVEN   := $(foreach name,$(filter-out $(OURS),$(.VARIABLES)),$(if $(findstring command,$(origin $(name))),$(name)))
FLAGS    = $(foreach name,$(GIVEN),--$(call lower,$(name)) '$($(name))') $(ARGS)

.PHONY: help
help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- on this machine, with nothing but Python ----

.PHONY: demo
demo: .venv/job  ## draw a small data set, train, infer, evaluate: no Docker, no GPU, no data, no cloud
	@$(BIN)/python code/demo.py --output-dir $(DEMO)
	@SM_CHANNEL_TRAIN=$(DEMO)/train SM_MODEL_DIR=$(OUT)/model SM_OUTPUT_DATA_DIR=$(OUT)/output \
		$(BIN)/python code/train.py --name demo --model TinyModel --head factored --augmentation StrongAugmentation \
		--epochs 20 --optimizer AdamW --lr 0.003 --schedule onecycle $(FLAGS)
	@SM_CHANNEL_EVAL=$(DEMO)/eval SM_CHANNEL_MODEL=$(OUT)/model SM_OUTPUT_DATA_DIR=$(OUT)/output $(BIN)/python code/inference.py
	@SM_GROUND_TRUTH_DIR=$(DEMO)/gt SM_OUTPUT_DATA_DIR=$(OUT)/output $(BIN)/python code/evaluation.py
	@echo "report: $$(ls -td $(OUT)/output/demo*/report/report.html | head -n 1)"
	@echo "next: make train DATA=$(DEMO) EPOCHS=40   (or DATA=your/own/photographs)"

.PHONY: test
test: .venv/dev  ## run the whole suite, lint and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest --cov --cov-report=term

.PHONY: format
format: .venv/dev  ## put the code into the project's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/job: container/requirements.lock
	$(call install,$<)

.venv/dev: container/requirements-dev.lock
	$(call install,$<)
	@touch .venv/job

define install
@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and none is on the PATH; install one, or give PYTHON=..." >&2; exit 1; }
@command -v cc >/dev/null || { echo "a C compiler is needed to build sagemaker-training; apt-get install gcc python3-dev" >&2; exit 1; }
@echo "installing $(1) into .venv (about 7 GB, some minutes, once)"
@$(PYTHON) -m venv .venv
@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement $(1)
@touch $@
endef

.PHONY: lock
lock:  ## resolve container/*.in anew into lock files with hashes (needs uv)
	for name in requirements requirements-dev; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--no-emit-index-url --no-emit-find-links container/$$name.in --output-file container/$$name.lock; done

.PHONY: clean
clean:  ## remove what the verbs made here: outputs, demo data, caches; not .venv
	rm -rf $(OUT) $(DEMO) .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
