# Every target sets up what it needs from a bare checkout.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
# One thread for each test process: more would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --durations=15

# The folders whose every line and branch the tests are to reach, and the tests of them.
CORE  := attribution network volume
TESTS := $(CORE:%=tests/%) tests/bundles tests/fuzz tests/mutants tests/large $(CORE:%=src/respondcam/%)
ORDER ?= $(shell date +%j)

.PHONY: help demo test quick lint format docs bench clean coverage mutants shuffled

help:
	@echo "make demo    set up, then explain a phantom with the network in the package"
	@echo "make test    set up, then run every check: format, lint, types, all tests"
	@echo "make quick   the tests without the slow ones"
	@echo "make lint    ruff and pyright alone;  make format  rewrites"
	@echo "make coverage  lines and branches of the core that tests reach; fails under 95 %"
	@echo "make mutants   change the mathematics in every small way: a test must notice"
	@echo "make shuffled  the quick tests in an order of the day, or ORDER=number"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make bench   time and memory beside other libraries, in an environment of its own"

$(STAMP): pyproject.toml hatch_build.py package-lock.json $(wildcard requirements/*.txt)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=requirements/constraints.txt $(BIN)/python -m pip install --quiet torch
	PIP_CONSTRAINT=requirements/constraints.txt $(BIN)/python -m pip install --quiet --editable ".[dev]" \
		-r requirements/nnunet-needs.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/without-torchvision.txt
	touch $@

demo: $(STAMP)
	$(BIN)/respondcam demo

test: lint docs
	$(PYTEST)

quick: $(STAMP)
	$(PYTEST) -m "not slow"

shuffled: $(STAMP)
	RESPONDCAM_TEST_ORDER=$(ORDER) $(PYTEST) -m "not slow"

coverage: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --cov=respondcam --cov-branch --cov-report= $(TESTS)
	$(BIN)/python -m coverage report --show-missing --skip-covered --fail-under=95 \
		--include='src/respondcam/attribution/*,src/respondcam/network/*,src/respondcam/volume/*'

mutants: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench:
	$(MAKE) -C benchmarks table ARGS="$(ARGS)"

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
