# `make demo` aligns and voxelizes the bundled log; `make test` runs the tests, `make bench`
# times the ops and `make profile` looks into their kernels. All make .venv when it is missing.
# A fresh machine needs Python 3.10 or newer with its venv module, and g++ for one lane of the tests.
# Where there is an NVIDIA GPU, demo installs the CuPy that suits its driver.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench profile clean

demo: $(VENV)/.demo
	$(BIN)/robocache align -o aligned.npz --plot aligned.png
	$(BIN)/robocache voxelize --voxel 0.02 --bounds -0.6 -0.6 0.7 0.6 0.6 1.3 \
		-o voxels.npz --plot voxels.png

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# ARGS="resample --quick --save run.json", and so on.
bench: $(VENV)/.test
	$(BIN)/robocache bench $(ARGS)

profile: $(VENV)/.test
	$(BIN)/python -m robocache_cupy.bench.profile $(ARGS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	extra=$$($(BIN)/python -I robocache_cupy/cuda_extra.py) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[logs,viz$${extra:+,$$extra}]"
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) aligned.npz aligned.png voxels.npz voxels.png
