# `make demo` and `make test` each do all their set-up on a machine with Python, pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# nnx sees to it itself; this is for what benchmarks import beside it
export ORT_DISABLE_TELEMETRY = 1
INSTALLED = $(VENV)/.installed
RUNTIME = cpu  # the onnxruntime wheel: cpu or gpu, which overwrite each other

OPENVINO = .venv-openvino
TRITONCLIENT = .venv-tritonclient
SBOM = .venv-sbom
# what benchmarks/ on int8 are asked: DATA=folder of CIFAR-10, QUICK=1 to see that they work
BENCH_OPTIONS = $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

JOBS = 2  # how many tests make check runs at once
HARD_SHARE = 1  # of all that make hard tries; a smaller one is drawn with a seed
SHARE = 1  # the same for make zoo, zoo-timm and zoo-hf

.PHONY: demo test slow sweeps hard hostile-packages zoo zoo-timm zoo-hf distributed export-cost runner-cost registry published big-model check check-pythons readme-install extras format docs commands constraints sbom gpu tables openvino tritonclient triton calibration int8-accuracy int8-speed depthwise ray-search loading harness far-bench serve-load push-cost clean

demo: $(INSTALLED)  ## the main job on real data, in under five minutes
	$(BIN)/nnx run digits

test: $(INSTALLED)  ## every test
	$(BIN)/pytest

slow: $(INSTALLED)  ## the tests that check leaves out: whole runs, real data
	$(BIN)/pytest -m slow

sweeps: $(INSTALLED)  ## the tests that neither takes: processes killed at any moment, faults at each call, 200 cuts
	$(BIN)/pytest -m sweep

hard: $(INSTALLED)  ## hard models, files and faults: right, refused, wrong, broken. CASES=folder of scripts, HARD_SHARE=0.1
	$(BIN)/python -m benchmarks.hard --share $(HARD_SHARE) $(if $(CASES),--cases $(CASES))

hostile-packages: $(INSTALLED)  ## that part of hard alone: 1,000 broken packages through nnx verify. HARD_SHARE=0.1
	$(BIN)/python -m benchmarks.hard --part "hostile packages" --share $(HARD_SHARE)

big-model: $(INSTALLED)  ## memory and seconds of each command on a model of 2.5 GB; an hour, 25 GB of disk. QUICK=1
	$(BIN)/python -m benchmarks.big_model $(if $(QUICK),--quick)

published: $(INSTALLED)  ## published models beside ONNX Runtime's quantizers; hours. PUBLISHED=folder for what is fetched, ONLY=name
	$(BIN)/python -m benchmarks.published $(or $(PUBLISHED),build/published) $(if $(ONLY),--only $(ONLY))

zoo: $(INSTALLED)  ## 24 architectures from the module to int4 and a bench; goes on where it stopped. SHARE=0.1, RAY=auto, ONLY=name
	$(BIN)/python -m benchmarks.zoo --share $(SHARE) $(if $(ONLY),--only "$(ONLY)") $(if $(RAY),--ray $(RAY))

zoo-timm: $(INSTALLED)  ## 150 of timm's models exported and compared; goes on where it stopped. SHARE=0.1, RAY=auto, ALL=1, ONLY=name
	$(BIN)/python -m benchmarks.zoo_timm build/zoo-timm --share $(SHARE) $(if $(ALL),--all) $(if $(ONLY),--only "$(ONLY)") $(if $(RAY),--ray $(RAY))

zoo-hf: $(INSTALLED)  ## transformers types exported and compared, its own exporter beside; goes on where it stopped. SHARE=0.1, RAY=auto, ONLY=name
	$(BIN)/python -m benchmarks.zoo_hf --share $(SHARE) $(if $(ONLY),--only "$(ONLY)") $(if $(ALONE),--alone) $(if $(RAY),--ray $(RAY))

distributed: $(INSTALLED)  ## processes that train together beside one: curve, speed, bytes. DATA=folder of CIFAR-10, QUICK=1
	$(BIN)/python -m benchmarks.distributed $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

push-cost: $(INSTALLED)  ## nnx push of 92 MB over sshd on loopback beside plain scp, in turns; 20 targets at once. QUICK=1
	$(BIN)/python -m benchmarks.push_cost $(if $(QUICK),--quick)

export-cost: $(INSTALLED)  ## time and memory of nnx export beside torch.onnx.export, in turns. QUICK=1
	$(BIN)/python -m benchmarks.export_cost $(if $(QUICK),--quick)

registry: $(INSTALLED)  ## seconds and memory of a package of a gigabyte to a registry here and back, skopeo beside
	$(BIN)/python -m benchmarks.registry

runner-cost: $(INSTALLED)  ## packages' runners beside ONNX Runtime alone. RUNS="artifacts/digits artifacts/sst2", DATA=folder, QUICK=1
	$(BIN)/python -m benchmarks.runner_cost $(RUNS) $(BENCH_OPTIONS)

check: $(INSTALLED)  ## format, lint, types, every test that takes seconds, and the pages; CI runs this and then slow
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -m "not slow and not sweep" -n $(JOBS) --dist worksteal
	$(MAKE) docs

docs: $(INSTALLED)  ## the pages of docs/ into build/docs/; a warning is an error, and nothing is fetched
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

