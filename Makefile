# One command in a line; `make` alone lists them.
#
#   make train DATA=~/faces OUT=out EPOCHS=30 MODEL=resnet18     any option of a command works as NAME=value
#   make train DATA=~/faces ARGS="--epochs 30 --resize 224 224"  or as on a command line, split at spaces
#
# train, cv, infer, evaluate, audit and serve run in Docker if Docker and the image are there, else in .venv;
# RUNTIME=docker|host decides. Values reach the commands as environment variables, never as text of the shell, so any
# character is safe.

.DEFAULT_GOAL := help
SHELL         := /bin/bash
# A `*` in ARGS is a `*`, not a pattern of file names.
.SHELLFLAGS   := -fc

# Take what was given as it is: make would expand a `$` in it.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command,$(origin $(name))),$(name)))
from-environment = $(strip $(foreach name,$(1),$(if $(findstring environment,$(origin $(name))),$(name))))
FOUND := $(call from-environment,DATA OUT DEMO ARGS SUBMIT JOB SEARCH PRETRAINED WEIGHTS_CACHE)
$(foreach name,$(GIVEN) $(FOUND),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)
# Options count only if they are given to make: others use such names in the environment, too.
IGNORED := $(call from-environment,MODEL EPOCHS RECIPE RESUME FOLDS BATCH_SIZE LR)
unexport $(IGNORED)
warn-ignored = $(if $(IGNORED),echo "warning: options in the environment are ignored ($(IGNORED)); give them to make:" \
	"make $@ $(firstword $(IGNORED))=..." >&2)

DATA       ?=
DEMO       ?= demo
OUT        ?= $(if $(filter demo,$(MAKECMDGOALS)),$(DEMO)-out,out)
ARGS       ?=
SUBMIT     ?=
PRETRAINED ?=
JOB        ?=
SEARCH     ?=
IMAGE      ?= mask-classifier
RUNTIME    ?= $(shell docker image inspect $(IMAGE) >/dev/null 2>&1 && echo docker || echo host)
GPU        ?= $(shell docker info --format '{{.Runtimes}}' 2>/dev/null | grep -q nvidia && echo -gpu)
BASE_IMAGE ?=
BUILD_ARGS ?=
PORT       := $(or $(PORT),$(SAGEMAKER_BIND_TO_PORT),8080)
KILLS      ?= 1000
FROM       ?= 0

# Any other value would be the host in silence, or a service that compose does not know.
ifneq ($(filter train cv infer evaluate audit serve,$(MAKECMDGOALS)),)
ifneq ($(words $(RUNTIME)) $(filter-out docker host,$(RUNTIME)),1 )
$(error RUNTIME is '$(RUNTIME)', expected docker or host)
endif
ifneq ($(filter-out -gpu,$(GPU)),)
$(error GPU is '$(GPU)', expected -gpu, or nothing to use none)
endif
endif

define newline


