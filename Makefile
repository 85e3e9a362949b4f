# make demo: teach a small detector from a bigger one, 10 minutes on 2 cores, nothing to download.
# make test: the test suite, but for its slow part, which is make test-slow.
# All make .venv first where it is not there yet.
VENV ?= .venv
PYTHON_OF_VENV = $(VENV)/bin/python -W ignore::UserWarning
# One thread per test process; two processes fill two cores better than one with two threads.
WORKERS ?= 2

.PHONY: demo test test-slow test-onedl lint types env clean

env:
	@tools/setup_env.sh $(VENV)

demo: env
	@$(PYTHON_OF_VENV) tools/make_digits.py data/digits
	@$(PYTHON_OF_VENV) tools/compare.py configs/digits --data-root data/digits/ --work-dir work_dirs/demo

test: env
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# What takes seconds to a minute each: the zoo, every config, kills, whole experiments, processes.
test-slow: env
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m slow $(PYTEST_ARGS)

# Both parts on the maintained forks, in an environment of its own.
test-onedl:
	@STACK=onedl tools/setup_env.sh .venv-onedl
	OMP_NUM_THREADS=1 .venv-onedl/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" $(PYTEST_ARGS)

lint: env
	$(VENV)/bin/ruff check .

types: env
	$(VENV)/bin/mypy

clean:
	rm -rf work_dirs data/digits build dist *.egg-info
