# `make demo` and `make test` each do all their set-up on a machine with Python, pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
RUNTIME = cpu  # the onnxruntime wheel: cpu or gpu, which overwrite each other

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

gpu:  ## CUDA tests, ablation and bench, in an environment of their own; without a GPU it says so. DATA=folder of CIFAR-10
	$(MAKE) .venv-gpu/.installed VENV=.venv-gpu RUNTIME=gpu
	.venv-gpu/bin/python benchmarks/gpu.py $(if $(DATA),--data $(DATA))

tables: $(INSTALLED)  ## the two tables of the sources beside ours, from artifacts/
	$(BIN)/python benchmarks/source_tables.py

# torch first: where pip has a CPU build of the pinned version at hand it takes that one
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(strip $(RUNTIME)),recipes,dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) build *.egg-info