endef
# Not every shell expands the tilde of DATA=~/faces, and Docker wants whole paths. The newline marks the start of a path.
home     = $(subst $(newline),,$(subst $(newline)~/,$(HOME)/,$(newline)$(1)))
absolute = $(if $(filter /% s3://%,$(firstword $(1))),$(1),$(if $(1),$(CURDIR)/$(1)))
folder   = $(if $(filter docker,$(RUNTIME)),$(call absolute,$(call home,$(1))),$(call home,$(1)))
override DATA := $(call folder,$(DATA))
override OUT  := $(call folder,$(OUT))
override DEMO := $(call home,$(DEMO))
override WEIGHTS_CACHE := $(call folder,$(WEIGHTS_CACHE))
override PRETRAINED := $(if $(filter auto none download,$(PRETRAINED)),$(PRETRAINED),$(call folder,$(PRETRAINED)))
export DATA DEMO OUT ARGS SUBMIT JOB SEARCH IMAGE PORT PRETRAINED RUNTIME WEIGHTS_CACHE

# Python 3.11 and 3.12 are what the lock files hold hashes for.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$python && break; done)
# Where they are installed; ENV=.venv-3.12 PYTHON=python3.12 keeps another Python apart.
ENV    ?= .venv
BIN    := $(ENV)/bin
VENV    = $(if $(filter host,$(RUNTIME)),$(ENV)/job)

# NAME=value becomes --name "$NAME", unless NAME is a variable of this file or one that the server and compose read.
# WORKERS=2 is --nproc-per-node 2, torchrun's name for the processes that train together.
OURS   := DATA OUT DEMO ARGS IMAGE RUNTIME GPU BASE_IMAGE BUILD_ARGS PYTHON ENV BIN SUBMIT JOB SEARCH PORT KILLS FROM
OURS   += BAD_INPUT SERVE_% SAGEMAKER_% AWS_% SHM_SIZE WEIGHTS_CACHE PRETRAINED
lower   = $(patsubst workers,nproc-per-node,$(shell echo '$(1)' | tr A-Z_ a-z-))
OPTIONS = $(foreach name,$(filter-out $(OURS),$(GIVEN)),--$(call lower,$(name)) "$$$(name)") $$ARGS
# In `make train infer evaluate EPOCHS=3` they are those of train.
FLAGS   = $(if $(filter-out train cv demo,$@),$(if $(filter train cv,$(MAKECMDGOALS)),,$(OPTIONS)),$(OPTIONS))

.PHONY: help
help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z -]+:.*## /{printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- with nothing but Python ----

.PHONY: demo
demo: override DATA := $(DEMO)
demo: $(ENV)/job  ## draw a small data set, train, infer, evaluate: no Docker, no GPU, no data, no cloud
	@$(BIN)/python code/demo.py --output-dir "$$DATA"
	@$(BIN)/python code/train.py --name demo --model TinyModel --head factored --augmentation StrongAugmentation \
		--optimizer AdamW --lr 0.003 --weight-decay 0.05 --schedule onecycle --epochs 30 --batch-size 32 \
		--resize 96 72 --resume never $(FLAGS)
	@$(BIN)/python code/inference.py
	@$(BIN)/python code/evaluation.py
	@echo "next: make train DATA=$$DEMO EPOCHS=40   (or DATA=your/own/images)"

# ARGS are options of pytest: `-k batch`, or `--cov`, which takes a minute more and is what CI gives to `make test`.
.PHONY: test test-fast test-slow test-networks test-gpu-path
test: $(ENV)/dev lint  ## run lint, types and the test suite
	$(BIN)/pytest -m "not image and not chaos and not slow and not networks" --ignore tests/gpu --numprocesses 2 \
		--dist loadfile $$ARGS

test-fast: $(ENV)/dev lint  ## run lint, types and the tests that need no training
	$(BIN)/pytest tests/project tests/runtime tests/data tests/report tests/jobs --numprocesses 2 --dist loadfile $$ARGS

test-slow: $(ENV)/dev  ## run the tests that take longer than the others together
	$(BIN)/pytest -m "slow and not image and not chaos" --ignore tests/gpu --numprocesses 2 --dist loadfile $$ARGS

test-networks: $(ENV)/dev  ## train, explain and export many networks of torchvision and timm; about half an hour
	$(BIN)/pytest -m networks --numprocesses 2 --dist loadfile $$ARGS

test-gpu-path: $(ENV)/dev  ## run the code for GPUs on a stand-in for one, every classifier too; needs no GPU
	$(BIN)/pytest tests/gpu --numprocesses 2 --dist loadfile $$ARGS

.PHONY: lint
lint: $(ENV)/dev  ## check style, types and the Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

# ---- the job, in Docker or here ----

ifeq ($(RUNTIME),docker)
train    = docker compose run --rm train$(GPU)
cv       = docker compose run --rm cv$(GPU)
infer    = GPU=$(GPU) container/local/transform.sh
evaluate = docker compose run --rm evaluate
audit    = docker compose run --rm audit
serve    = docker compose run --rm --service-ports serve
else
train    = $(BIN)/python code/train.py
cv       = $(BIN)/python code/cv.py
infer    = $(BIN)/python container/transform.py
evaluate = $(BIN)/python code/evaluation.py
audit    = $(BIN)/python code/audit.py
serve    = $(BIN)/python container/serve.py
endif

# The folders of the contract; docker-compose.yml mounts the same ones.
demo train cv infer evaluate audit serve: export SM_CHANNEL_TRAIN   = $(DATA)/train
demo train cv infer evaluate serve: export SM_CHANNEL_EVAL = $(DATA)/eval
demo train cv infer evaluate audit serve: export SM_GROUND_TRUTH_DIR = $(DATA)/gt
demo train cv infer evaluate audit serve: export SM_MODEL_DIR       = $(OUT)/model
demo train cv infer evaluate audit serve: export SM_CHANNEL_MODEL   = $(OUT)/model
demo train cv infer evaluate audit serve: export SM_CHECKPOINT_DIR  = $(OUT)/checkpoints
demo train cv infer evaluate audit serve: export SM_STORE_DIR       = $(OUT)/store
demo train cv infer evaluate audit serve: export SM_OUTPUT_DIR      = $(OUT)/output
demo train cv infer evaluate audit serve: export SM_OUTPUT_DATA_DIR = $(OUT)/output/data
audit: export SM_AUDIT_DIR = $(OUT)/audit
# The optional channels that are there; "$$@" is then --pretrained, if that is given.
with-channels = GOAL=$@; . container/local/channels.sh;
# The folders of DATA that are there, for the audit; in Docker it finds them itself, as DATA is mounted whole.
with-folders = for part in VALIDATION EVAL LABELS; do folder="$$DATA/$$(echo $$part | tr A-Z a-z)"; \
	if [ -d "$$folder" ]; then export "SM_CHANNEL_$$part=$$folder"; else unset "SM_CHANNEL_$$part"; fi; done;
# Inside a container the files belong to whoever runs make.
export USER_ID  := $(shell id -u)
export GROUP_ID := $(shell id -g)

.PHONY: train cv infer evaluate audit
train cv infer evaluate audit: check-data $(VENV)  ## run the command on DATA; results are in OUT
	@$(warn-ignored)
	@echo "$@: in $(if $(filter docker,$(RUNTIME)),Docker ($(IMAGE)),.venv on this machine); RUNTIME=docker|host decides"
	@mkdir -p "$$OUT/model" "$$OUT/output/data" "$$OUT/checkpoints" "$$OUT/store" $(if $(filter audit,$@),"$$OUT/audit")
	@rm -f "$$OUT/output/failure"
	@$(if $(filter train cv,$@),$(with-channels))$(if $(filter audit,$@),$(with-folders)) $($@) "$$@" \
		$(if $(filter train cv,$@),--recipe auto) $(FLAGS)

.PHONY: weights
weights: $(ENV)/job  ## fetch the published weights of MODEL, such as resnet18 or timm/convnext_tiny, into a cache, once
	@$(warn-ignored)
	@$(BIN)/python code/weights.py $(if $(filter train cv,$(MAKECMDGOALS)),--model "$$MODEL",$(OPTIONS))

.PHONY: serve
serve: export SERVE_HOST ?= 127.0.0.1
serve: export SAGEMAKER_BIND_TO_PORT = $(PORT)
serve: $(VENV)  ## answer at http://127.0.0.1:8080/invocations with the model in OUT, until Ctrl-C
	@$(serve) $(FLAGS)

.PHONY: export
export: export SM_MODEL_DIR = $(OUT)/model
export: export SM_GOLDEN_DIR = $(OUT)/golden
export: $(ENV)/export  ## write the model in OUT as model.onnx, and a golden pack to check other programs with
	@$(BIN)/python code/export.py $(FLAGS)

.PHONY: check-data data-given
check-data: data-given
	@test -d "$$DATA" || { echo "DATA is not a folder, expected train/, eval/ and gt/ in it: $$DATA" >&2; exit 1; }

data-given:
	@test -n "$$DATA" || { exec >&2; echo "DATA is not set: draw some with 'make demo' and pass DATA=$$DEMO," \
		"or pass DATA=your/own/images"; exit 1; }

# ---- the image ----

.PHONY: image
image:  ## build the image
	@# One Docker manifest: SageMaker does not accept OCI manifests or attestations.
	docker build --provenance=false --output type=docker $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) \
		--build-arg VERSION=$(VERSION) $(BUILD_ARGS) --tag $(IMAGE) .
	@docker image inspect --format '$(IMAGE): {{.Size}} bytes' $(IMAGE)

