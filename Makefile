# `make demo` and `make test` do all the set-up they need on a fresh machine with Python 3.11 or later, Node 20 and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLIENTS := tests/clients/node_modules/.ready
WORKERS ?= 2

# The image: docs/image.md. ENGINE may carry options of its own, BUILD_FLAGS those of its build command.
ENGINE ?= $(shell command -v buildah >/dev/null 2>&1 && echo buildah || echo docker)
ENGINE_NAME := $(notdir $(firstword $(ENGINE)))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE ?= rotator:$(VERSION)
SOURCE ?= unknown
BUILD_FLAGS ?=
# Programs that tests need, and the Debian packages that they come in.
FROM_SYSTEM := promtool:prometheus prometheus-alertmanager:prometheus-alertmanager etcd:etcd-server buildah:buildah debootstrap:debootstrap
INSIDE := /opt/rotator/bin/python -I -B -

.DEFAULT_GOAL := help
.PHONY: help image image-report test-servers demo test check unit model-long bench chart-readme chart-package lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(READY): requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(CLIENTS): tests/clients/package.json tests/clients/package-lock.json
	@cd tests/clients && npm ci --silent --no-audit --no-fund
	@touch $@

demo: $(READY) ## the whole story on one machine in about a minute
	@$(BIN)/rotator demo

check: $(READY) ## lint, types, import contracts and unit tests, in under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .
	$(BIN)/pytest -q -n $(WORKERS) tests/unit tests/repo

test-servers: $(READY) ## what tests need besides: servers found or built with Go (some 15 minutes, once), the rest from the system's packages
	@$(BIN)/python -m tests.support.servers
	@# Tests start their own: what a package started as a service is stopped again.
	@for pair in $(FROM_SYSTEM); do \
	  command -v $${pair%:*} >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $${pair#*:} >/dev/null; \
	    for unit in $${pair%:*} $${pair#*:}; do systemctl -q disable --now $$unit 2>/dev/null || true; done; \
	  else echo "$${pair%:*} is not installed: its tests will be skipped" >&2; fi; \
	done

test: check test-servers $(CLIENTS) ## everything: check, model check, contracts, sandbox, server, daemons killed and raced, real MCP clients
	$(BIN)/pytest -q -n $(WORKERS) --dist loadscope tests --ignore tests/unit --ignore tests/repo

image: ## the container image, with buildah or docker; BASE=… names another base
	@epoch=$$(git log -1 --format=%ct 2>/dev/null || echo 1577836800); \
	revision=$$(git rev-parse HEAD 2>/dev/null || echo unknown)$$(git diff --quiet HEAD 2>/dev/null || echo -dirty); \
	$(ENGINE) build $(if $(filter buildah,$(ENGINE_NAME)),--format docker --timestamp $$epoch) --tag $(IMAGE) \
	  $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg SOURCE_DATE_EPOCH=$$epoch --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$$revision --build-arg SOURCE=$(SOURCE) $(BUILD_FLAGS) .

image-report: ## what the image holds, and how large it is
ifeq ($(ENGINE_NAME),buildah)
	@made=$$($(ENGINE) from --pull-never $(IMAGE)) && trap "$(ENGINE) rm $$made >/dev/null" EXIT && \
	$(ENGINE) run --user 0 $$made -- $(INSIDE) <packaging/image_report.py
else
	@$(ENGINE) run --rm --interactive --read-only --user 0 --entrypoint $(firstword $(INSIDE)) $(IMAGE) $(wordlist 2,9,$(INSIDE)) <packaging/image_report.py
endif

model-long: $(READY) ## the model check's long tier (minutes to an hour); its result stands in docs/model-check.md
	$(BIN)/python -m tests.model --long

bench: $(READY) ## figures: rotations against a bare loop, an idle daemon, start-up; reports, never fails
	$(BIN)/python -m bench

chart-readme: $(READY) ## helm/README.md, from the comments of helm/values.yaml
	@$(BIN)/python packaging/chart_readme.py

chart-package: $(READY) ## the chart as an archive in dist/, the same bytes each time
	@$(BIN)/python packaging/chart_package.py dist

lock: $(READY) ## pin all dependencies anew, with hashes and without hosts
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 pyproject.toml --all-extras -o requirements/runtime.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 --group build -c requirements/dev.txt -o requirements/build.txt

clean: ## remove what make made
	rm -rf $(VENV) tests/clients/node_modules .mypy_cache .ruff_cache .import_linter_cache .hypothesis
