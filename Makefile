# Needs only python3 (3.11 to 3.13) and make. Everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
# pip compiles nothing here, so Python must keep what it compiles, or each of the hundreds of programs that the tests start
# compiles all its modules again.
export PYTHONDONTWRITEBYTECODE :=
# Four processes on two cores, because tests often wait for servers and jobs. Each takes 2 GB of memory with what it starts.
# tests/conftest.py orders the files: xdist's own order, by number of tests, would start the longest files last.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: azurite demo test test-all test-random lint server worker deploy clean

# Draws photos of the built-in street front, runs the flow on them, and prints a link to the scene's page.
demo: .venv/installed
	$(BIN)/rebel-nerf demo

test: .venv/installed
	$(MAKE) --no-print-directory -j 2 lint azurite
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) --durations=10

# In another order each time, to find tests that depend on others. SEED=1 repeats an order; the run prints its seed.
SEED ?= default
test-random: azurite
	$(BIN)/python -m pytest -v -p randomly --randomly-seed=$(SEED) -m "not slow" $(PARALLEL)

# Jobs of the Azure ML emulator run in the job environment, as on Azure.
test-all: .venv/installed
	$(MAKE) --no-print-directory -j 2 lint azurite
	job_python=$$($(BIN)/python -m tests.job_environment) && \
	REBEL_NERF_JOB_PYTHON=$$job_python $(BIN)/python -m pytest $(PARALLEL) --durations=20

azurite: .venv/installed
	$(BIN)/python -m tests.azureml.azurite

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The flow as a service: run `make server` and `make worker` in two terminals, then `make deploy` once.
server: .venv/installed
	$(BIN)/python -m deployments.server

worker: .venv/installed
	$(BIN)/python -m deployments.worker

deploy: .venv/installed
	$(BIN)/rebel-nerf deploy

.venv/installed: pyproject.toml
	@echo "Installing into .venv. The first time, this downloads some GB and takes minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --no-compile -e '.[local,dev]'
	@# A dependency of nerfstudio's Jupyter that delays each start of Prefect by 3 s. Nothing here needs it.
	$(BIN)/pip uninstall --disable-pip-version-check --quiet --yes rfc3987-syntax
	touch $@

clean:
	rm -rf .venv build
