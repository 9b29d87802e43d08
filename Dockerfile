#   BASE_IMAGE                Debian 12 or Ubuntu 24.04, with NVIDIA's compatibility libraries or without
#       |
#     base                    + python3
#       |         \
#     builder      \          + compiler; /opt/venv from the hash lock, trimmed and compiled to bytecode
#       |           \
#       +--/opt/venv--> job   + /opt/venv, code/ and container/: what runs on SageMaker and on a laptop
#                        |
#                       test  + pytest, ruff, mypy: `docker compose run --rm test`, never shipped
#
#   LITE_BASE_IMAGE           Debian 12 or Ubuntu 24.04, slim, for x86-64 or ARM
#       |
#     lite-base               + python3
#       |         \
#     lite-builder \          + /opt/venv from requirements-lite.lock: OpenVINO, no torch, no compiler
#       |           \
#       +--/opt/venv--> lite   + what serves a model.onnx: `docker build --target lite .`
#
# `docker build .` gives the job. Nothing in here names a package index: pip and apt use those of the base image.

# `base` carries the driver API of CUDA 12.8 for older hosts and no CUDA library twice: torch's wheels bring their own. For a release, pin it: --build-arg BASE_IMAGE=nvidia/cuda@sha256:... of
# `docker buildx imagetools inspect nvidia/cuda:12.8.1-base-ubuntu24.04`.
ARG BASE_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04
ARG LITE_BASE_IMAGE=debian:12-slim


FROM ${BASE_IMAGE} AS base
ENV LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# From /usr/local/cuda/compat NVIDIA's container toolkit would put that driver API in front of the host's driver, whatever
# the GPU, and it works with data-centre GPUs only. Here container/cuda_driver.py alone finds it, and tests it before it
# is used. Debian has none.
RUN for folder in /usr/local/cuda*/compat; do \
        if [ -d "$folder" ]; then mv "$folder" /opt/cuda-compat; fi; \
    done
# Versions come from the distribution of the base image, so that one Dockerfile serves both.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*


FROM base AS builder
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_COMPILE=1
COPY container/requirements.lock /tmp/
# sagemaker-training and inotify_simple come as source only. They are built with the locked setuptools, which is why
# that goes first: an isolated build would fetch one that no hash speaks for.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/venv \
 && sed -n '/^\(pip\|setuptools\)==/,/[^\\]$/p' /tmp/requirements.lock >/tmp/build.lock \
 && pip install --require-hashes --no-deps --requirement /tmp/build.lock \
 && pip install --require-hashes --no-deps --no-build-isolation --requirement /tmp/requirements.lock
# What a job never reads: static archives, headers, the packages' own tests, and the multi-GPU solver that nothing
# links. Triton is the compiler behind torch.compile, which needs a C compiler besides and which no command uses.
WORKDIR /opt/venv/lib
RUN du -sm /opt/venv \
 && find . -name '*.a' -delete \
 && find . -name 'libcusolverMg.so*' -delete \
 && find . -path '*/torch/bin/protoc*' -delete \
 && find . -type d \( -path '*/site-packages/triton' -o -name include \) -prune -exec rm -rf {} + \
 && find . -type d -name tests -prune -exec rm -rf {} + \
 && python -m compileall -q -j 0 . \
 && du -sm /opt/venv


FROM base AS job
# NVIDIA_DISABLE_REQUIRE: a driver that is too old is answered by container/cuda_driver.py with a sentence, not by a
# container that never starts. Caches are written to /tmp, so that the root can be read-only and the user anybody;
# the name that torch wants of a user without one is set by runtime/process.py.
ENV PATH=/opt/job/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/job/code:/opt/job/container \
    SAGEMAKER_TRAINING_MODULE=launch:main \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_DISABLE_REQUIRE=1 \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/cache/matplotlib
COPY --from=builder /opt/venv /opt/venv
WORKDIR /opt/job
COPY pyproject.toml ./
COPY code/ code/
COPY container/ container/
# Each command is a program on PATH, before the `train` of sagemaker-training. /opt/ml belongs to SageMaker; only
# /opt/ml/code must exist, because importing sagemaker_training creates it and the root may be read-only.
RUN chmod -R a+rX . \
 && chmod 755 container/launch.py \
 && mkdir -p bin /opt/ml/code \
 && for command in train cv infer evaluate audit serve; do ln -s ../container/launch.py "bin/$command"; done \
 && python -m compileall -q code container
# `make image` passes the version of pyproject.toml.
ARG VERSION=unknown
LABEL org.opencontainers.image.title="mask-classifier" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.description="Trains, infers, evaluates and serves image classifiers, on a laptop and on SageMaker" \
      org.opencontainers.image.licenses="MIT" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"
# No USER: SageMaker creates /opt/ml for root and expects containers to run as root. Every command runs as any other
# user as well, which docker-compose.yml does and tests/image/test_container.py checks.
ENTRYPOINT ["/opt/venv/bin/python", "/opt/job/container/launch.py"]
CMD ["train"]


FROM ${LITE_BASE_IMAGE} AS lite-base
ENV LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*


FROM lite-base AS lite-builder
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_COMPILE=1
COPY container/requirements-lite.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/venv \
 && pip install --require-hashes --no-deps --only-binary :all: --requirement /tmp/requirements-lite.lock \
 && pip uninstall --yes setuptools pip
# What a server on a CPU never reads: plugins for Intel's GPUs and NPUs, and readers of other formats than ONNX.
WORKDIR /opt/venv/lib
RUN find . -name 'libopenvino_*' ! -name '*cpu_plugin*' ! -name '*onnx_frontend*' ! -name '*ir_frontend*' -delete \
 && find . -path '*/openvino/libs/cache.json' -delete \
 && find . -type d \( -name include -o -name tests \) -prune -exec rm -rf {} + \
 && python -m compileall -q -j 0 .


FROM lite-base AS lite
ENV PATH=/opt/job/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/job/code:/opt/job/container \
    SERVE_ENGINE=openvino \
    HOME=/tmp
COPY --from=lite-builder /opt/venv /opt/venv
WORKDIR /opt/job
COPY pyproject.toml ./
COPY code/ code/
COPY container/ container/
# It has one command; the others need packages that are not here.
RUN chmod -R a+rX . \
 && chmod 755 container/launch.py \
 && rm code/audit.py code/cv.py code/evaluation.py code/inference.py code/train.py \
 && mkdir -p bin /opt/ml \
 && ln -s ../container/launch.py bin/serve \
 && python -m compileall -q code container
ARG VERSION=unknown
LABEL org.opencontainers.image.title="mask-classifier-lite" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.description="Serves image classifiers exported to ONNX on CPUs, without torch" \
      org.opencontainers.image.licenses="MIT" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"
# No USER, as in the job: SageMaker runs containers as root, and any other user works, too.
ENTRYPOINT ["/opt/venv/bin/python", "/opt/job/container/launch.py"]
CMD ["serve"]


FROM job AS test
COPY container/requirements-dev.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --no-deps --requirement /tmp/requirements-dev.lock
ENTRYPOINT ["python", "-m", "pytest", "-p", "no:cacheprovider"]
CMD ["-m", "not image and not chaos and not slow and not networks"]


FROM job