.PHONY: image-lite
image-lite:  ## build the image that serves model.onnx on CPUs, without torch
	docker build --provenance=false --output type=docker --target lite $(if $(BASE_IMAGE),--build-arg \
		LITE_BASE_IMAGE=$(BASE_IMAGE)) --build-arg VERSION=$(VERSION) $(BUILD_ARGS) --tag $(IMAGE)-lite .
	@docker image inspect --format '$(IMAGE)-lite: {{.Size}} bytes' $(IMAGE)-lite

# pyproject.toml alone holds the version.
export VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: test-image
test-image: $(ENV)/dev  ## run the tests inside real containers
	$(BIN)/pytest -m image $$ARGS

.PHONY: acceptance
acceptance: $(ENV)/dev .venv-acceptance/sdk  ## run what submit.py asks for on the image, with SageMaker's own SDK
	$(BIN)/pytest tests/acceptance $$ARGS

.PHONY: shell
shell:  ## a shell inside the image
	docker run --rm --interactive --tty --entrypoint /bin/bash $(IMAGE)

# ---- the same job on SageMaker: DATA may be s3://bucket/prefix too, SUBMIT="..." holds options of submit.py ----

submit = $(BIN)/python container/submit.py
# A word is a hyperparameter, anything else is uploaded.
pretrained-channel = $(if $(filter-out auto none download,$(PRETRAINED)),set -- "$$@" --pretrained-data "$$PRETRAINED";)
pretrained-option  = $(if $(filter auto none download,$(PRETRAINED)),--pretrained "$$PRETRAINED")

