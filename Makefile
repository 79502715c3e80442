# The front door. `make demo` and `make test` need only Python 3.11+ and make; the rest of the logic is in deploy/.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long dev docs check clean lock package
PYTEST_ARGS ?=
FAULT_TABLE ?= $(IOT_FAULT_TABLE)
DEV_ARGS ?=
PACKAGE_ARGS ?=
TEST_WORKERS ?= 3

help:  ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

setup:  ## virtual environment, locked packages, jars, .env; does only what is missing
	@python=$$(sh deploy/find_python.sh) && exec "$$python" deploy/setup.py

demo: setup  ## the whole way once: Kafka, Spark, Dagster, dbt, on three simulated days
	@.venv/bin/iot demo

test: setup  ## every test, with coverage; PYTEST_ARGS="…" for pytest, TEST_WORKERS=2 where memory is short
	@.venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --cov $(or $(PYTEST_ARGS),--cov-fail-under=90)

test-long: setup  ## the fault matrix and soaks at full length, then the fault table; FAULT_TABLE=file.md keeps it
	@IOT_FAULT_TABLE="$(FAULT_TABLE)" .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  -m "long or faults" $(PYTEST_ARGS)
	@.venv/bin/python -m iot_platform_tests.mutations

dev: setup  ## Dagster's UI with the sensors on, a broker, ingestion, a live simulator; DEV_ARGS="--rate 50 --port 3001"
	@exec .venv/bin/python -m iot_platform.local.dev $(DEV_ARGS)

docs: setup  ## the documentation as plain files in dist/docs: tables, lineage, contracts, checks, guides, dbt docs
	@.venv/bin/python -m iot_platform.docs_site

check: setup  ## ruff and basedpyright
	@.venv/bin/ruff check
	@.venv/bin/basedpyright

package: setup  ## what a cluster needs to make derived tables, in dist/cluster; PACKAGE_ARGS="--platform aarch64-manylinux_2_28"
	@.venv/bin/python deploy/package.py $(PACKAGE_ARGS)

clean:  ## stop the services and remove their state (IOT_HOME, by default .iot)
	@if [ -x .venv/bin/python ]; then .venv/bin/python -m iot_platform.local.clean; else rm -rf .iot; fi

lock: setup  ## renew requirements.lock and the lock of the jars
	@.venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade \
	  --python-version 3.11 --extra dev --output-file requirements.lock pyproject.toml
	@.venv/bin/python -m iot_platform.local.lock_jars
