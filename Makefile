PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
RUN ?= runs/phantom-$(shell date +%Y%m%d-%H%M%S)

.PHONY: help install train test test-packages lint slow fuzz mutants bench-env bench-train bench-gpu test-rllib test-benchmarl test-nnunet docs notebooks lab test-lab clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# torch goes first: what follows is then satisfied by the pinned build and fetches no other.
.venv/installed: constraints.txt pyproject.toml setup.py agents/pyproject.toml agents/setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]" -e ./agents
	touch $@

install: .venv/installed  ## make .venv and install both packages, with pinned dependencies

train: .venv/installed  ## train PA3C, looking closer, on phantoms, evaluate it, leave a run folder in runs/
	$(BIN)/pixelseg train --dataset phantom --out $(RUN)

lint: .venv/installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## lint, types and the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-packages: .venv/installed  ## build both distributions, install them away from the checkout and try them there; a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "slow or not slow" tests/packaging/test_packaging.py

slow: .venv/installed  ## the tests that take minutes each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

COUNT ?= 100000
SEED ?= 0

fuzz: .venv/installed  ## mutated files through every loader and predict, about an hour (COUNT=inputs SEED=which)
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --count $(COUNT) --seed $(SEED) --jobs 2

# The tool is an extra of its own: nothing else needs it.
.venv/mutants: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mutants]"
	touch $@

ONLY ?=
SHARE ?= 1

mutants: .venv/mutants  ## the tests on mutants of what computes, some hours in full (ONLY=metrics SHARE=0.1 SEED=which); out: runs/mutants.md
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants.run --share $(SHARE) --seed $(SEED) --jobs 2 $(if $(ONLY),--only $(ONLY))

bench-env: .venv/installed  ## speed of the environment, a few minutes; the record goes to benchmarks/records/
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.environment --out benchmarks/records/speed/env-cpu.json
	$(BIN)/python -m benchmarks.speed.report benchmarks/records/speed

LGG ?= ../shared/data/lgg_kaggle_3m ../shared/data/lgg_tumour_slices

BF16 ?= $(shell grep -qE 'amx_bf16|avx512_bf16' /proc/cpuinfo && echo --bf16)

bench-train: .venv/installed  ## speed of training and of predict: modes of computing, PA3C's update, memory, workers; an hour or two
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.modes --out benchmarks/records/speed/modes-cpu.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.modes --rounds 15 --sizes 48 --widths 0.25 --no-compiled \
		--out benchmarks/records/speed/updates-cpu.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.port $(BF16) --out benchmarks/records/speed/port.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.scores --out benchmarks/records/speed/scores.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.inference --rounds 9 --out benchmarks/records/speed/inference.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.asynchronous --out benchmarks/records/speed/asynchronous.json --figure examples/images/workers.png

# Looks at full width: 7 to 49 GFLOP an image.
SIDES = 128 181 256
FULL = $(BIN)/python -m benchmarks run --dataset brain --data $(LGG) --device cuda --size 256 --passes 12000 \
	--seeds 0 1 2 --out benchmarks/records/looking-full

bench-gpu: .venv/installed  ## what needs CUDA: speed, memory, and brain at 256x256 and full width (LGG=folders)
	$(BIN)/python -m benchmarks.speed.rate --device cuda --out benchmarks/records/speed/rate-cuda.json
	$(BIN)/python -m benchmarks.speed.training --device cuda --out benchmarks/records/speed/training-cuda.json
	$(BIN)/python -m benchmarks.speed.environment --device cuda --out benchmarks/records/speed/env-cuda.json
	$(BIN)/python -m benchmarks run --dataset brain --data $(LGG) --agents keep-all otsu pa3c ac dueling-dqn unet \
		--device cuda --size 256 --width 1 --out benchmarks/records/grid-256
	$(BIN)/python -m benchmarks report benchmarks/records/grid-256 --data $(LGG) --out benchmarks/report-256
	$(FULL) --horizon 2 --agents pa3c-on-unet ac --settings $(SIDES:%=closer-%-careful-2-heavier-full-bf16) closer-90-careful-2-heavier-full-bf16
	$(FULL) --horizon 1 --agents unet --settings $(SIDES:%=once-%-full-bf16)
	$(BIN)/python -m benchmarks.study.compute benchmarks/records/looking-full --figure benchmarks/report-256/compute-full.png

