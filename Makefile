PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= all,dev
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What `make race` runs; CI makes it smaller.
METHODS ?= spectral paper adam-clip
SEEDS ?= 3
ADDING_BUDGET ?= 350
DIGITS_BUDGET ?= 500
RUNS ?= runs

# Whether `make docs` runs the gallery: 1 or 0.
GALLERY ?= 1

.PHONY: help race test test-integrations test-oldest lint docs bench clean

help:
	@echo "make race   train by Frank-Wolfe and by back-propagation, and compare: $(RUNS)/*/race.png"
	@echo "make test   run the tests"
	@echo "make test-integrations  run those with other libraries, in an environment of its own"
	@echo "make test-oldest  run them with the oldest versions allowed, in an environment of its own"
	@echo "make lint   check style and types"
	@echo "make docs   build the site, running its gallery: docs/_build/html/index.html"
	@echo "make bench  time an inner step beside an optimizer's step"
	@echo "make clean  remove the environment and the results"

# torch by its pin first: a looser request would bring gigabytes of CUDA packages, as its oldest does.
$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"$$(grep '^torch==' $(CONSTRAINTS))"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	touch $@

race: $(READY)
	$(BIN)/lightning-fw race --task adding --methods $(METHODS) --seeds $(SEEDS) \
		--budget $(ADDING_BUDGET) --out $(RUNS)/adding
	$(BIN)/lightning-fw race --task digits --methods $(METHODS) --seeds $(SEEDS) \
		--budget $(DIGITS_BUDGET) --out $(RUNS)/digits

# One thread a worker: two workers with two threads each would wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet -n 2

# Heavy libraries, which nobody needs who does not use them.
test-integrations:
	$(MAKE) VENV=.venv-integrations EXTRAS=all,dev,integrations .venv-integrations/.ready
	OMP_NUM_THREADS=1 .venv-integrations/bin/python -m pytest --quiet -m slow tests/integrations

# Warnings of old packages about older ones are theirs.
test-oldest:
	$(MAKE) VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt .venv-oldest/.ready
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest --quiet -n 2 \
		-W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A warning is an error. One thread: beside other work two are slower by far.
docs: $(READY)
	OMP_NUM_THREADS=1 GALLERY=$(GALLERY) $(BIN)/python -m sphinx --fail-on-warning --quiet docs docs/_build/html

bench: $(READY)
	$(BIN)/lightning-fw bench

clean:
	rm -rf $(VENV) .venv-integrations .venv-oldest $(RUNS) build dist docs/_build docs/gallery
