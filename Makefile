# `make help` lists the targets: each line `NAME: ... ## TEXT` below is one of them.
VENV ?= .venv
PYTHON_OF_VENV = $(VENV)/bin/python -W ignore::UserWarning
# One thread per test process, because two processes use two cores better than two threads do.
WORKERS ?= 2

# Tests that need timm, torchvision, transformers or mmpretrain; the other targets skip them.
NEIGHBOURS = .neighbours
TESTS_OF_NEIGHBOURS = $(shell grep -rlE 'support.(neighbours|classifiers)' tests --include 'test_*.py')

.PHONY: help demo test test-slow test-neighbours test-onedl test-matrix lint types env docs docs-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s%s\n", $$1, $$2}' Makefile
	@echo "What needs $(VENV) makes it first. To use it yourself: source $(VENV)/bin/activate"

env: ## make the environment alone, about 11 minutes on 2 cores
	@tools/setup_env.sh $(VENV)

demo: env ## distil a small detector from a larger one on digits, 8 minutes on 2 cores
	@$(PYTHON_OF_VENV) tools/make_digits.py data/digits
	@$(PYTHON_OF_VENV) tools/compare.py configs/digits --data-root data/digits/ --work-dir work_dirs/demo

test: env ## the fast tests, 8 minutes on 2 cores
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-slow: env ## the slow tests: the zoo, every config, killed runs, experiments, several processes
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m slow $(PYTEST_ARGS)

$(NEIGHBOURS)/.ready: requirements/neighbours.txt | env
	rm -rf $(NEIGHBOURS)
	$(VENV)/bin/python -m pip install --quiet --no-deps --target $(NEIGHBOURS) -r $<
	touch $@

test-neighbours: $(NEIGHBOURS)/.ready ## tests with timm, torchvision, transformers and mmpretrain
	MMKD_NEIGHBOURS=1 PYTHONPATH=$(CURDIR)/$(NEIGHBOURS) OMP_NUM_THREADS=1 \
	  $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" $(PYTEST_ARGS) $(TESTS_OF_NEIGHBOURS)

test-onedl: ## all tests on the maintained forks, in .venv-onedl
	@STACK=onedl tools/setup_env.sh .venv-onedl
	OMP_NUM_THREADS=1 .venv-onedl/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" $(PYTEST_ARGS)

test-matrix: ## short tests on another stack, made in .matrix: make test-matrix ENV=torch-2.4
	python3 tests/matrix/matrix.py $(ENV)

lint: env ## check the style of the code
	$(VENV)/bin/ruff check .

types: env ## check the types
	$(VENV)/bin/mypy

# The documentation in site/: no warnings, every link leads to its place, nothing from a network.
# Its packages need neither torch nor mmcv, and have an environment of their own.
docs: .venv-docs/.ready ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build
	@.venv-docs/bin/python docs/site/check_built.py site
	@echo "To read it: python3 -m http.server -d site, and http://localhost:8000"

docs-check: env ## run the commands of the pages, and compare their output, some minutes
	$(VENV)/bin/python docs/site/snippets.py

.venv-docs/.ready: requirements/docs.txt
	python3 -m venv .venv-docs
	.venv-docs/bin/pip --disable-pip-version-check --quiet install --no-deps -r requirements/docs.txt
	@touch $@

clean: ## remove what runs and builds have written; .venv stays
	rm -rf work_dirs site data/digits build dist *.egg-info