.PHONY: push submit submit-infer submit-evaluate tune
push: $(ENV)/job  ## push the image to ECR
	@$(submit) push --local-image "$$IMAGE" $$SUBMIT

submit: $(ENV)/job data-given  ## train on SageMaker with DATA/train; prints the name of the job
	@$(warn-ignored)
	@test ! -d "$$DATA/validation" || set -- --validation-data "$$DATA/validation"; \
		$(pretrained-channel) $(submit) train --data "$$DATA/train" "$$@" $$SUBMIT -- $(pretrained-option) $(FLAGS)

submit-infer: $(ENV)/job data-given  ## label DATA/eval on SageMaker with the model of the training job JOB
	@$(submit) transform --data "$$DATA/eval" --model "$$JOB" $$SUBMIT $(FLAGS)

submit-evaluate: $(ENV)/job data-given  ## compare the predictions of the transform job JOB with DATA/gt, on SageMaker
	@test ! -f "$$DATA/eval/info.csv" || set -- --info "$$DATA/eval/info.csv"; \
		$(submit) download "$$JOB" --to "$$OUT/$$JOB" "$$@" >/dev/null
	@$(submit) evaluate --predictions "$$OUT/$$JOB" --ground-truth "$$DATA/gt" $$SUBMIT -- $(FLAGS)

