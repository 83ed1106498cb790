# `make setup` sets up .venv from uv.lock, `make repro` runs the comparison, `make test` the tests; these two set it up too.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := 0.13.9
BIN := $(CURDIR)/.venv/bin
# Where .venv was made, which its programs have in their first lines (venv writes it down): elsewhere, if this folder moved.
# A link leads to the environment of another folder, which is left alone.
MADE := $(shell test -L .venv || sed -n 's/^command = .* -m venv \(--[a-z-]* \)*//p' .venv/pyvenv.cfg 2>/dev/null)
export PATH := $(BIN):$(PATH)
# Nothing here reports to anybody.
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
# What the user has set for other programs: each warning of a library would end DVC, and names would depend on the locale.
unexport PYTHONWARNINGS PYTHONSAFEPATH PYTHONOPTIMIZE
export PYTHONUTF8 := 1

# The tests of the pages in a browser run where there is one, and axe-core for those of accessibility: .ci/run gets both.
BROWSER := $(firstword $(foreach name,chromium chromium-browser google-chrome google-chrome-stable,$(shell command -v $(name))))
AXE := $(wildcard .cache/npm/node_modules/axe-core/axe.min.js)
# Those of KerasHub's backbones run where the extra `hub` is installed.
HUB := $(wildcard .venv/lib/python3.11/site-packages/keras_hub)
LEFT_OUT := $(strip $(if $(BROWSER),$(if $(AXE),,axe),browser) $(if $(HUB),,hub))
EMPTY :=
# One process more than there are cores, since tests of servers and signals mostly wait; four take memory enough.
PYTEST = pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(if $(LEFT_OUT),-m "not ($(subst $(EMPTY) $(EMPTY), or ,$(LEFT_OUT)))")

# Where Prefect's server is, and which of its work pools a worker serves.
PREFECT_API_URL ?= http://127.0.0.1:4200/api
POOL ?= comparison

.PHONY: help setup moved repro test tested coverage server deploy worker bench lint figures docs clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@sed -n 's/^\([a-z]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST)

setup: .venv/.synced  ## set up .venv, or bring it up to date, and run nothing
	@echo "Set up: \`source .venv/bin/activate\` puts dvc and python into this terminal's path."

repro: .venv/.synced  ## set up what is missing and run the whole comparison
	python -m stages.check
	@python -P flows/locks.py
	@dvc repro || { code=$$?; echo "Not done: mend what is said above, then \`make repro\` again: what is done is kept." >&2; \
	  exit $$code; }
	@# DVC goes on, and ends with 0, when its cache is full.
	@dvc status --quiet --no-updates || { dvc status --no-updates >&2; \
	  echo "Not done: DVC could not keep what is listed above. Mend what it says of it, then \`make repro\` again." >&2; exit 1; }
	@python -P flows/answer.py

# Side by side, since mypy keeps one core busy for half a minute. Each goes on to its end where the other fails.
test: .venv/.synced  ## set up what is missing; lint, types, contracts, tests
	@$(MAKE) --no-print-directory --jobs 2 --keep-going lint tested || \
	  { echo "Not passed: the lines with *** above say whether that is lint, or tested." >&2; exit 1; }

tested: .venv/.synced
ifdef LEFT_OUT
	@echo "Left out: tests marked '$(LEFT_OUT)'. They need Chromium and axe-core (browser, axe) and KerasHub (hub: uv sync --inexact --extra hub); as root .ci/run gets them all." >&2
endif
	$(PYTEST)

coverage: .venv/.synced  ## the tests again, with the coverage of every process: takes up to half as long again
	$(PYTEST) --cov --cov-report=term

server: .venv/.synced  ## run Prefect's server, on loopback unless PREFECT_SERVER_API_HOST says otherwise
	prefect server start

deploy worker: export PREFECT_API_URL := $(PREFECT_API_URL)
# A proxy cannot reach a server on this machine.
deploy worker: export NO_PROXY := $(or $(no_proxy),$(NO_PROXY)),127.0.0.1,localhost
deploy worker: export no_proxy := $(NO_PROXY)

# A worker makes its pool itself. `prefect work-pool create` has the server ask GitHub what such a pool looks like.
deploy: .venv/.synced  ## tell the server what prefect.yaml declares: flows, schedules, work pools
	for pool in comparison stages; do \
	  prefect work-pool inspect $$pool >/dev/null 2>&1 || \
	    prefect worker start --pool $$pool --type process --run-once || exit 1; \
	done
	prefect --no-prompt deploy --all
	prefect automation inspect "$$(sed -n 's/^name: //p' flows/automations.yaml)" >/dev/null 2>&1 || \
	  prefect automation create --from-file flows/automations.yaml

worker: .venv/.synced  ## do what the server asks for in this folder, one run at a time (POOL=stages: single stages)
	prefect worker start --pool $(POOL) --limit 1

bench: .venv/.synced  ## measure beside the plain Keras script, and how the stages grow (two hours, 10 GB of disk)
	python benchmarks/pipeline.py
	python benchmarks/growth.py
	python benchmarks/growth.py --stages ingest split preprocess --counts 10000 100000

lint: .venv/.synced  ## Ruff, mypy, import-linter
	ruff check .
	ruff format --check .
	mypy
	lint-imports

figures: .venv/.synced  ## draw the built-in images again (the same bytes)
	python data/samples/draw_yoga_figures.py

docs: .venv/.synced  ## write docs/parameters.md and the screenshot of the report (needs Chromium)
	python -m docs.parameters
	python -m docs.screenshot

clean:  ## remove the environment and the caches, keep data and DVC's cache
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

ifneq ($(MADE),)
ifneq ($(MADE),$(CURDIR)/.venv)
.venv/.synced: moved
endif
endif

# The text files that name the place: programs, scripts that activate, and venv's own record.
moved: export MADE := $(MADE)
moved: export HERE := $(CURDIR)/.venv
moved:
	@echo "This folder was moved from $${MADE%/.venv}: the programs in .venv are told so." >&2
	@.venv/bin/python -c 'import os, pathlib; old, new = (os.environb[name] for name in (b"MADE", b"HERE")); \
	  found = [path for path in (*pathlib.Path(".venv/bin").iterdir(), pathlib.Path(".venv/pyvenv.cfg")) if path.is_file() and not path.is_symlink()]; \
	  [path.write_bytes(data.replace(old, new)) for path in found if old in (data := path.read_bytes()) and b"\0" not in data]'

.venv/.synced: uv.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 is needed, and there is no python3: install it, or set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and f"Python 3.11 is needed, {sys.executable} is {sys.version.split()[0]}: set PYTHON=...")'
	@test -x .venv/bin/dvc || echo "Setting up .venv: 4 GB of disk, 1.1 GB to download, a few minutes." >&2
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV)"
	# Extras that were added stay (--inexact). uv leaves byte code out unless told: without it each of some fifty processes compiles TensorFlow again.
	uv sync --frozen --inexact --compile-bytecode
	touch $@
