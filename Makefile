# make demo   the whole job on rendered scenes, six to seven minutes on two cores; ARGS=--full adds other methods: ten
# make test   the tests, ruff and mypy
# Both set up everything themselves in $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
PAGES := $(VENV)/.docs-installed
OUT ?= runs/demo
# Waiting OpenMP threads sleep, after some microseconds, instead of spinning: see main() in pipeline/cli.py.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 2000

# What Detectron2 imports, for its tests on a source folder.
DETECTRON2_NEEDS := fvcore iopath omegaconf hydra-core yacs cloudpickle tabulate termcolor matplotlib

.PHONY: demo test test-slow test-scale test-detectron2 fuzz lint docs tiny-sam bench-select bench-bags bench-seg bench-memory clean

demo: $(RUNTIME)
	$(BIN)/sapnet-pipe demo --out $(OUT) $(ARGS)

# One thread each: the tests are many small runs, and so they give the same bits on every machine.
test test-slow test-scale test-detectron2 fuzz: export OMP_NUM_THREADS = 1

test: lint
	$(BIN)/python -m pytest -m "not slow" tests/data tests/pipeline tests/test_*.py $(ARGS)
	$(BIN)/python -m pytest -m "not slow" tests/stages $(ARGS)

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow $(ARGS)

# Ray with workers that are killed, and a store on an S3-compatible server; installs some 120 MB, takes five minutes.
test-scale: $(DEV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev,test-scale]"
	$(BIN)/python -m pytest -rs tests/data/bag_store/test_bag_remote.py tests/stages/bags/test_bags_on_ray.py $(ARGS)

# make test-detectron2 DETECTRON2=/path/to/detectron2   where the folder holds its setup.py; nothing of it is built
test-detectron2: $(DEV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt $(DETECTRON2_NEEDS)
	PYTHONPATH="$(DETECTRON2)" $(BIN)/python -m pytest -rs tests/stages/segment/detectron2 $(ARGS) || [ $$? -eq 5 ]  # all skipped

# Mutated files for every reader, 100,000 in some ten minutes on one core; ARGS="--inputs N --seed S --reader NAME".
fuzz: $(DEV)
	$(BIN)/python -m tests.fuzz $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages of docs/, into build/docs/index.html; a dead link or anchor is an error.
docs: $(PAGES)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

# How fast the selector is; the last line is JSON.
bench-select: $(DEV)
	$(BIN)/python -m tests.benchmarks.bench_select $(ARGS)

# IMAGES is a folder of photographs; without one, rendered scenes. About nine minutes on two cores.
bench-bags: $(DEV)
	$(BIN)/python -m tests.benchmarks.bench_bags $(if $(IMAGES),--images $(IMAGES)) $(ARGS)

# Stage three beside a plain implementation of the same rules; the last line is JSON, above 1 is faster than plain.
bench-seg: $(DEV)
	$(BIN)/python -m tests.benchmarks.bench_seg $(ARGS)

# Memory of stage one over 20,000 rendered images: an hour on two cores.
bench-memory: $(DEV)
	$(BIN)/python -m tests.benchmarks.memory_flat $(ARGS)

tiny-sam: $(DEV)
	$(BIN)/python -m sapnet_pipe.stages.bags.tiny_sam.train --out stages/bags/tiny_sam/tiny_sam.pt $(ARGS)

$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(DEV): $(RUNTIME)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	touch $@

$(PAGES): $(RUNTIME)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
