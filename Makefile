# The job in one verb per line; `make` alone lists them.
#
#   make train DATA=~/faces OUT=out EPOCHS=30 MODEL=resnet18     any flag of the verb works as NAME=value
#   make train DATA=~/faces ARGS="--epochs 30 --resize 224 224"  or as it would be typed
#
# train, infer and evaluate run in Docker where Docker and the image are, else in .venv here; RUNTIME=docker|host decides.

.DEFAULT_GOAL := help
SHELL := /bin/bash

DATA       ?=
DEMO       ?= demo
OUT        ?= $(if $(filter demo,$(MAKECMDGOALS)),$(DEMO)-out,out)
ARGS       ?=
IMAGE      ?= mask-classifier
RUNTIME    ?= $(shell docker image inspect $(IMAGE) >/dev/null 2>&1 && echo docker || echo host)
GPU        ?= $(shell docker info --format '{{.Runtimes}}' 2>/dev/null | grep -q nvidia && echo -gpu)
BASE_IMAGE ?=
BUILD_ARGS ?=
PORT       ?= $(or $(SAGEMAKER_BIND_TO_PORT),8080)
KILLS      ?= 1000

# Not every shell expands the tilde of DATA=~/faces, and make takes a space for the end of a name.
override DATA := $(patsubst ~/%,$(HOME)/%,$(DATA))
override OUT  := $(patsubst ~/%,$(HOME)/%,$(OUT))
$(foreach name,DATA OUT DEMO,$(if $(word 2,$($(name))),$(error $(name)=$($(name)): a folder with a space in its name is too much for make; rename it, or link to it)))

# Python 3.11 and 3.12 are what the lock files hold hashes for.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$python && break; done)
BIN    := .venv/bin

# What was given as NAME=value on the command line becomes --name value, unless it is a variable of this file, or one of
# the environment: those of the server and of docker-compose.yml, to which make hands all that it was given.
OURS  := DATA OUT DEMO ARGS IMAGE RUNTIME GPU BASE_IMAGE BUILD_ARGS PYTHON SUBMIT JOB SEARCH PORT KILLS
OURS  += BAD_INPUT SERVE_% SAGEMAKER_% AWS_% SHM_SIZE
lower  = $(shell echo '$(1)' | tr 'A-Z_' 'a-z-')
GIVEN := $(foreach name,$(filter-out $(OURS),$(.VARIABLES)),$(if $(findstring command,$(origin $(name))),$(name)))
# In `make train infer evaluate EPOCHS=3` they are those of train.
FLAGS  = $(if $(filter-out train demo,$@),$(if $(filter train,$(MAKECMDGOALS)),,$(GIVEN_FLAGS)),$(GIVEN_FLAGS))
GIVEN_FLAGS = $(foreach name,$(GIVEN),--$(call lower,$(name)) '$($(name))') $(ARGS)

.PHONY: help
help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z -]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- with nothing but Python ----

.PHONY: demo
demo: .venv/job  ## draw a small data set, train, infer, evaluate: no Docker, no GPU, no data, no cloud
	@$(BIN)/python code/demo.py --output-dir $(DEMO)
	@$(call host,$(DEMO)) $(BIN)/python code/train.py --name demo --model TinyModel --head factored \
		--augmentation StrongAugmentation --optimizer AdamW --lr 0.003 --weight-decay 0.05 --schedule onecycle \
		--epochs 30 --batch-size 32 --resize 96 72 --resume never $(FLAGS)
	@$(call host,$(DEMO)) $(BIN)/python code/inference.py
	@$(call host,$(DEMO)) $(BIN)/python code/evaluation.py
	@echo "report: $$(ls -td $(OUT)/output/data/demo*/report/report.html | head -n 1)"
	@echo "next: make train DATA=$(DEMO) EPOCHS=40   (or DATA=your/own/images)"

.PHONY: test
test: .venv/dev  ## run the whole suite, lint and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest -m "not image and not chaos" --numprocesses 2 --dist loadfile --cov --cov-report=term

# ---- the job, in Docker or here ----

