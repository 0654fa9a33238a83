# Everything a newcomer types. Python 3.11, git and make are all it needs.
PYTHON ?= python3.11
# A GPU machine names its own build: make setup TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"
TORCH ?=
# Whose MLflow store `make ui` shows, and whose graph `make deploy` deploys: make ui WORKSPACE=demo
WORKSPACE ?= .
# Where the Prefect server is; on loopback unless set otherwise.
PREFECT_PORT ?= 4200

VENV := .venv
READY := $(VENV)/.ready
CPU_WHEELS := https://download.pytorch.org/whl/cpu
# The locked torchvision is PyPI's, built for CUDA. Where PyTorch's own index answers, its CPU build replaces it.
TORCHVISION = torchvision==$(shell sed -n 's/^torchvision==\([0-9.]*\).*/\1/p' requirements.lock)+cpu

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint audit fetch repro flow evidence protocols server deploy worker ui lock clean

help: ## Say what there is
	@printf '\nHSCC: compress a convolutional network, with the evidence.\n\n'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  \033[36mmake %-9s\033[0m %s\n", $$1, $$2 }' Makefile
	@printf '\nStart with: make demo\n\n'

setup: $(READY) ## Make the environment .venv from the hashed locks (2 to 3 minutes)

$(READY): pyproject.toml setup.py requirements.lock requirements-torch.lock $(wildcard hscc/engine/native/*/*)
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not here; install Python 3.11 or name it: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch$(if $(TORCH),: $(TORCH), (CPU build))"
	@$(if $(TORCH),pip install -q $(TORCH),pip install -qq --require-hashes --no-deps --retries 1 --extra-index-url $(CPU_WHEELS) -r requirements-torch.lock)
	@echo "Installing $$(grep -c == requirements.lock) locked packages, a minute or two"
	@pip install -qq --require-hashes --no-deps -r requirements.lock
	@pip install -qq --no-deps --no-build-isolation -e .
	@$(if $(TORCH),true,pip install -qq --no-deps --retries 0 --timeout 10 --index-url $(CPU_WHEELS) $(TORCHVISION) 2>/dev/null) || true
	@python hscc/networks/torchvision_operators.py
	@pip check
	@touch $@

demo: $(READY) ## Run the whole graph on drawn images, in the folder demo/ (4 minutes)
	@python -m flows.demo

test: $(READY) ## Run all tests
	OMP_NUM_THREADS=1 python -m pytest -q -n 3 --dist loadscope

lint: $(READY) ## Check style, types and the direction of imports
	ruff check .
	ruff format --check .
	mypy
	lint-imports

AUDIT := .hscc/audit
# What pip-audit asks for each package; where this is not answered, nothing is.
ASKED = https://pypi.org/pypi/numpy/$(shell sed -n 's/^numpy==\([0-9.]*\).*/\1/p' requirements.lock)/json
audit: ## Look the locked packages up in the database of known vulnerabilities (needs the network)
	@$(PYTHON) -c "import urllib.request as web; web.urlopen('$(ASKED)', timeout=20)" 2>/dev/null || { echo "error: make audit asks pypi.org about the locked packages and gets no answer; run it where the network reaches it." >&2; exit 1; }
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install -qq pip-audit==2.10.1; }
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		-r requirements.lock -r requirements-torch.lock

fetch: $(READY) ## Bring the MRI data set, proven by its hash (HSCC_DATA_SOURCE names a folder or archive)
	@hscc fetch

repro: fetch ## Fetch the MRI data set and run the graph on it
	@hscc check
	@python -m flows.repro

flow: $(READY) ## Run the same graph under Prefect
	@python -m flows.pipeline

evidence: $(READY) ## Run the sweep that docs/results.md is printed from: methods, seeds, controls (many hours)
	@python -m flows.sweeps evidence

protocols: $(READY) ## Run the paper's methods under the other splits too, as DVC experiments (hours)
	@python -m flows.protocols

server: export PREFECT_HOME := $(CURDIR)/.prefect
# In memory, the default, a killed server forgets who holds the one place of a deployment, and it stays taken for ever.
server: export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE := prefect.server.concurrency.lease_storage.filesystem
server: $(READY) ## Start the Prefect server, UI on http://127.0.0.1:4200
	@prefect server start --host 127.0.0.1 --port $(PREFECT_PORT)

deploy worker: export PREFECT_API_URL ?= http://127.0.0.1:$(PREFECT_PORT)/api
deploy worker: export PREFECT_HOME := $(CURDIR)/.prefect
deploy: $(READY) ## Put the deployments of prefect.yaml on the server (nightly, sweep, evidence, validate-data, promote)
	@prefect work-pool inspect hscc >/dev/null 2>&1 || prefect work-pool create hscc --type process
	@cd $(WORKSPACE) && prefect --no-prompt deploy --prefect-file $(CURDIR)/prefect.yaml --all

worker: $(READY) ## Start a worker that runs them
	@prefect worker start --pool hscc --type process

ui: $(READY) ## Show runs and models in the browser, on http://127.0.0.1:5000
	@cd $(WORKSPACE) && mlflow ui --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri sqlite:///mlflow.db

lock: $(READY) ## Resolve pyproject.toml into requirements.lock anew
	pip-compile --upgrade --quiet --strip-extras --generate-hashes --extra dev --unsafe-package torch --unsafe-package pip --unsafe-package hscc \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements.lock pyproject.toml

clean: ## Remove the environment, the demo and caches; data, outputs and records stay
	rm -rf $(VENV) demo .hscc .prefect *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
