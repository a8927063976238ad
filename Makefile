# `make demo` and `make test` each do all their set-up on a machine with Python, pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: demo test check format gpu tables clean

demo: $(INSTALLED)  ## the main job on real data, in under five minutes
	$(BIN)/nnx run digits

test: $(INSTALLED)
	$(BIN)/pytest

check: $(INSTALLED)  ## what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gpu: $(INSTALLED)  ## CUDA tests, ablation and bench; skips with the reason where there is no GPU. DATA=folder of CIFAR-10
	$(BIN)/python benchmarks/gpu.py $(if $(DATA),--data $(DATA))

tables: $(INSTALLED)  ## the two tables of the sources beside ours, from artifacts/
	$(BIN)/python benchmarks/source_tables.py

# torch first: pulled in by another package it would come in its newest build, with gigabytes of CUDA
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,recipes,dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) build *.egg-info