.PHONY: train evaluate
train evaluate: check-data $(if $(filter host,$(RUNTIME)),.venv/job)  ## run the verb on DATA, leave the results in OUT
	@$(call begin,$@)
	@$(if $(filter docker,$(RUNTIME)),$(compose) run --rm $@$(if $(filter train,$@),$(GPU)) $(FLAGS),$(call host,$(DATA)) $(BIN)/python code/$(PROGRAM_$@).py $(FLAGS))

.PHONY: infer
infer: check-data $(if $(filter host,$(RUNTIME)),.venv/job)  ## label DATA as SageMaker Batch Transform does: a server, a request for each image, output.csv
	@$(call begin,$@)
	@$(if $(filter docker,$(RUNTIME)),$(transform_in_docker),$(call host,$(DATA)) $(BIN)/python container/transform.py $(FLAGS))

# The server goes in every case, and says first why if there are no labels. A name for each OUT keeps two runs apart.
transform_in_docker = export $(for_compose) COMPOSE_PROFILES=batch,gpu \
		COMPOSE_PROJECT_NAME=transform-$$(echo '$(abspath $(OUT))' | cksum | cut -d ' ' -f 1); \
	clean() { docker compose down --timeout 5 2>/dev/null; }; \
	end() { status=$$?; test $$status = 0 || docker compose logs --no-log-prefix transform-server$(GPU) >&2; clean; exit $$status; }; \
	clean; trap end EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	docker compose run --rm transform$(GPU) $(FLAGS)

begin = mkdir -p $(OUT)/model $(OUT)/output/data $(OUT)/checkpoints $(OUT)/store && rm -f $(OUT)/output/failure && \
	echo "$(1): in $(if $(filter docker,$(RUNTIME)),Docker ($(IMAGE)),.venv on this machine); RUNTIME=docker|host decides"

.PHONY: serve
serve: $(if $(filter host,$(RUNTIME)),.venv/job)  ## answer at http://127.0.0.1:8080/invocations with the model in OUT, until Ctrl-C
	@$(if $(filter docker,$(RUNTIME)),$(compose) run --rm --service-ports serve $(FLAGS),SM_MODEL_DIR=$(OUT)/model SERVE_HOST=$(or $(SERVE_HOST),127.0.0.1) SAGEMAKER_BIND_TO_PORT=$(PORT) $(BIN)/python container/serve.py $(FLAGS))

PROGRAM_train    := train
PROGRAM_evaluate := evaluation

.PHONY: check-data data-given
check-data: data-given
	@test -d "$(DATA)" || { echo "DATA is not a folder, expected train/, eval/ and gt/ in it: $(DATA)" >&2; exit 1; }

data-given:
	@test -n "$(DATA)" || { echo "DATA is not set: draw some with 'make demo' and pass DATA=$(DEMO), or DATA=your/own/images" >&2; exit 1; }

# The folders that docker-compose.yml mounts, as the variables that the verbs read.
host = SM_CHANNEL_TRAIN=$(1)/train SM_CHANNEL_EVAL=$(1)/eval SM_CHANNEL_MODEL=$(OUT)/model SM_GROUND_TRUTH_DIR=$(1)/gt \
	SM_MODEL_DIR=$(OUT)/model SM_CHECKPOINT_DIR=$(OUT)/checkpoints SM_STORE_DIR=$(OUT)/store SM_OUTPUT_DIR=$(OUT)/output SM_OUTPUT_DATA_DIR=$(OUT)/output/data
for_compose = PORT=$(PORT) DATA='$(abspath $(DATA))' OUT='$(abspath $(OUT))' IMAGE=$(IMAGE) USER_ID=$$(id -u) GROUP_ID=$$(id -g)
compose = $(for_compose) docker compose

.PHONY: image
image:  ## build the image
	@# As one Docker manifest: SageMaker makes no model of an image in OCI's format, or with attestations.
	docker build --provenance=false --output type=docker $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) $(BUILD_ARGS) --tag $(IMAGE) .
	@docker image inspect --format '$(IMAGE): {{.Size}} bytes' $(IMAGE)

.PHONY: test-image
test-image: .venv/dev  ## run the tests inside real containers
	IMAGE=$(IMAGE) $(BIN)/pytest -m image