tune: $(ENV)/job data-given  ## search hyperparameters on SageMaker: SEARCH="lr=0.001:0.1:log,optimizer=SGD:AdamW"
	@$(warn-ignored)
	@test ! -d "$$DATA/validation" || set -- --validation-data "$$DATA/validation"; \
		$(pretrained-channel) $(submit) tune --data "$$DATA/train" "$$@" --search "$$SEARCH" $$SUBMIT -- \
		$(pretrained-option) $(FLAGS)

# ---- the project itself ----

.PHONY: chaos fuzz
chaos: $(ENV)/dev  ## kill real runs 1,000 times (KILLS=250 FROM=63: a part of them) and compare every bit they leave
	CHAOS_KILLS=$(KILLS) CHAOS_FROM=$(FROM) $(BIN)/pytest -s -m chaos $$ARGS

fuzz: $(ENV)/dev  ## send 100,000 damaged images, headers and connections to the server
	FUZZ_REQUESTS=100000 $(BIN)/pytest tests/server/test_fuzz.py $$ARGS

.PHONY: bench bench-serve
bench: $(ENV)/dev  ## compare training and inference with the usual pipeline and with their ceiling, as ratios
	PYTHONPATH=code:container GOMP_SPINCOUNT=10000 $(BIN)/python tests/benchmarks/bench_train.py $$ARGS

bench-serve: $(ENV)/dev  ## compare the server with each engine, the usual handler and LitServe (from PYTHONPATH), as ratios
	PYTHONPATH=code:container$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python tests/benchmarks/bench_serve.py $$ARGS

# A GPU machine has a torch of its own: this installs nothing, and takes .venv or the first Python that has torch.
gpu_python = $(or $(wildcard $(BIN)/python),$(shell for python in $(PYTHON) python3 python python3.12 python3.11; do \
	$$python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null \
		&& echo $$python && break; done))

.PHONY: gpu-check
gpu-check:  ## check the GPU of this machine: PART=right or PART=fast (4 minutes each), or all (25 minutes)
	@test -n "$(gpu_python)" || { echo "no Python with torch is on the PATH; give PYTHON=..." >&2; exit 2; }
	@$(gpu_python) tests/benchmarks/gpu_check.py $${PART:-all} --output "$$OUT/gpu-check" $$ARGS

.PHONY: format readme-image
format: $(ENV)/dev  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

readme-image: $(ENV)/job  ## draw the image of README.md
	$(BIN)/python code/demo.py --contact-sheet .github/faces.jpg

$(ENV)/job: container/requirements.lock
	$(call install,$<,$(ENV),9 GB)

$(ENV)/export: container/requirements-export.lock
	$(call install,$<,$(ENV),9 GB)
	@touch $(ENV)/job

$(ENV)/dev: container/requirements-dev.lock
	$(call install,$<,$(ENV),9 GB)
	@touch $(ENV)/job $(ENV)/export

.venv-acceptance/sdk: container/requirements-acceptance.lock
	$(call install,$<,.venv-acceptance,1 GB)

define install
@test -n "$(PYTHON)" || { exec >&2; echo "Python 3.11 or 3.12 is needed and none is on the PATH;" \
	"install one, or give PYTHON=..."; exit 1; }
@command -v cc >/dev/null || { exec >&2; echo "a C compiler is needed to build sagemaker-training;" \
	"apt-get install gcc python3-dev"; exit 1; }
@echo "installing $(1) into $(2) (about $(3), some minutes, once)"
@$(PYTHON) -m venv $(2)
@# The lock names everything, so pip has nothing to resolve: a release of tomorrow cannot break an install of today.
@$(2)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement $(1)
@touch $@
endef

.PHONY: lock
lock:  ## resolve container/*.in into lock files with hashes (needs uv)
	for name in requirements requirements-lite requirements-export requirements-dev requirements-acceptance; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--no-emit-index-url --no-emit-find-links container/$$name.in --output-file container/$$name.lock; done

.PHONY: clean
clean:  ## remove what the commands made here: outputs, demo data, caches; not .venv
	rm -rf -- "$$OUT" "$$DEMO" "$$DEMO-out" .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
