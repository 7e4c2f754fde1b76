# `make run` and `make test` are what most people need; `make` lists the rest. Everything is installed into this folder,
# except for a browser and a proxy that the tests run: those are Debian's.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check
CHROMIUM := /usr/bin/chromium
NGINX := /usr/sbin/nginx
SEEDS ?= 100
TYPESCRIPT := clients/typescript
SOURCES := router actors tests benchmarks examples clients/python
# ASYNC114 is optional and knows none of our start functions; a test that needs Trio's clock is async though it may
# await nothing (ASYNC124).
ASYNC_LINT = $(BIN)/flake8-async --enable=ASYNC1,ASYNC2,ASYNC3 --disable=

.DEFAULT_GOAL := help
.PHONY: help run test check format simulate bench clean

help:
	@echo "make run       serve on http://127.0.0.1:8000 (flags: ARGS='--port 9000')"
	@echo "make test      install what the tests need, and run them all"
	@echo "make check     lint and type-check"
	@echo "make format    fix and format the Python code"
	@echo "make simulate  many random runs under a clock that jumps (SEEDS=1000); a failing seed is printed"
	@echo "make bench     measure, alongside a program that does the same writes and nothing else"
	@echo "make clean     remove everything that was installed or built in this folder"

run: $(VENV)/.serve
	@$(BIN)/neurograph-router serve $(ARGS)

test: $(VENV)/.develop tests/e2e/node_modules/.installed tests/docs/node_modules/.installed $(TYPESCRIPT)/node_modules/.installed | $(CHROMIUM) $(NGINX)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --fail-under=100 --include='router/connection.py,router/subscriptions.py,router/hub/*,router/rest/*,clients/python/src/*'
	@npm test --prefix $(TYPESCRIPT) --silent

check: $(VENV)/.develop $(TYPESCRIPT)/node_modules/.installed
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(ASYNC_LINT)ASYNC114 $$(git ls-files '*.py' ':!tests' ':!clients/python/tests')
	$(ASYNC_LINT)ASYNC114,ASYNC124 $$(git ls-files 'tests/*.py' 'clients/python/tests/*.py')
	$(BIN)/mypy
	@npm run check --prefix $(TYPESCRIPT) --silent
	@npm run size --prefix $(TYPESCRIPT) --silent

format: $(VENV)/.develop
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

simulate: $(VENV)/.develop
	@$(BIN)/python -m tests.simulation $(SEEDS)

bench: $(VENV)/.serve
	$(BIN)/python -m benchmarks all

clean:
	rm -rf $(VENV) tests/e2e/node_modules tests/docs/node_modules $(TYPESCRIPT)/node_modules $(TYPESCRIPT)/dist benchmarks/bin .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: $(BIN)/python pyproject.toml clients/python/pyproject.toml constraints.txt
	@echo "installing into $(VENV)"
	@$(PIP) install --constraint constraints.txt --editable clients/python --editable .
	@touch $@

$(VENV)/.develop: $(VENV)/.serve
	@echo "installing test and check tools into $(VENV)"
	@$(PIP) install --constraint constraints.txt --editable clients/python --editable '.[test,check]'
	@touch $@

tests/e2e/node_modules/.installed: tests/e2e/package.json tests/e2e/package-lock.json
	@echo "installing wscat into tests/e2e/node_modules"
	@npm ci --prefix tests/e2e --silent --no-audit --no-fund
	@touch $@

tests/docs/node_modules/.installed: tests/docs/package.json tests/docs/package-lock.json
	@echo "installing mermaid into tests/docs/node_modules"
	@npm ci --prefix tests/docs --silent --no-audit --no-fund
	@touch $@

$(TYPESCRIPT)/node_modules/.installed: $(TYPESCRIPT)/package.json $(TYPESCRIPT)/package-lock.json
	@echo "installing what the TypeScript client is built and tested with"
	@npm ci --prefix $(TYPESCRIPT) --silent --no-audit --no-fund
	@touch $@

$(CHROMIUM) $(NGINX):
	@echo "installing Debian's chromium and nginx-light, which the tests run"
	@test "$$(id -u)" = 0 || { echo "only root can: apt-get install chromium nginx-light"; exit 1; }
	@apt-get -qq update
	@DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium nginx-light >/dev/null