commands: $(INSTALLED)  ## docs/commands.md anew, from what --help says
	$(BIN)/python -m docs.generate_commands

constraints: $(INSTALLED)  ## requirements-hashed.txt anew: what constraints.txt pins, with the hashes of the files
	$(BIN)/python .ci/hash_constraints.py

# in an environment of its own, which the list then does not hold
sbom: $(INSTALLED)  ## what .venv holds, as CycloneDX, into build/sbom.json
	$(PYTHON) -m venv $(SBOM)
	$(SBOM)/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0
	mkdir -p build
	$(SBOM)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
		--of JSON -o build/sbom.json $(BIN)/python

check-pythons: $(INSTALLED)  ## the quick tests on each Python that is claimed and at hand, and on the newest libraries
	$(BIN)/python .ci/check_pythons.py

readme-install: $(INSTALLED)  ## the README's install lines in a fresh environment of each Python that is claimed and at hand
	$(BIN)/python .ci/readme_install.py

extras: $(INSTALLED)  ## each extra in a fresh environment: it works, and is asked for where it is missing. ONLY="ray serve"
	$(BIN)/python .ci/extras.py $(ONLY)

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gpu:  ## CUDA tests, ablation and bench, in an environment of their own; without a GPU it says so. DATA=folder of CIFAR-10
	$(MAKE) .venv-gpu/.installed VENV=.venv-gpu RUNTIME=gpu
	.venv-gpu/bin/python benchmarks/gpu.py $(if $(DATA),--data $(DATA))

tables: $(INSTALLED)  ## the two tables of the sources beside ours, from artifacts/
	$(BIN)/python benchmarks/source_tables.py

calibration: $(INSTALLED)  ## memory and time of calibration beside ONNX Runtime's. DATA=folder of CIFAR-10, QUICK=1
	$(BIN)/python -m benchmarks.calibration $(BENCH_OPTIONS)

int8-accuracy: $(INSTALLED) openvino  ## SQNR and accuracy beside ONNX Runtime and NNCF, on what lies in artifacts/ too
	$(BIN)/python -m benchmarks.int8_accuracy $(BENCH_OPTIONS)

int8-speed: $(INSTALLED) openvino  ## int8 beside PyTorch, ONNX Runtime and OpenVINO with NNCF, in turns; half an hour
	$(BIN)/python -m benchmarks.int8_speed $(BENCH_OPTIONS)

far-bench: $(INSTALLED)  ## do ssh and a slow network change what is measured on the other side? QUICK=1
	$(BIN)/python -m benchmarks.far_bench $(if $(QUICK),--quick)

loading: $(INSTALLED)  ## how fast pictures in files are read, beside torch DataLoader and webdataset. QUICK=1
	$(BIN)/python -m benchmarks.loading $(if $(QUICK),--quick)

harness: $(INSTALLED)  ## does measuring change what is measured? nnx's rows beside plain timing loops. QUICK=1
	$(BIN)/python benchmarks/harness.py $(if $(QUICK),--quick)

serve-load: $(INSTALLED)  ## nnx serve under wrk's load beside bare session.run, 100,000 answers judged, memory. QUICK=1
	$(BIN)/python -m benchmarks.serve_load $(if $(QUICK),--quick)

depthwise: $(INSTALLED)  ## train the net on which min/max int8 fails, for int8-accuracy. DATA=folder of CIFAR-10
	$(BIN)/nnx train benchmarks/depthwise.py:recipe $(if $(DATA),--data $(DATA))

ray-search: $(INSTALLED)  ## the depthwise net's search on Ray beside one process, in turns. DATA=folder of CIFAR-10, QUICK=1
	$(BIN)/python -m benchmarks.ray_search $(BENCH_OPTIONS)

openvino: $(OPENVINO)/.installed  ## an environment of its own for the tools that int8 is compared with

# without PyTorch: NNCF quantizes OpenVINO's and ONNX's graphs without it
$(OPENVINO)/.installed: constraints.txt
	$(PYTHON) -m venv $(OPENVINO)
	$(OPENVINO)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt \
		openvino==2026.4.1 nncf==3.4.0 onnx onnxruntime
	touch $(OPENVINO)/.installed

# asks `nnx serve` in the tests: NNX_TEST_TRITONCLIENT=.venv-tritonclient/bin/python
tritonclient: $(TRITONCLIENT)/.installed  ## an environment of its own for NVIDIA's client, which wants older libraries

$(TRITONCLIENT)/.installed: .ci/tritonclient.txt
	$(PYTHON) -m venv $(TRITONCLIENT)
	$(TRITONCLIENT)/bin/pip install --quiet --disable-pip-version-check -r .ci/tritonclient.txt
	touch $(TRITONCLIENT)/.installed

triton: $(INSTALLED) tritonclient  ## Triton itself (a wheel of 55 MB) on repositories of ours, asked by NVIDIA's client
	$(BIN)/python .ci/in_triton.py $(TRITONCLIENT)/bin/python

# torch first: where pip has a CPU build of the pinned version at hand it takes that one
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(strip $(RUNTIME)),recipes,report,dev,docs]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) $(OPENVINO) $(TRITONCLIENT) $(SBOM) .venv-pythons build *.egg-info
