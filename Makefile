# `make` lists the targets. Variables: PYTHON=python3.12 (for setup), ARGS="--epochs 5" (for train), LOGDIR and PORT
# (for tensorboard). For image, all optional: EXTRA=gpu, IMAGE=name:tag, BASE_IMAGE=name:tag, PIP_CONF=pip.conf (index,
# proxy) and CA_BUNDLE=file.pem (its certificates), both mounted as secrets; PIP_INDEX_URL=https://... (no password: the
# build cache keeps it); ENGINE=podman, ENGINE_FLAGS="--network host".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
LOGDIR ?= runs
PORT ?= 6006

.PHONY: help setup train test test-faults test-image k8s-validate lint data tensorboard image lock bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.complete ## Make .venv with the locked packages; does nothing when it is up to date

.venv/.complete: pyproject.toml requirements.lock requirements-dev.lock .ci/setup.sh
	@.ci/setup.sh

train: setup ## Train on Fashion-MNIST; ARGS are passed on
	$(BIN)/python jobs/train.py fashion-mnist $(ARGS)

data: setup ## Prepare both data sets
	$(BIN)/python jobs/prepare_data.py fashion-mnist california-housing

tensorboard: setup ## Show the runs on http://localhost:6006
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/tensorboard --host 127.0.0.1 --port $(PORT) --logdir $(LOGDIR)

lint: setup ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

# Two processes share the files of tests; those with Ray run one at a time, for each starts workers for both cores.
test: lint ## Check everything, then run the tests
	@.ci/setup.sh --test-tools
	$(BIN)/pytest -m "not slow and not image" --ignore tests/distributed --numprocesses 2 --dist loadfile $(ARGS)
	$(BIN)/pytest -m "not slow and not image" tests/distributed $(ARGS)

test-faults: setup ## Run what `make test` leaves out: the rest of the fault matrix, and slow variants
	$(BIN)/pytest -m slow $(ARGS)

bench: setup ## Compare annlib's speed with what benchmarks.json records; ARGS=--record records it
	$(BIN)/python jobs/benchmark.py --compare benchmarks.json --rounds 3 $(ARGS)

k8s-validate: setup ## Check the Kubernetes manifests alone
	@.ci/setup.sh --test-tools
	$(BIN)/pytest tests/manifests $(ARGS)

image: ## Build the image annlib:VERSION with docker, podman or buildah
	@.ci/build-image.sh

test-image: setup ## Build the image with podman and run it as pods would, as root
	@.ci/setup.sh --image-tools
	$(BIN)/pytest -m image $(ARGS)

# Several files, so that the image installs requirements.lock and gets no development tools. requirements-dev.lock holds
# the dev extra alone, requirements-gpu.lock what the gpu extra adds; both are resolved within the versions of
# requirements.lock. checkov, which lints the manifests, excludes some of these versions, so it has a file and an
# environment of its own. `fewest` picks the same versions for Python 3.11 to 3.13 wherever it can. Versions stay unless
# the requirements exclude them; ARGS=--upgrade takes the newest.
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-emit-index-url --no-emit-find-links $(ARGS)

lock: setup ## Resolve pyproject.toml again into the lock files
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(BIN)/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' \
		| $(LOCK) - --constraints requirements.lock --output-file requirements-dev.lock
	$(LOCK) pyproject.toml --extra gpu --constraints requirements.lock --output-file requirements-gpu.lock \
		$$(sed -n 's/^\([a-z][^=]*\)==.*/--no-emit-package \1/p' requirements.lock)
	echo "checkov>=3.3" | $(LOCK) - --output-file requirements-checkov.lock

clean: ## Remove .venv and caches; never runs/
	rm -rf .venv .venv-checkov build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
