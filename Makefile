# Everything is set up in .venv, with nothing but python3 (3.11 to 3.13) and make.
PYTHON ?= python3
BIN := .venv/bin
# One more than two cores: tests wait for servers and jobs much of the time. In the order of tests/conftest.py, as by
# their number of tests the longest files, of one test, would come last.
PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all test-random lint server worker deploy clean

# Photos of the built-in street front, then the flow on them. Ends in a link to the scene's page.
demo: .venv/installed
	$(BIN)/rebel-nerf demo

test: .venv/installed lint
	$(BIN)/python -m tests.azureml.azurite
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) --durations=10

# In another order each time, to find tests that lean on others. SEED=1 repeats an order; the run prints its seed.
SEED ?= default
test-random: .venv/installed
	$(BIN)/python -m tests.azureml.azurite
	$(BIN)/python -m pytest -v -p randomly --randomly-seed=$(SEED) -m "not slow" $(PARALLEL)

# The emulator's jobs run in the job environment, as on Azure.
test-all: .venv/installed lint
	$(BIN)/python -m tests.azureml.azurite
	job_python=$$($(BIN)/python -m tests.job_environment) && \
	REBEL_NERF_JOB_PYTHON=$$job_python $(BIN)/python -m pytest $(PARALLEL) --durations=20

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The flow as a service: `make server`, `make worker`, each in a terminal of its own; then `make deploy` once.
server: .venv/installed
	$(BIN)/python -m deployments.server

worker: export PREFECT_API_URL ?= http://127.0.0.1:4200/api
worker: .venv/installed
	$(BIN)/python -m deployments.worker

deploy: .venv/installed
	$(BIN)/rebel-nerf deploy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --no-compile -e '.[local,dev]'
	@# Nerfstudio's Jupyter brings it; it makes each start of Prefect 3 s longer, and nothing here needs it.
	$(BIN)/pip uninstall --disable-pip-version-check --quiet --yes rfc3987-syntax
	touch $@

clean:
	rm -rf .venv build
