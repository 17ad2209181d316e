# Every target does its own set-up: a virtual environment from the committed lock, made once.
VENV ?= .venv
LOCK ?= requirements/cpu.lock
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
TESTS ?= tests
SELECT ?= not slow and not tutorial
# In fresh processes: it has ended in an engine thread of MXNet after all other tests (docs/architecture.md).
CONTRACT := tests/test_method_contract.py
# Each of several workers gets one OpenMP thread; tests/conftest.py sets the threads.
WORKERS ?= 2
# A file's tests in one worker, so that what they share is made once.
WHOLE = --dist loadfile --ignore=$(CONTRACT)
# As on a lesser processor: ISA=AVX2 (python tools/emulate.py --help lists the names).
ISA ?=
AS = $(if $(ISA),$(PY) tools/emulate.py $(ISA))

# The first Python that the locks support. PYTHON=... overrides.
suits = $(shell $(1) tools/check_system.py --python-only >/dev/null 2>&1 && echo $(1))
find_python = $(or $(PYTHON),$(call suits,python3.11),$(call suits,python3.10),$(call suits,python3.9),python3)

.PHONY: help quickstart photographs test test-slow test-tutorial test-faults lint lock clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(READY)  ## train, evaluate, predict and export on real photographs (minutes)
	$(PY) tools/quickstart.py

# Results stay beside the runs: docs/results is for those of the repository.
photographs:  ## fine-tuned, from scratch and with a recipe: DATA=FOLDER of {train,test}/<class>/ (an hour)
	@test -n '$(DATA)' || { echo 'error: make photographs DATA=FOLDER, which holds train/<class>/ and test/<class>/'; exit 2; }
	@$(MAKE) --no-print-directory $(READY)
	$(PY) tools/study.py --study studies/photographs.yaml --work-dir work_dirs/photographs \
		--results work_dirs/photographs/results 'data.root=$(DATA)' $(OVERRIDES)

test: $(READY)  ## run the fast tests; TESTS=tests/nn for some of them, ISA=AVX2 as on a lesser processor
	$(AS) $(PY) -m pytest -q -m '$(SELECT)' -n $(WORKERS) $(TESTS) $(if $(filter tests,$(TESTS)),$(WHOLE))
	$(if $(filter tests,$(TESTS)),$(AS) $(PY) -m pytest -q -m '$(SELECT)' -n $(WORKERS) $(CONTRACT))

test-slow: $(READY)  ## run the tests that take minutes
	$(AS) $(PY) -m pytest -q -m 'slow and not faults' $(TESTS)

test-faults: $(READY)  ## the exhaustive tests of reliability, hours; their log is build/faults.log
	mkdir -p build
	OMP_NUM_THREADS=1 nice $(PY) -m pytest -v -s -m faults tests/faults > build/faults.log 2>&1; \
	status=$$?; tail -3 build/faults.log; exit $$status

test-tutorial:  ## hold our loop to the book's own, in an environment with the package d2l (.venv-tutorial)
	$(MAKE) test VENV=.venv-tutorial LOCK=requirements/tutorial.lock SELECT=tutorial WORKERS=0 TESTS=tests/test_hotdog.py

lint: $(READY)  ## check style
	$(PY) -m ruff check .

# The stamp is written last and the folder is cleared first, so an interrupted installation is begun anew.
$(READY): $(LOCK) setup.py
	@python='$(find_python)'; set -ex; \
	$$python tools/check_system.py; \
	$$python -m venv --clear $(VENV); \
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r $(LOCK); \
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@

# Keeps the pins it finds; UPGRADE=--upgrade renews them all.
UV := build/uv/bin/uv
COMPILE = $(UV) pip compile setup.py --quiet --universal --python-version 3.9 --generate-hashes \
	--custom-compile-command 'make lock' $(UPGRADE)
EXTRAS := $(addprefix --extra ,demo lite serve tensorboard dev)

lock: $(UV)  ## resolve requirements/*.lock after a change of setup.py
	$(COMPILE) --extra cpu $(EXTRAS) -o requirements/cpu.lock
	$(COMPILE) --extra cpu $(EXTRAS) --extra tutorial -o requirements/tutorial.lock
	$(COMPILE) --extra cu112 $(EXTRAS) -o requirements/cu112.lock

$(UV):
	$(find_python) -m venv --clear build/uv
	build/uv/bin/python -m pip install -q --disable-pip-version-check 'uv==0.13.8'

clean:  ## remove the environments and caches (runs and data stay)
	rm -rf $(VENV) .venv-tutorial build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