# RLlib pins an older Gymnasium than the newest, so it and the environment's tests run in an environment of their own.
.venv-rllib/installed: constraints-rllib.txt pyproject.toml setup.py agents/pyproject.toml agents/setup.py
	test -x .venv-rllib/bin/python || $(PYTHON) -m venv .venv-rllib
	.venv-rllib/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-rllib.txt torch
	.venv-rllib/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-rllib.txt -e ".[pettingzoo,sb3]" -e ./agents "ray[rllib]" pytest hypothesis pygame scipy supersuit
	touch $@

GYMNASIUM = test_env test_vector_env test_dynamics rewards test_torch_backend test_additive test_labels views/test_pettingzoo views/test_sb3

test-rllib: .venv-rllib/installed  ## RLlib, Ray, and the environment's tests with Gymnasium 1.2 (a second environment)
	OMP_NUM_THREADS=1 .venv-rllib/bin/python -W ignore -m pytest tests/rllib $(wildcard $(GYMNASIUM:%=tests/env/%) $(GYMNASIUM:%=tests/env/%.py))

# BenchMARL pins an older TorchRL.
.venv-benchmarl/installed: constraints-benchmarl.txt pyproject.toml setup.py agents/pyproject.toml agents/setup.py
	test -x .venv-benchmarl/bin/python || $(PYTHON) -m venv .venv-benchmarl
	.venv-benchmarl/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-benchmarl.txt torch
	.venv-benchmarl/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-benchmarl.txt -e . -e ./agents benchmarl pytest hypothesis
	touch $@

test-benchmarl: .venv-benchmarl/installed  ## BenchMARL trains on the pixels (a third environment)
	OMP_NUM_THREADS=1 .venv-benchmarl/bin/python -W ignore -m pytest tests/benchmarl

# nnU-Net brings some ninety packages that nothing else here needs, so it has an environment of its own, and knows none of ours.
.venv-nnunet/installed: constraints-nnunet.txt
	test -x .venv-nnunet/bin/python || $(PYTHON) -m venv .venv-nnunet
	.venv-nnunet/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-nnunet.txt torch
	.venv-nnunet/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-nnunet.txt nnunetv2
	touch $@

test-nnunet: .venv/installed .venv-nnunet/installed  ## the real nnU-Net, end to end on a few phantoms (an environment of its own)
	NNUNET_PYTHON=.venv-nnunet/bin/python OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/nnunet

# MkDocs and what it brings; both packages' docstrings are read, not imported.
.venv-docs/installed: constraints-docs.txt
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-docs.txt
	touch $@

docs: .venv-docs/installed  ## build the documentation into site/ (open site/index.html); a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --clean

NAMES ?=

notebooks: .venv/installed  ## execute docs/notebooks at full size and write them with their outputs, some minutes (NAMES=those alone)
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python -m tests.helpers.notebooks $(NAMES)

# Gradio pins an older Pillow. The browser is the system's (apt-get install chromium); axe-core looks at contrast, where
# npm can fetch it.
.venv-lab/installed: constraints-lab.txt pyproject.toml setup.py agents/pyproject.toml agents/setup.py
	test -x .venv-lab/bin/python || $(PYTHON) -m venv .venv-lab
	.venv-lab/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lab.txt torch
	.venv-lab/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lab.txt -e . -e "./agents[lab]" pytest hypothesis playwright
	-npm install --silent --no-audit --no-fund --prefix .venv-lab axe-core@4
	touch $@

lab: .venv-lab/installed  ## serve the reward lab on this machine (a fourth environment)
	.venv-lab/bin/pixelseg lab

test-lab: .venv-lab/installed  ## the reward lab in headless Chromium
	OMP_NUM_THREADS=1 AXE=.venv-lab/node_modules/axe-core/axe.min.js .venv-lab/bin/python -m pytest tests/lab

clean:  ## remove the virtual environment and caches (not runs/)
	rm -rf .venv .venv-rllib .venv-benchmarl .venv-nnunet .venv-docs .venv-lab site .pytest_cache .mypy_cache .ruff_cache .hypothesis
