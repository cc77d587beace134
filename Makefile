# gptviz. `make demo` and `make test` need Python >= 3.11 and make; all else they install into .venv, once, and again
# when the pins change. Python's package index serves torch for Linux with CUDA (some 3 GB); without a GPU say
#     make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

TORCH_INDEX ?=
STEPS ?=
PYTEST ?=
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

VENV = $(PYTHON) -m venv --clear .venv
# Debian and Ubuntu keep the part of Python that makes environments in a package of its own.
DEBIAN_VENV = test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get -qq update && \
	apt-get -qq install -y python3-venv && $(VENV)
PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --constraint constraints.txt
READY = .venv/.ready
NODE = command -v npm >/dev/null

.PHONY: help demo test setup lint types js test-js slow bench lab docs-check pictures clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(READY)  ## train on the documentation of Python, leave runs/demo, report.html and pictures (STEPS=200: shorter)
	@.venv/bin/gptviz demo $(if $(STEPS),--steps $(STEPS))

test: $(READY)  ## everything: lint, front-end tests where Node is, Python tests, browser tests (PYTEST="-k trace": some)
	@status=0; \
	.venv/bin/ruff check || status=1; \
	$(MAKE) --no-print-directory test-js || status=1; \
	GPTVIZ_CHROMIUM="$${GPTVIZ_CHROMIUM:-$$(sh tests/chromium.sh)}" .venv/bin/pytest -n 2 --dist loadfile -m "not slow" $(PYTEST) || status=1; \
	exit $$status

setup: $(READY)  ## .venv with the pinned packages

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "gptviz needs Python 3.11 or newer; found none. Install one or say" \
		"make PYTHON=/path/to/python3." >&2; exit 1; }
	@test -x .venv/bin/pip || $(VENV) || { $(DEBIAN_VENV); } || { rm -rf .venv; echo "$(PYTHON) cannot make a" \
		"virtual environment. On Debian and Ubuntu: apt-get install python3-venv." >&2; exit 1; }
	@echo "Installing the pinned packages into .venv (some minutes the first time)."
	@$(PIP) pip  # one that is years old takes many times as long
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $(READY)

lint: $(READY)  ## ruff
	@.venv/bin/ruff check

types: $(READY)  ## pyright
	@.venv/bin/pyright

js: js/node_modules  ## build the front end into gptviz/static (Node)
	@cd js && npm run build

test-js:  ## the front end's own tests (Node)
	@if $(NODE); then $(MAKE) --no-print-directory js/node_modules && cd js && npm test; \
	else echo "*** THE FRONT-END TESTS ARE SKIPPED: they need Node (npm); the built front end is in the repository."; fi

js/node_modules: js/package-lock.json
	@cd js && npm ci --no-audit --no-fund --loglevel=error
	@touch js/node_modules

slow: $(READY)  ## the tests that are too long for `make test`
	@.venv/bin/pytest -m slow $(PYTEST)

bench: $(READY)  ## measure speed beside the peers
	@.venv/bin/python -m benchmarks

lab: $(READY)  ## JupyterLab on notebooks/
	@.venv/bin/gptviz lab

docs-check: $(READY)  ## links, README code, glossary
	@.venv/bin/pytest tests/test_docs.py tests/test_readme.py $(PYTEST)

pictures: $(READY)  ## every view in light and dark, narrow and wide, into build/pictures/index.html (Chromium)
	@.venv/bin/python tests/browser/contact_sheet.py build/pictures --chromium "$${GPTVIZ_CHROMIUM:-$$(sh tests/chromium.sh)}"

clean:  ## remove what can be made again (not runs/)
	@rm -rf .venv build dist js/build js/node_modules .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
