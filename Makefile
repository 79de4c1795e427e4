# What a person runs. Everything works with Python 3.11+ and make alone; `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export MLOPS_HOME ?= $(CURDIR)/.mlops
export DAGSTER_HOME ?= $(MLOPS_HOME)/dagster
export MLFLOW_DISABLE_TELEMETRY := true
# Byte code makes the code location load in 2 s instead of 5
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo drift-demo dev stop check doctor test test-long test-faults test-pages test-gpu test-cluster test-cluster-long images test-images \
  test-images-whole platform lint format bench lock schema clean

help: ## list what can be run
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# A shared MLflow server has a database of its own
DATABASES := $(DAGSTER_HOME)/dagster.yaml $(if $(MLFLOW_TRACKING_URI),,$(MLOPS_HOME)/mlflow/mlflow.db)
setup: $(READY) $(DATABASES) ## install everything into .venv
$(READY): requirements.lock pyproject.toml
	@echo "== Setting up $(VENV): about 7 GB, one to three minutes on the first run"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

# Its databases are made here: two runs that find none make them at once, and one of them fails
STORAGES = import dagster as dg; i = dg.DagsterInstance.get(); i.get_runs(limit=1), i.all_instigator_state(), i.dispose()
$(DAGSTER_HOME)/dagster.yaml: | $(READY)
	@mkdir -p $(DAGSTER_HOME)
	@printf 'telemetry:\n  enabled: false\nnux:\n  enabled: false\n' > $@
	@$(BIN)/python -c '$(STORAGES)'

# The first start of MLflow would take seconds longer
$(MLOPS_HOME)/mlflow/mlflow.db: | $(READY)
	@$(BIN)/python -m resources.tracking.mlflow_database

demo: setup ## real flights in, a served prediction out
	@$(BIN)/python -m mlops_assets.demo

drift-demo: setup ## half a year of real flights in minutes: drift, a retrain, a roll-out by proof
	@$(BIN)/python -m mlops_assets.drift_demo

