# Every target sets up what it needs from a bare checkout.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TOOLS  ?= build/tools
OLDEST ?= build/oldest
JOBS   ?= 2
# One thread for each test process: more would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=15

# The folders whose every line and branch the tests are to reach, and the tests of them.
CORE  := attribution network volume
TESTS := $(CORE:%=tests/%) tests/bundles tests/fuzz tests/mutants tests/large $(CORE:%=src/respondcam/%)
ORDER ?= $(shell date +%j)

.PHONY: help demo test quick gpu lint format docs bench clean release-check extras-check licences audit coverage mutants shuffled oldest

help:
	@echo "make demo    set up, then explain a phantom with the network in the package"
	@echo "make test    set up, then run every check: format, lint, types, all tests"
	@echo "make quick   the tests without the slow ones"
	@echo "make gpu     the tests that need a GPU"
	@echo "make lint    ruff and pyright alone;  make format  rewrites"
	@echo "make coverage  lines and branches of the core that tests reach; fails under 95 %"
	@echo "make mutants   change the mathematics in every small way: a test must notice"
	@echo "make shuffled  the quick tests in an order of the day, or ORDER=number"
	@echo "make oldest    the core's tests with the oldest packages that pyproject.toml allows"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make bench   time and memory beside other libraries, in an environment of its own"
	@echo "make release-check   build what would be published, look into it, use it"
	@echo "make extras-check    each extra alone in an empty environment"
	@echo "make licences        writes docs/licences.md"
	@echo "make audit           known vulnerabilities of the pinned packages"

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

gpu: $(STAMP)
	RESPONDCAM_TEST_GPU=1 $(PYTEST) tests/gpu

shuffled: $(STAMP)
	RESPONDCAM_TEST_ORDER=$(ORDER) $(PYTEST) -m "not slow"

# Of PyTorch it takes the usual build of its index, with CUDA on Linux.
$(OLDEST)/.installed: pyproject.toml requirements/oldest.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet -r requirements/oldest.txt \
		--editable ".[imaging,cryoet,large,captum,monai,report]"
	touch $@

oldest: $(OLDEST)/.installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n $(JOBS) -m "not slow" \
		-W ignore::DeprecationWarning -W ignore::FutureWarning \
		tests/attribution tests/volume $(wildcard tests/network/test_layout*.py) \
		$(wildcard tests/network/test_split*.py) tests/network/test_families.py \
		tests/cli/test_cli_explain.py tests/cli/test_cli_windows.py tests/large/test_large_runs.py

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

# What packages the release, in an environment of its own: the tests do without.
$(TOOLS)/.installed: requirements/release.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet -r requirements/release.txt
	touch $@

release-check extras-check: %-check: $(TOOLS)/.installed
	PATH="$(abspath $(TOOLS))/bin:$$PATH" $(TOOLS)/bin/python scripts/$*_check.py $(ARGS)

licences: $(STAMP)
	$(BIN)/python scripts/licences.py

# A package that cannot be looked up counts as a failure: silence must not pass for safety.
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --strict --no-deps --disable-pip -r requirements/constraints.txt $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