.PHONY: acceptance
acceptance: .venv/dev .venv-acceptance/sdk  ## run what submit.py asks for on the image, with SageMaker's own SDK
	IMAGE=$(IMAGE) $(BIN)/pytest tests/acceptance

.PHONY: chaos
chaos: .venv/dev  ## kill real runs 1,000 times (KILLS=100 for fewer) and compare every bit they leave
	CHAOS_KILLS=$(KILLS) $(BIN)/pytest -s -m chaos

.PHONY: shell
shell:  ## a shell inside the image
	docker run --rm --interactive --tty --entrypoint /bin/bash $(IMAGE)

# ---- the same job on SageMaker: DATA may be s3://bucket/prefix too, SUBMIT="..." holds flags of container/submit.py ----

submit = $(BIN)/python container/submit.py

.PHONY: push submit submit-infer submit-evaluate tune
push: .venv/job  ## push the image to ECR
	@$(submit) push --local-image $(IMAGE) $(SUBMIT)

submit: .venv/job data-given  ## train on SageMaker with DATA/train; prints the name of the job
	@$(submit) train --data $(DATA)/train $(SUBMIT) -- $(FLAGS)

submit-infer: .venv/job data-given  ## label DATA/eval on SageMaker with the model of the training job JOB
	@$(submit) transform --data $(DATA)/eval --model '$(JOB)' $(SUBMIT) $(FLAGS)

submit-evaluate: .venv/job data-given  ## compare the labels of the transform job JOB with DATA/gt, on SageMaker
	@$(submit) download '$(JOB)' --to $(OUT)/$(JOB) $(if $(wildcard $(DATA)/eval/info.csv),--info $(DATA)/eval/info.csv) >/dev/null
	@$(submit) evaluate --predictions $(OUT)/$(JOB) --ground-truth $(DATA)/gt $(SUBMIT) -- $(FLAGS)

tune: .venv/job data-given  ## search hyperparameters on SageMaker: SEARCH="lr=0.001:0.1:log,optimizer=SGD:AdamW"
	@$(submit) tune --data $(DATA)/train --search '$(SEARCH)' $(SUBMIT) -- $(FLAGS)

# ---- the project itself ----

.PHONY: fuzz
fuzz: .venv/dev  ## 100,000 damaged images, headers and connections against the server
	FUZZ_REQUESTS=100000 $(BIN)/pytest tests/server/test_fuzz.py

.PHONY: bench
bench: .venv/dev  ## training and inference against the usual pipeline and against their ceiling, as ratios
	GOMP_SPINCOUNT=10000 PYTHONPATH=code:container $(BIN)/python tests/benchmarks/bench_train.py $(ARGS)

.PHONY: bench-serve
bench-serve: .venv/dev  ## the server against the usual handler and against its ceiling, as ratios
	PYTHONPATH=code:container $(BIN)/python tests/benchmarks/bench_serve.py $(ARGS)

.PHONY: format
format: .venv/dev  ## put the code into the project's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/job: container/requirements.lock
	$(call install,$<,.venv,7 GB)

.venv/dev: container/requirements-dev.lock
	$(call install,$<,.venv,7 GB)
	@touch .venv/job

.venv-acceptance/sdk: container/requirements-acceptance.lock
	$(call install,$<,.venv-acceptance,1 GB)

define install
@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and none is on the PATH; install one, or give PYTHON=..." >&2; exit 1; }
@command -v cc >/dev/null || { echo "a C compiler is needed to build sagemaker-training; apt-get install gcc python3-dev" >&2; exit 1; }
@echo "installing $(1) into $(2) (about $(3), some minutes, once)"
@$(PYTHON) -m venv $(2)
@# The lock names everything, so pip has nothing to resolve: a release of tomorrow cannot break an install of today.
@$(2)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement $(1)
@touch $@
endef

.PHONY: lock
lock:  ## resolve container/*.in anew into lock files with hashes (needs uv)
	for name in requirements requirements-dev requirements-acceptance; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--no-emit-index-url --no-emit-find-links container/$$name.in --output-file container/$$name.lock; done

.PHONY: clean
clean:  ## remove what the verbs made here: outputs, demo data, caches; not .venv
	rm -rf $(OUT) $(DEMO) $(DEMO)-out .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
