# Crontabber for Kubernetes. `make help` lists what there is to do; each target brings what it needs.

PYTHON3 ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed

# For `make demo` and `make test`: a Django project of your own (WEBAPP, PYTHON, COMMAND, JOBS), and
# what pytest is given (ARGS).
WEBAPP  ?=
PYTHON  ?=
COMMAND ?=
JOBS    ?=
ARGS    ?=

CYCLONEDX := 7.5.0

# For `make chaos`: what chance is drawn from, for how long all is disturbed, how many jobs there are of each kind.
SEED    ?= 1
MINUTES ?= 1
COPIES  ?= 1

# For `make fuzz`, also drawn from SEED.
RESOURCES ?= 10000

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: help
help: ## Show this list
	@echo "Crontabber for Kubernetes"
	@echo
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort \
	  | awk 'BEGIN {FS = ":.*## "} {printf "  make %-14s %s\n", $$1, $$2}'

## What users and developers do

.PHONY: demo
demo: $(STAMP) binaries ## Catch up missed slots on a real Kubernetes, here; WEBAPP=dir PYTHON=file for your own project
	@$(BIN)/python -u -m devcluster.demo --webapp "$(WEBAPP)" --python "$(PYTHON)" --command "$(COMMAND)" --jobs "$(JOBS)"

.PHONY: demo-down
demo-down: $(STAMP) ## Remove what the demo left up
	@$(BIN)/python -m devcluster.demo --down

.PHONY: test
test: $(STAMP) binaries helm-binary ## Run all tests (ARGS=… for pytest)
	$(BIN)/python -m pytest tests/unit tests/integration tests/fuzz $(ARGS)

.PHONY: unit
unit: $(STAMP) ## Run the tests that need no cluster
	$(BIN)/python -m pytest tests/unit $(ARGS)

.PHONY: integration
integration: $(STAMP) binaries helm-binary ## Run the tests on the devcluster
	$(BIN)/python -m pytest tests/integration $(ARGS)

.PHONY: fuzz
fuzz: $(STAMP) binaries ## Make many resources from the CRD's schema (RESOURCES=10000 SEED=1)
	CRONTABBER_FUZZ_RESOURCES=$(RESOURCES) CRONTABBER_FUZZ_SEED=$(SEED) CRONTABBER_FUZZ=20000 \
	  $(BIN)/python -m pytest -s tests/fuzz tests/unit/test_fuzz_decisions.py $(ARGS)

.PHONY: e2e
e2e: $(STAMP) binaries helm-binary ## Test the installed chart: on kind, else on real containers made here (Linux, root), else on the devcluster's process node
	$(BIN)/python -m pytest tests/e2e $(ARGS)

.PHONY: chaos
chaos: $(STAMP) binaries ## Disturb everything for MINUTES, from SEED, and judge what the jobs did
	@$(BIN)/python -u -m tests.chaos.run --seed "$(SEED)" --minutes "$(MINUTES)" --copies "$(COPIES)" $(ARGS)

.PHONY: soak
soak: $(STAMP) binaries ## Run 1,000 jobs every minute for an hour (MINUTES=…): nothing may grow
	@$(BIN)/python -u -m tests.chaos.soak $(if $(filter command line environment,$(origin MINUTES)),--minutes "$(MINUTES)") $(ARGS)

.PHONY: mutants
mutants: $(STAMP) binaries ## Show that the checker finds the mistakes that an operator could make
	$(BIN)/python -m pytest tests/chaos $(ARGS)

.PHONY: bench
bench: $(STAMP) binaries ## Measure how fast it is, beside CronJobs and the original's loop (ARGS="--quick", "--only storm")
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: kind-up
kind-up: $(STAMP) ## Start kind's cluster for `make e2e` (needs docker and kind)
	@$(BIN)/python -m devcluster.kind up

.PHONY: kind-down
kind-down: $(STAMP) ## Remove kind's cluster
	@$(BIN)/python -m devcluster.kind down

.PHONY: lint
lint: $(STAMP) ## Check style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p crontabber_operator -p devcluster -p benchmarks
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

.PHONY: crd
crd: $(STAMP) ## Write crds/ and docs/reference.md from the models
	$(BIN)/crontabber crd > crds/crontabberjobs.yaml
	$(BIN)/crontabber crd --reference > docs/reference.md
	$(BIN)/python helm/generate.py

.PHONY: chart
chart: $(STAMP) ## Write what the chart takes from elsewhere: its CRD, its README, the kustomize base
	$(BIN)/python helm/generate.py

.PHONY: wheel
wheel: $(STAMP) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

.PHONY: sbom
sbom: ## List what the operator is made of (CycloneDX) in build/sbom.cdx.json
	@test -x build/sbom/bin/cyclonedx-py || { $(PYTHON3) -m venv build/sbom && build/sbom/bin/pip install --quiet cyclonedx-bom==$(CYCLONEDX); }
	build/sbom/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --short-PURLs \
	  --output-reproducible --validate --of JSON -o build/sbom.cdx.json

.PHONY: binaries
binaries: $(STAMP) ## Build etcd, kube-apiserver, kube-controller-manager and kubectl, once (5 minutes)
	@$(BIN)/python -u -m devcluster build > /dev/null

.PHONY: helm-binary
helm-binary: $(STAMP)
	@$(BIN)/python -u -m devcluster build --helm > /dev/null

.PHONY: venv
venv: $(STAMP) ## Make the virtual environment with all that development needs

.PHONY: lock
lock: $(STAMP) ## Lock the dependencies anew, with hashes
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --custom-compile-command "make lock" --upgrade pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --custom-compile-command "make lock" --upgrade --extra dev -c requirements.lock \
	  pyproject.toml -o requirements-dev.lock

.PHONY: clean
clean: ## Remove what was built here (not the cached binaries)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

## What these need

$(STAMP): requirements-dev.lock pyproject.toml VERSION
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or later is needed; '$(PYTHON3)' is `$(PYTHON3) -V 2>&1`."; \
	  echo "Name another one: make PYTHON3=python3.12 …"; exit 1; }
	@echo "• Installing the locked dependencies into $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON3) -m venv $(VENV) || { \
	  echo "The virtual environment could not be made; on Debian and Ubuntu: apt install python3-venv."; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on --require-hashes -r requirements-dev.lock || { \
	  echo "Installing failed: see above; is the package index reachable?"; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@
