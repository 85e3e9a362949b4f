# make demo: distill a small detector from a larger one, 10 minutes on 2 cores, no downloads.
# make test: the fast tests. make test-slow: the slow tests.
# make docs: the documentation as a site.
# All targets make .venv first if it does not exist.
VENV ?= .venv
PYTHON_OF_VENV = $(VENV)/bin/python -W ignore::UserWarning
# One thread per test process, because two processes use two cores better than two threads do.
WORKERS ?= 2

# Tests that need timm, torchvision, transformers or mmpretrain; the other targets skip them.
NEIGHBOURS = .neighbours
TESTS_OF_NEIGHBOURS = $(shell grep -rlE 'support.(neighbours|classifiers)' tests --include 'test_*.py')

.PHONY: demo test test-slow test-neighbours test-onedl lint types env docs docs-check clean

env:
	@tools/setup_env.sh $(VENV)

demo: env
	@$(PYTHON_OF_VENV) tools/make_digits.py data/digits
	@$(PYTHON_OF_VENV) tools/compare.py configs/digits --data-root data/digits/ --work-dir work_dirs/demo

test: env
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# Tests of a second to a minute: the zoo, every config, killed runs, experiments, several processes.
test-slow: env
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m slow $(PYTEST_ARGS)

$(NEIGHBOURS)/.ready: requirements/neighbours.txt | env
	rm -rf $(NEIGHBOURS)
	$(VENV)/bin/python -m pip install --quiet --no-deps --target $(NEIGHBOURS) -r $<
	touch $@

test-neighbours: $(NEIGHBOURS)/.ready
	MMKD_NEIGHBOURS=1 PYTHONPATH=$(CURDIR)/$(NEIGHBOURS) OMP_NUM_THREADS=1 \
	  $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" $(PYTEST_ARGS) $(TESTS_OF_NEIGHBOURS)

# All tests on the maintained forks, in a separate environment.
test-onedl:
	@STACK=onedl tools/setup_env.sh .venv-onedl
	OMP_NUM_THREADS=1 .venv-onedl/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" $(PYTEST_ARGS)

lint: env
	$(VENV)/bin/ruff check .

types: env
	$(VENV)/bin/mypy

# The documentation in site/: no warnings, every link leads to its place, nothing from a network.
# Its packages need neither torch nor mmcv, and have an environment of their own.
docs: .venv-docs/.ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build
	@.venv-docs/bin/python docs/site/check_built.py site
	@echo "To read it: python3 -m http.server -d site, and http://localhost:8000"

# Run the commands of the pages, and compare their output: some minutes.
docs-check: env
	$(VENV)/bin/python docs/site/snippets.py

.venv-docs/.ready: requirements/docs.txt
	python3 -m venv .venv-docs
	.venv-docs/bin/pip --disable-pip-version-check --quiet install --no-deps -r requirements/docs.txt
	@touch $@

clean:
	rm -rf work_dirs site data/digits build dist *.egg-info
