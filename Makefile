# Everything here is a convenience: the README shows the plain commands too. Needs make and Python 3.11 or newer, nothing else.
PYTHON ?= python3
PORT ?= 8501
TORCH ?= default
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.requirements
TESTS := not gpu and not ray and not network

# On Linux PyPI's torch brings CUDA, 5 GB installed. TORCH=cpu takes PyTorch's small build and leaves CUDA's libraries out.
ifeq ($(TORCH),cpu)
INSTALL := grep -vE '^(cuda|nvidia|triton)' requirements.txt > .venv/requirements-cpu.txt && \
	$(BIN)/python -m uv pip install --python $(BIN)/python --compile-bytecode --torch-backend cpu -r .venv/requirements-cpu.txt
else
INSTALL := $(BIN)/python -m uv pip install --python $(BIN)/python --compile-bytecode -r requirements.txt
endif

.PHONY: help setup app test test-ray study bench lint types docs screenshots

help:
	@echo "make setup   .venv with everything in requirements.txt (PYTHON=python3.12 to choose, TORCH=cpu for the small wheel)"
	@echo "make app     the dashboard on http://localhost:$(PORT) (PORT=... to change)"
	@echo "make test    the tests that need no GPU, network or Ray (ARGS=... goes to pytest)"
	@echo "make test-ray  adds Ray to .venv and runs the tests on a Ray cluster of two nodes on this machine"
	@echo "make study   recompute the embedded study and pack data/results.duckdb"
	@echo "make bench   training and attack throughput beside plain loops, added to bench/RECORDS.md (ARGS=--quick to try)"
	@echo "make lint    ruff and the import contracts"
	@echo "make types   pyright"
	@echo "make docs    write docs/methods.md and docs/schema.md anew"
	@echo "make screenshots  every page in Chromium, light, dark and narrow, into screenshots/"

setup: $(STAMP)

# runs again only when requirements.txt is newer than the last success
$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Lethe needs Python 3.11 or newer; $(PYTHON) is missing or is older ($$($(PYTHON) --version 2>&1))."; \
	  echo "Install one, or name it: make setup PYTHON=/path/to/python3.12"; exit 1; }
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || { \
	  $(PYTHON) -m venv --clear .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; } || { \
	  echo "Could not make .venv with uv in it (Debian and Ubuntu: is the package python3-venv there? Is the network?)."; exit 1; }
	@echo "Installing requirements.txt into .venv; with PyPI's torch for Linux this is about 5 GB (see TORCH=cpu in 'make help')."
	@$(INSTALL)
	@touch $@

app: $(STAMP)
	$(BIN)/python -m streamlit run app.py --server.port $(PORT) --server.showEmailPrompt false

# one thread a process: several workers of several threads each slow one another tenfold
test: $(STAMP)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "$(TESTS)" $(ARGS)

test-ray: $(STAMP)
	$(BIN)/python -m uv pip install --python $(BIN)/python --quiet -r requirements-ray.txt
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -m ray $(ARGS)

study: $(STAMP)
	$(BIN)/python -m engine study run data/studies/embedded.yaml --fresh
	$(BIN)/python -m engine pack

bench: $(STAMP)
	$(BIN)/python -m bench.train --record bench/RECORDS.md $(ARGS)
	$(BIN)/python -m bench.attack --record bench/RECORDS.md $(ARGS)
	$(BIN)/python -m bench.growth --record bench/RECORDS.md $(filter --quick,$(ARGS))

lint: $(STAMP)
	$(BIN)/ruff check .
	PYTHONPATH=. $(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(STAMP)
	$(BIN)/python -m docs.generate

screenshots: $(STAMP)
	$(BIN)/python -m docs.screenshots screenshots $(ARGS)
