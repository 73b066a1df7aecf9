# make run    a homeserver on this machine: http://127.0.0.1:8008
# make test   everything that CI runs
# make lint   the quick part of it
# make help   the rest

# The first Python that is new enough; or say it: make run PYTHON=/path/to/python3.12
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
ARGS ?=
# For test-oracle: random rooms to play, and the environment that has Synapse.
EXAMPLES ?= 200
ROOMS ?= 240
# For soak.
MINUTES ?= 30
# For fuzz: how often each operation is asked, where chance begins (for soak too), a part of the paths.
CASES ?= 50
SEED ?= 1
ONLY ?=
SYNAPSE_VENV ?= .venv-synapse

PIP_FAILED := echo "pip could not install what is needed: does this machine reach https://pypi.org?" \
	"(Behind a proxy set HTTPS_PROXY, with a mirror PIP_INDEX_URL.) Then run the same again."; exit 1

.DEFAULT_GOAL := help
.PHONY: help run demo test test-again fuzz test-model test-oracle test-interop soak lint format unit routes config bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|' \
		2>/dev/null || grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## start a homeserver; ARGS="--config config.yaml" for yours
	@exec $(BIN)/homeserver run $(ARGS)

demo: $(VENV)/.installed-dev ## three federated servers on this machine, for three clients
	@$(BIN)/python -m demo $(ARGS)

test: lint ## everything that CI runs
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

test-again: ## what failed the last time, once more and alone
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS)

fuzz: $(VENV)/.installed-dev ## every operation of the specification, asked by chance; CASES=200 SEED=7 ONLY=/rooms
	FUZZ_CASES=$(CASES) FUZZ_SEED=$(SEED) FUZZ_ONLY=$(ONLY) $(BIN)/python -m pytest -s tests/fuzz $(ARGS)

test-model: $(VENV)/.installed-dev ## random lives against /sync and sliding sync; EXAMPLES=2000 for more
	MODEL_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/model $(ARGS)

test-oracle: $(VENV)/.installed-dev $(SYNAPSE_VENV)/.installed ## auth rules and state resolution against Synapse's; ROOMS=5000 for more
	SYNAPSE_PYTHON=$(abspath $(SYNAPSE_VENV))/bin/python ORACLE_ROOMS=$(ROOMS) $(BIN)/python -m pytest tests/oracle $(ARGS)

test-interop: $(VENV)/.installed-dev $(SYNAPSE_VENV)/.installed ## federation with a real Synapse
	SYNAPSE_PYTHON=$(abspath $(SYNAPSE_VENV))/bin/python $(BIN)/python -m pytest tests/interop/test_synapse*.py $(ARGS)

soak: $(VENV)/.installed-dev $(SYNAPSE_VENV)/.installed ## two servers of ours and a Synapse, with crashes and partitions; MINUTES=3 SEED=7
	@SYNAPSE_PYTHON=$(abspath $(SYNAPSE_VENV))/bin/python $(BIN)/python -m soak --minutes $(MINUTES) --seed $(SEED) $(ARGS)

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: $(VENV)/.installed-dev ## the tests that need no database
	$(BIN)/python -m pytest tests/unit tests/test_architecture.py $(ARGS)

routes: $(VENV)/.installed ## every route of the server
	@$(BIN)/homeserver routes

config: $(VENV)/.installed ## config.example.yaml, anew from homeserver/config
	$(BIN)/homeserver generate-config > config.example.yaml

bench: $(VENV)/.installed ## throughput, latency, CPU and memory of the hot path
	$(BIN)/python -m bench $(ARGS)

clean: ## forget the installation (your data stays)
	rm -rf $(VENV) $(SYNAPSE_VENV)

$(SYNAPSE_VENV)/.installed: | $(BIN)/python
	@echo "Installing Synapse into $(SYNAPSE_VENV) (once, about a minute) ..."
	@$(BIN)/python -m venv $(SYNAPSE_VENV)
	@$(SYNAPSE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'matrix-synapse==1.163.2' || { $(PIP_FAILED); }
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (https://www.python.org)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) can't make a virtual environment: on Debian and Ubuntu, apt install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (once, about half a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . || { $(PIP_FAILED); }
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV), with the tools for tests (once, about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' || { $(PIP_FAILED); }
	@touch $(VENV)/.installed $@