dev: setup ## the Dagster UI on http://127.0.0.1:3000
	@$(BIN)/python -m mlops_assets.cli servers start
	@echo "== Dagster UI on http://127.0.0.1:3000 (Ctrl+C ends it)"
	@$(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

stop: ## end the model server, MLflow and the exporter
	@if test -x $(BIN)/python; then $(BIN)/python -m mlops_assets.cli servers stop; fi

test: setup ## all tests that need no cluster
	@echo "== Tests: 15 to 20 minutes on two cores, and under ten on four"
	@$(BIN)/python -m pytest -n auto --maxprocesses 6 -m "not faults and not cluster and not pages and not long"

test-long: setup ## of those what takes longer than CI has: what waits long, and variations
	@$(BIN)/python -m pytest -n auto --maxprocesses 6 -m "long and not cluster"

test-faults: setup ## long kill campaigns
	@echo "== Kill campaigns, lives of models, thousands of tables: about half an hour"
	@$(BIN)/python -m pytest -n auto --maxprocesses 6 --dist worksteal -m faults

test-pages: setup ## what README, tutorial and operations say, done in a fresh copy
	@echo "== Pages: about five minutes"
	@$(BIN)/python -m pytest -m pages

test-cluster: setup ## tests on the Kubernetes cluster of KUBECONFIG; they deploy and delete namespace mlops-test
	@echo "== Cluster tests: about half an hour"
	@$(BIN)/python -m pytest -m "cluster and not long" --durations=15

test-cluster-long: setup ## of those what takes longer than CI has: a silent node, a long shortage, queues
	@$(BIN)/python -m pytest -m "cluster and long"

test-gpu: ## on a GPU, with any Python that has torch, numpy, safetensors, pydantic and pytest: PYTHON=python3 make test-gpu
	@$(PYTHON) -m tests.gpu

CONTAINER ?= docker
# Times in an image are those of the last change of its packages: the same commit gives the same image, and a commit that
# changes code alone leaves the layers of packages as they are in registries and on nodes
EPOCH = $(shell git log -1 --format=%ct -- Dockerfile images 2>/dev/null || echo 0)
BUILD = SOURCE_DATE_EPOCH=$(EPOCH) $(CONTAINER) build $(if $(findstring podman,$(CONTAINER)),--timestamp $(EPOCH)) $(BUILD_FLAGS) \
  --build-arg REVISION=$$(git describe --always --abbrev=40 --exclude='*' --dirty=+changes 2>/dev/null || echo unknown)
images: ## the images mlops-platform, mlops-trainer and mlops-predictor (CONTAINER=podman to build with podman)
	$(BUILD) --target platform --tag localhost/mlops-platform:latest .
	$(BUILD) --target trainer --tag localhost/mlops-trainer:latest .
	$(BUILD) --target predictor --tag localhost/mlops-predictor:latest .

test-images: ## the images of the cluster tests, for nodes that share this machine's disk
	$(BUILD) --target predictor --tag localhost/mlops-predictor:test .
	$(BUILD) -f tests/cluster/images/Dockerfile --target platform --tag localhost/mlops-platform:test .
	$(BUILD) -f tests/cluster/images/Dockerfile --target trainer --tag localhost/mlops-trainer:test .
	$(BUILD) -f tests/cluster/images/Dockerfile --target postgres --tag localhost/mlops-postgres:test .
	$(CONTAINER) tag localhost/mlops-platform:test localhost/mlops-moto:test

test-images-whole: images ## the same from the production images, for any nodes; REGISTRY names where they will be pushed
	@test -n "$(REGISTRY)" || { echo "REGISTRY=registry.example.com/folder is missing"; exit 2; }
	$(CONTAINER) tag localhost/mlops-predictor:latest $(REGISTRY)/mlops-predictor:test
	$(BUILD) -f tests/cluster/images/Dockerfile --target whole --tag $(REGISTRY)/mlops-platform:test .
	$(BUILD) -f tests/cluster/images/Dockerfile --target whole-trainer --tag $(REGISTRY)/mlops-trainer:test .
	$(BUILD) -f tests/cluster/images/Dockerfile --target whole-postgres --tag $(REGISTRY)/mlops-postgres:test .
	$(CONTAINER) tag $(REGISTRY)/mlops-platform:test $(REGISTRY)/mlops-moto:test

platform: setup ## install or upgrade all that an environment's cluster needs: ENV=staging (RENDER=folder: look at it, install nothing)
	@$(BIN)/python k8s/install.py $(ENV) $(if $(RENDER),--render "$(RENDER)")

check: setup ## all models' YAMLs, every problem with file and line
	@$(BIN)/python -m mlops_assets.cli check

doctor: setup ## whether this machine, and what it talks to, can be used
	@$(BIN)/python -m mlops_assets.cli doctor

lint: setup ## style, types, import contracts and Dockerfiles
	@echo "== ruff, pyright, import-linter, hadolint"
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/pyright && $(BIN)/lint-imports && \
	  $(BIN)/hadolint Dockerfile tests/cluster/images/Dockerfile

format: setup ## put the code into shape
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: setup ## measure every promise beside its anchor, into bench/results.json
	@$(BIN)/python -m bench

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header
# One resolution, that of requirements.lock. The platform's image has all but torch and what torch alone needs; the trainer's has
# that on top, without triton (1 GB), which is for torch.compile, and nothing here uses that.
PLATFORM_HAS = sed -n 's/^\([^ ]*\)==.*/--no-emit-package \1/p' images/platform.lock
lock: setup ## resolve the dependencies again
	@$(COMPILE) \
	  --group demo --group dev pyproject.toml -o requirements.lock
	@$(COMPILE) --no-annotate \
	  -c requirements.lock --excludes <(echo torch) pyproject.toml -o images/platform.lock
	@$(COMPILE) --no-annotate \
	  --no-emit-package triton $$($(PLATFORM_HAS)) -c requirements.lock <(echo torch) -o images/trainer.lock
	@$(COMPILE) --no-annotate \
	  -c requirements.lock --group predictor -o images/predictor.lock
	@$(COMPILE) --no-annotate \
	  -c requirements.lock --group stand-ins -o tests/cluster/images/stand-ins.lock

schema: setup ## write docs/model.schema.json for editors, docs/reference.md, docs/cli.md and the dashboards
	@$(BIN)/python -m mlops_assets.cli schema docs/model.schema.json
	@$(BIN)/python -m mlops_assets.spec.reference docs/reference.md
	@$(BIN)/python -m mlops_assets.cli.page docs/cli.md
	@$(BIN)/python -m k8s.dashboards

clean: stop ## remove everything that was made here
	@rm -rf $(VENV) $(MLOPS_HOME) .pytest_cache .ruff_cache .hypothesis
