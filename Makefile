# Two commands for everybody: `make demo` and `make test`. Both set everything up on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Set-up compiles nothing, so what is imported must be kept compiled: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
# Two workers on two cores: one thread each, or they fight for them.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

# make test-full checks shapes and types at run time, too, wherever users knock; a third of its time. Not in the integer and double-double
# arithmetic, nor in the laws that run on it: millions of calls of a few operations each (mypy reads them strictly all the same).
CHECKED := cli commands conformance coverage demo estimation evaluation files images interop kernels nn \
  sampling study torch training
CHECKED_REFERENCE := analytic ancestral bound ddim decoder divergence forward guidance labels named_schedules objectives \
  oracle plan posterior prediction reverse scaling schedule trajectory
COMMA := ,
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
TYPES := $(subst $(SPACE),$(COMMA),$(strip $(CHECKED:%=ddpm_ref.%) $(CHECKED_REFERENCE:%=ddpm_ref.reference.%) beartype.beartype))

.PHONY: help demo test test-full tests tests-full docs-check lint bench clean

help:
	@echo "make demo       verify the PyTorch mirror against the laws, then train, sample and judge digits (runs/demo)"
	@echo "make test       lint, types, tests: a few minutes"
	@echo "make test-full  everything, the long checks included"
	@echo "make docs-check the pages that browsers show, in a headless Chromium (CHROMIUM=path where it is not found)"
	@echo "make bench      time q_sample and one sampling step against other implementations"

$(READY): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; write: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints-cpu.txt -e '.[test]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/ddpm-ref verify
	$(BIN)/ddpm-ref demo --output runs/demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The type checker runs beside the tests: it has use for one core only.
test: $(READY)
	@$(MAKE) --no-print-directory -j 2 lint tests

test-full: $(READY)
	@$(MAKE) --no-print-directory -j 2 lint tests-full

tests: $(READY)
	$(PYTEST) -m "not full and not browser"

tests-full: $(READY)
	$(PYTEST) -m "not browser" --jaxtyping-packages=$(TYPES)

docs-check: $(READY)
	$(BIN)/python -m pytest -m browser tests/browser

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-cpu.txt -e '.[bench]'
	$(BIN)/python benchmarks/q_sample_and_step.py
	$(BIN)/python benchmarks/sampling.py

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
