# Every target makes what it needs from nothing but make and a Python of 3.11 or later.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$candidate; break; fi; done)
ORACLE_PYTHON ?= $(shell for candidate in python3.11 python3.10 python3.9 python3; do \
	if $$candidate -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' \
	2>/dev/null; then echo $$candidate; break; fi; done)
BIN := .venv/bin
PROGRAMS ?= 1000
UPSTREAM ?= https://github.com/google/ml-metadata
# The newest that runs on Java 17; it stands apart, so that every environment finds it.
SPARK_VERSION := 4.3.0
# Servers of object storage, for tests.
MOTO_VERSION := 5.2.5
AZURITE_VERSION := 3.35.0
# Clients of gRPC that are not ours, for tests.
NODE_CLIENTS := @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1 grpc-web@2.1.1 xhr2@0.2.1

.PHONY: help demo test lint site bench fuzz torture spark mutants upstream protos parts oracle engines lock clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/\1\t\2/' | expand -t 10

demo: .venv/installed ## Record a pipeline, query it, and read it as it was
	@$(BIN)/eventstore demo

test: .venv/developing ## Check style and types, and run the tests
	@$(MAKE) --no-print-directory oracle || echo "Differential tests will be skipped."
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	# Three on two cores: tests wait for disks and servers a quarter of the time.
	$(BIN)/pytest -n 3 --dist worksteal

site: .venv/documenting ## Build the documentation site in build/site; dead links fail
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/site
	@echo "Open build/site/index.html"

lint: .venv/developing ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/developing .oracle/installed ## Compare speed with ml-metadata
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.writers
	$(BIN)/python -m benchmarks.kubeflow

fuzz: .venv/developing oracle ## Run the property and differential tests for longer
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -n 2 -o timeout=3600 tests/property tests/contract/test_logs.py
	$(BIN)/python -m tests.differential.run --programs 1000
	$(BIN)/python -m tests.differential.run --programs 1000 --server
	$(BIN)/python -m tests.differential.queries --filters 20000 --lineage 5000
	$(BIN)/python -m tests.differential.texts --texts 20000
	$(BIN)/python -m tests.server.fuzz --seconds 600

torture: .venv/developing ## Fail, stop, lose power and kill at every operation, and print the counts
	$(BIN)/python -m tests.faults
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -n 3 --dist worksteal -o timeout=3600 tests/crash

mutants: .venv/developing ## Change the code in 200 places, one at a time: does a test fail?
	$(BIN)/python -m tests.mutation --mutants 200 --folder build/mutants

# Old versions of grpcio-tools need a setuptools that still has pkg_resources.
oldest: .venv/developing ## Run the tests with the oldest versions of all dependencies
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv venv --quiet --clear --seed --python $(PYTHON) .oldest
	$(BIN)/uv pip install --quiet --python .oldest/bin/python --resolution lowest-direct \
		--editable '.[audit,jwt,lineage,server]' --group dev
	$(BIN)/uv pip install --quiet --python .oldest/bin/python 'setuptools<81'
	.oldest/bin/python -m pytest -n 3 --dist worksteal
	# Timestamps need a newer cryptography than signatures.
	$(BIN)/uv pip install --quiet --python .oldest/bin/python --resolution lowest-direct \
		--editable '.[audit,timestamp]'
	.oldest/bin/python -m pytest tests/audit/test_timestamps.py

tfx: .venv/developing ## Run the tests with the versions that TFX 1.21 allows
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv venv --quiet --clear --seed --python $(PYTHON) .tfx
	$(BIN)/uv pip install --quiet --python .tfx/bin/python --constraint tests/data/tfx-1.21.txt \
		--editable '.[audit,jwt,lineage,server,timestamp]' --group dev
	.tfx/bin/python -m pytest -n 3 --dist worksteal

spark: .venv/developing .spark/installed ## Compare views and lineage of many random stores on Spark with those of DuckDB and the store
	PYTHONPATH=.:.spark SPARK_LOCAL_IP=127.0.0.1 $(BIN)/python -m tests.spark.compare --stores 20

upstream: .venv/developing .upstream/installed ## Run ML Metadata's own tests through our client and our server
	$(BIN)/python -m tests.upstream .upstream/source --packages .upstream/packages

protos: .protoc/installed ## Generate the Python code of the .proto files
	.protoc/bin/python protos/generate.py

parts: .venv/developing ## Bundle the parts of the page that others wrote; needs Node and npm
	$(BIN)/python parts/vendor.py

oracle: .oracle/installed ## Install ml-metadata 1.17.1 apart, for differential tests

engines: .spark/installed .moto/installed .azurite/installed .node/installed ## Install what some tests start: Spark, servers of object storage, Node's clients of gRPC and, as root, Java, a browser, shells and SQL servers
	@missing=; for program in java:default-jre-headless chromium:chromium zsh:zsh fish:fish \
		mariadbd:mariadb-server postgres:postgresql; do \
		PATH=$$PATH:/usr/sbin:$$(echo /usr/lib/postgresql/*/bin) command -v $${program%%:*} >/dev/null || missing="$$missing $${program#*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
		echo "To run all tests, install:$$missing"; exit 0; fi; \
	apt-get update -qq >/dev/null 2>&1; for package in $$missing; do \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package >/dev/null 2>&1 || \
			echo "$$package could not be installed: its tests will be skipped."; done

lock: .venv/developing ## Resolve the versions of requirements*.txt anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-header --upgrade \
		--extra audit --extra jwt --extra lineage --extra server --extra timestamp --extra ui pyproject.toml \
		--output-file requirements.txt
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-header --upgrade \
		--extra audit --extra jwt --extra lineage --extra server --extra timestamp --extra ui --group dev pyproject.toml \
		--constraint requirements.txt \
		--output-file requirements-dev.txt
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-header --upgrade \
		--group docs pyproject.toml \
		--constraint requirements-dev.txt \
		--output-file requirements-docs.txt

clean: ## Remove the environments and caches
	rm -rf .venv .oracle .oldest .tfx .spark .moto .azurite .node .upstream .protoc .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

.venv/made:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 or later found: install one, or say make PYTHON=/path/to/python"; \
		exit 1; fi
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/made requirements.txt pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/developing: .venv/installed requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv/documenting: .venv/developing requirements-docs.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

.oracle/installed:
	@if [ -z "$(ORACLE_PYTHON)" ]; then \
		echo "ml-metadata 1.17.1 needs Python 3.9 to 3.11: say make oracle ORACLE_PYTHON=/path"; \
		exit 1; fi
	$(ORACLE_PYTHON) -m venv .oracle
	.oracle/bin/pip install --quiet --disable-pip-version-check ml-metadata==1.17.1
	@touch $@

.spark/installed: .venv/made
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --target .spark pyspark==$(SPARK_VERSION)
	@touch $@

# Apart: what it needs holds back versions of what the tests need.
.moto/installed:
	$(PYTHON) -m venv .moto
	.moto/bin/pip install --quiet --disable-pip-version-check 'moto[server]==$(MOTO_VERSION)'
	@touch $@

.azurite/installed:
	@if ! command -v npm >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq >/dev/null 2>&1; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null 2>&1; fi; \
	if command -v npm >/dev/null && npm install --silent --no-fund --no-audit --prefix .azurite azurite@$(AZURITE_VERSION); \
	then touch $@; else echo "Azurite could not be installed: its tests will be skipped."; fi

.node/installed: | .azurite/installed
	@if command -v npm >/dev/null && npm install --silent --no-fund --no-audit --prefix .node $(NODE_CLIENTS); \
	then touch $@; else echo "Node's clients of gRPC could not be installed: their tests will be skipped."; fi

.upstream/installed: .venv/made
	git clone --quiet --depth 1 $(UPSTREAM) .upstream/source
	$(BIN)/pip install --quiet --disable-pip-version-check --target .upstream/packages absl-py
	@touch $@

.protoc/installed:
	$(ORACLE_PYTHON) -m venv .protoc
	.protoc/bin/pip install --quiet --disable-pip-version-check grpcio-tools==1.51.3 "setuptools<80"
	@touch $@
